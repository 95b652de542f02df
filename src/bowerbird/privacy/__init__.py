"""Privacy: a person erased from all that a run and its server keep, models included, with a certificate."""
