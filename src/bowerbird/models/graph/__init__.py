"""Models on the user-item graph."""
