"""Finding the best items: exact top-k in blocks."""

from bowerbird.retrieval.topk import hide_seen, top_k

__all__ = ["hide_seen", "top_k"]
