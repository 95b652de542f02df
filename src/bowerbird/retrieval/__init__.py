"""Finding the best items: exact top-k in blocks, and an approximate index."""

from bowerbird.retrieval.approximate import Approximate, choose
from bowerbird.retrieval.topk import block_size, hide_seen, top_k

__all__ = ["Approximate", "block_size", "choose", "hide_seen", "top_k"]
