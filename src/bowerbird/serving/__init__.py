"""The HTTP API: a thin door onto the recommender."""
