"""The contract of a model as a test suite, for models of this house and of any other.

    from bowerbird.testing import check_model
    check_model(MyModel)

Each check is a function whose docstring is a promise; `checks()` lists them. They need no test framework.
"""

from bowerbird.testing import learning, registered, resuming, rows, scoring, serving  # noqa: F401  fill the table
from bowerbird.testing.halves import halves, halves_as_rows
from bowerbird.testing.subject import Check, ContractError, Subject, check_model, checks

__all__ = ["Check", "ContractError", "Subject", "check_model", "checks", "halves", "halves_as_rows"]
