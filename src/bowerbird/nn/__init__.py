"""Blocks and losses that models share."""
