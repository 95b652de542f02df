"""Approximate top-k by inner product: every item's code is read, half a byte a number, and the best are scored exactly.

No graph and no clusters of items are followed, so that how good an answer is hardly depends on how the vectors lie or
on what a filter lets through, and building takes seconds. Reading all codes stays linear in the number of items, at an
eighth of the bytes of the vectors. Needs the extra `ann`.

Shapes: B requests, I items, S items that may be scored, D vector size, n places.
"""

import math
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import BundleError, MissingExtraError, ScoreError

# Items. Milliseconds of one core for the best 400 by vectors of 64 numbers, exact and approximate: 30,000 items 0.38
# and 0.35, 50,000 0.7 and 0.5, 100,000 1.1 to 1.7 and 0.6; exact search waits for memory, the more so beside others.
EXACT_BELOW = 50_000
BITS = 4  # of a number's code: its 16 values fit into a register, where processors look up 32 codes at once
TRAINING = 65_536  # vectors from which the values of the codes are learnt
BLOCK = 64  # requests whose candidates are gathered at once: 13 MB for 100 places of 64 numbers
MOST = 0.1  # share of all items from which multiplying by all vectors is faster than gathering some of them first


def choose(n_items: int) -> Literal["exact", "approximate"]:
    """Return which search answers one request sooner among so many items."""
    return "exact" if n_items < EXACT_BELOW else "approximate"


class Approximate:
    """The best items of a query by inner product, nearly always, with exact scores. Made by `of` or `of_tensors`.

    It shares the item vectors with whoever made it: when they change, make a new index.
    """

    def __init__(self, vectors: Tensor, rows: Tensor, codebook: Tensor, codes: Tensor) -> None:
        self.vectors, self.rows, self.codebook, self.codes = vectors.detach(), rows, codebook, codes
        quantiser = _quantiser(vectors.shape[1])
        _faiss().copy_array_to_vector(codebook.numpy().ravel(), quantiser.pq.centroids)
        quantiser.is_trained = True
        quantiser.add_sa_codes(codes.numpy())
        self._rows, self._scored = rows.numpy(), np.zeros(len(vectors), bool)
        self._scored[self._rows] = True
        self._scanner = _faiss().IndexPQFastScan(quantiser)

    @classmethod
    def of(cls, vectors: Tensor, *, shaped: Tensor | None = None) -> Self:
        """Return an index of item vectors, float32 (I, D), without the items that `shaped`, bool (I,), leaves out.

        The same vectors give the same index. Raises `MissingExtraError` without the extra, `ScoreError` where a number
        of a vector is not finite.
        """
        rows = torch.arange(len(vectors)) if shaped is None else shaped.nonzero()[:, 0]
        known = vectors.detach()[rows]
        wrong = rows[~known.isfinite().all(dim=1)]
        if len(wrong):
            raise ScoreError(f"the vector of item row {int(wrong[0])} is not finite. Train the model again.")
        quantiser = _quantiser(vectors.shape[1])
        if len(rows):
            quantiser.train(known[torch.linspace(0, len(rows) - 1, TRAINING).long()].numpy())
            quantiser.add(known.numpy())
        codebook = torch.from_numpy(_faiss().vector_to_array(quantiser.pq.centroids))
        codes = torch.from_numpy(_faiss().vector_to_array(quantiser.codes))
        return cls(vectors, rows, codebook.view(-1, 2**BITS), codes.view(len(rows), quantiser.code_size))

    def tensors(self) -> dict[str, Tensor]:
        """Return what a bundle keeps beside the vectors: rows int32 (S,), codebook (D, 16), codes uint8 (S, ⌈D/2⌉)."""
        return {"rows": self.rows.int(), "codebook": self.codebook, "codes": self.codes}

    @classmethod
    def of_tensors(cls, vectors: Tensor, tensors: dict[str, Tensor]) -> Self:
        """Return the index that gave these `tensors`, over the vectors (I, D) it was made of.

        Raises `BundleError` where the shapes do not fit, `MissingExtraError` without the extra.
        """
        rows, codebook, codes = (tensors[name] for name in ("rows", "codebook", "codes"))
        dim = vectors.shape[1]
        if codebook.shape != (dim, 2**BITS) or codes.shape != (len(rows), (dim + 1) // 2):
            raise BundleError(f"the index of items does not fit their {dim} numbers a vector. Train the model again.")
        return cls(vectors, rows.long(), codebook, codes)

    def search(self, query: Tensor, n: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the n best scores float32 (B, n) and their rows int64 (B, n), best first, for queries (B, D).

        With `allowed`, bool (I,), only items of those rows come. n of n come wherever there are so many; past the last
        the score is minus infinity and the row −1. Equal scores come in no particular order. Raises `ScoreError`
        for a query that is not finite.

        A filter that lets a share p through makes 1 / p times as many codes worth following up. Where that would be
        more codes than items let through, those items are scored exactly instead, about below 9 % of 100,000 items and
        3 % of a million; so is a request whose best items are hardly ever among them.
        """
        asked = query.detach().numpy()
        if not np.isfinite(asked).all():
            raise ScoreError("the vector of a request is not finite. Train the model again.")
        passing = self._scored if allowed is None else self._scored & allowed.numpy()
        n_passing = int(np.count_nonzero(passing))
        pool = 2 * n + 600  # candidates scored exactly: what finds 98 of the best 100 among a million
        depth = math.ceil(pool * len(self.rows) / max(n_passing, 1))
        if n_passing <= depth:
            return self._exact(query, passing, n)
        blocks = range(0, len(asked), BLOCK)
        parts = [self._near(asked[start : start + BLOCK], passing, depth, pool, n) for start in blocks]
        scores, found, passed = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
        short = passed < pool // 2
        if bool(short.any()):
            scores[short], found[short] = self._exact(query[short], passing, n)
        return scores, found

    def _near(
        self, query: np.ndarray, passing: np.ndarray, depth: int, pool: int, n: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the n best of the `pool` best codes that pass among the `depth` best, and how many did.

        A request takes half a millisecond, so that calls count: NumPy's cost a fifth of torch's.
        """
        rough, place = self._scanner.search(query, depth)
        rows = self._rows.take(place)
        passed = passing.take(rows)
        if depth > pool:
            best = torch.from_numpy(np.where(passed, rough, -np.inf)).topk(pool, dim=1, sorted=False).indices.numpy()
            rows, passed = np.take_along_axis(rows, best, 1), np.take_along_axis(passed, best, 1)
        near, found = self.vectors.index_select(0, torch.from_numpy(rows.ravel())), torch.from_numpy(rows)
        scores = torch.bmm(near.view(*rows.shape, -1), torch.from_numpy(query)[:, :, None])[:, :, 0]
        passes = torch.from_numpy(passed)
        if not passed.all():
            scores.masked_fill_(~passes, -math.inf)
        values, order = scores.topk(n, dim=1)
        return values, found.gather(1, order), passes.sum(dim=1)

    def _exact(self, query: Tensor, passing: np.ndarray, n: int) -> tuple[Tensor, Tensor]:
        """Return the n best of the items of `passing`, bool (I,), each of them scored."""
        rows = torch.from_numpy(np.flatnonzero(passing))
        if len(rows) > MOST * len(self.vectors):
            scores = (self.vectors @ query.T)[rows].T
        else:
            scores = (self.vectors[rows] @ query.T).T
        some = min(n, len(rows))
        best, place = scores.topk(some, dim=1)
        values, found = best.new_full((len(query), n), -math.inf), place.new_full((len(query), n), -1)
        values[:, :some], found[:, :some] = best, rows[place]
        return values, found


def _quantiser(dim: int) -> Any:
    """Return an empty index that codes each of `dim` numbers by itself."""
    faiss = _faiss()
    return faiss.IndexPQ(dim, dim, BITS, faiss.METRIC_INNER_PRODUCT)


def _faiss() -> Any:
    """Return faiss, loaded after torch so that both use torch's OpenMP threads."""
    try:
        import faiss
    except ImportError:
        raise MissingExtraError(
            'approximate search needs faiss. Install it with: pip install "bowerbird[ann]"'
        ) from None
    return faiss
