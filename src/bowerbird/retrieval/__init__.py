"""Finding the best items: exact top-k in blocks."""

from bowerbird.retrieval.topk import block_size, hide_seen, top_k

__all__ = ["block_size", "hide_seen", "top_k"]
