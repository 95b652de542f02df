"""Rankers: rows of encoded columns → logits."""
