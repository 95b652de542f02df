"""Policies that try things out, what they learn from what comes of it, and a world to try them in."""
