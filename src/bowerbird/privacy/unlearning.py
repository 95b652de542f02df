"""Unlearning: a recommender as if some people had never been there.

EASE in closed form: a person is one row x of the matrix behind the Gram matrix G, and without them its inverse is, by
Sherman and Morrison (1950),

    (G + λI − xxᵀ)⁻¹ = P + P x xᵀ P / (1 − xᵀ P x),   P = (G + λI)⁻¹

P is not kept, but the weights are P with its columns scaled by their diagonal, and the diagonal follows from what P
times G + λI has to be. One person costs O(I²) instead of the O(I³) of an inverse. The result is checked against the
equation that it has to solve; where rounding has grown too large, the model is fitted again.

MF in shards: the shard that held the person is trained again (`privacy.shards`). Everything else is fitted again from
the beginning on what is left, which is exact by definition.

Shapes: U users, I items, E events.
"""

import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from bowerbird.core import DataError, RequestError, numpy_stream
from bowerbird.core.ids import Ids
from bowerbird.data import Interactions
from bowerbird.models.baselines.ease import EASE
from bowerbird.nn.graph import pair_matrix
from bowerbird.privacy.shards import retrained
from bowerbird.recommender import Recommender

WRONG = 1e-4  # by how much the new inverse may miss, of 1, before the model is fitted again
PROBES = 8  # directions in which it is checked
BLOCK = 8_000_000  # numbers held at once


@dataclass(frozen=True, eq=False)
class Unlearned:
    """A recommender without some people, and how it came about."""

    recommender: Recommender
    method: str  # "closed form", "shards" or "refit"
    detail: str
    exact: bool  # whether it is, up to rounding, what training without them would have made
    seconds: float
    items_gone: list[str]  # that only these people had, and nothing describes


def unlearn(rec: Recommender, names: Collection[str], *, keep: Collection[str] = (), refit: bool = False) -> Unlearned:
    """Return `rec` without the users of these names; `rec` itself stays as it is.

    Items that nobody else has and that no item table describes leave with them, unless `keep` names them. With
    `refit`, the model is trained again whatever it is. Raises `RequestError` for a model that cannot be trained again
    from what a run keeps, and `DataError` where nobody is left.
    """
    started = time.perf_counter()
    left, items = without(rec.past, names, keep)
    if not len(left.positives):
        raise DataError("nobody else is left to learn from. Take the whole run directory away instead.")
    known = rec.item_ids.values.cast(pl.String)
    gone = [] if len(items) == len(known) else np.delete(known.to_numpy(), items).tolist()
    found, method, detail = None, "refit", "trained again from the beginning on what is left"
    exact = True
    if not refit and isinstance(rec.model, EASE) and rec.source is None:
        rows = np.flatnonzero(rec.user_ids.values.cast(pl.String).is_in(list(names)).to_numpy())
        weights, wrong = reversed_weights(rec.model, rec.past, rows)
        if wrong <= WRONG:
            found = _like(rec, left)
            found.model.weights = weights[torch.from_numpy(items)][:, torch.from_numpy(items)].contiguous()
            method, detail = "closed form", f"the inverse of the Gram matrix without them; it misses 1 by {wrong:.1g}"
        else:
            detail += f": reversed in closed form it would miss 1 by {wrong:.1g}"
    elif not refit and rec.shards is not None:
        found, which = retrained(rec, left, items, names)
        n = rec.shards["n"]
        method, detail = "shards", f"{len(which)} of {n} shards trained again: {', '.join(map(str, which))}"
    if found is None:
        found = _refitted(rec, left)
    found.measured, found.training = rec.measured, found.training or rec.training
    found.parent, found.log_offset = rec.version or rec.parent, rec.log_offset
    return Unlearned(found, method, detail, exact, time.perf_counter() - started, gone)


def without(past: Interactions, names: Collection[str], keep: Collection[str] = ()) -> tuple[Interactions, np.ndarray]:
    """Return a past without some users, and the rows of the items that stay in it, in their order.

    All that is left keeps its order.
    """
    gone = past.user_ids.values.cast(pl.String).is_in(list(names)).to_numpy()
    left = past.rows(~gone[past.user])
    had = np.bincount(past.item[gone[past.user]], minlength=past.n_items) > 0
    lonely = had & (np.bincount(left.item, minlength=past.n_items) == 0)
    if past.items is not None and past.items.width:
        described = ~np.all([column.is_null().to_numpy() for column in past.items], axis=0)
        lonely &= ~described
    if keep:
        lonely &= ~past.item_ids.values.cast(pl.String).is_in(list(keep)).to_numpy()
    users, items = np.flatnonzero(~gone), np.flatnonzero(~lonely)
    orders = np.concatenate([users, np.flatnonzero(gone)]), np.concatenate([items, np.flatnonzero(lonely)])
    return left.reorder_ids(*orders).head_ids(len(users), len(items)), items


def silenced(rec: Recommender, names: Collection[str]) -> Recommender:
    """Return `rec` with some users nameless and without a past: what answers until a model without them is there.

    What the model learnt of them stays in it; whoever asks by these names is a stranger.
    """
    gone = rec.user_ids.values.cast(pl.String).is_in(list(names))
    if not gone.any():
        return rec
    taken = set(rec.user_ids.values.to_list())
    rows = np.flatnonzero(gone.to_numpy()).tolist()
    if rec.user_ids.is_integer:
        free: list[Any] = list(islice((one for one in count(-(2**63) + 1) if one not in taken), len(rows)))
    else:
        free = [secrets.token_hex(16) for _ in rows]
    ids = rec.user_ids.values.clone().scatter(rows, free)  # which writes into what it is asked of
    other = rec.over(replace(rec.past.rows(~gone.to_numpy()[rec.past.user]), user_ids=Ids(ids)))
    if rec.source is not None:
        other.source = silenced(rec.source, names)
    return other


def reversed_weights(model: EASE, past: Interactions, users: np.ndarray) -> tuple[Tensor, float]:
    """Return EASE's weights (I, I) without some users, and by how much they miss what they have to be.

    `past` is what the model was fitted to. The second is the largest entry, in some random directions z, of
    (G + λI) P z − z, G being that of the others.
    """
    matrix, l2 = pair_matrix(past).astype(np.float64), model.config.l2
    weights = model.weights.cpu().clone()
    diagonal = 1 / (_gram_diagonal(matrix) + l2 - _product_diagonal(matrix, weights))  # of P, float64 (I,)
    for user in users:
        mine = matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]
        if not len(mine):
            continue
        columns = -weights[:, torch.from_numpy(mine)].double().numpy() * diagonal[mine]  # of P: (I, n)
        columns[mine, np.arange(len(mine))] = diagonal[mine]
        moved = columns.sum(axis=1)  # P x
        share = 1 / (1 - moved[mine].sum())
        after = diagonal + share * moved**2
        weights *= torch.from_numpy((diagonal / after).astype(np.float32))
        weights.addr_(*(torch.from_numpy(one.astype(np.float32)) for one in (moved, share * moved / after)), alpha=-1)
        weights.fill_diagonal_(0.0)
        diagonal = after
    others = matrix.copy()
    for user in users:
        others.data[others.indptr[user] : others.indptr[user + 1]] = 0
    probe = numpy_stream(0, "probe").choice([-1.0, 1.0], (len(diagonal), PROBES))
    scaled = diagonal[:, None] * probe
    size = max(1, BLOCK // len(weights))
    parts = (weights[start : start + size].double().numpy() for start in range(0, len(weights), size))
    solved = scaled - np.concatenate([part @ scaled for part in parts])  # P z
    wrong = np.abs(others.T @ (others @ solved) + l2 * solved - probe).max()
    return weights.to(model.weights.device), float(wrong)


def _gram_diagonal(matrix: csr_matrix) -> np.ndarray:
    return np.asarray(matrix.sum(axis=0)).ravel()


def _product_diagonal(matrix: csr_matrix, weights: Tensor) -> np.ndarray:
    """Return the diagonal of XᵀX B (I,) for a matrix of ones X (U, I): of X ∘ XB the sums of columns, by blocks."""
    found, size = np.zeros(matrix.shape[1]), max(1, BLOCK // matrix.shape[1])
    for start in range(0, matrix.shape[0], size):
        block = matrix[start : start + size]
        product = block.astype(np.float32) @ weights.numpy()
        found += np.asarray(block.multiply(product).sum(axis=0)).ravel()
    return found


def _like(rec: Recommender, past: Interactions) -> Recommender:
    """Return a recommender of `past` as `rec` is, whose model is not fitted yet."""
    fresh = Recommender(
        rec.config, past, run=rec.run, schema=replace(rec.schema, n_users=past.n_users, n_items=past.n_items),
        policy=rec.pipeline.policy, world=rec.pipeline.world,
    )  # fmt: skip
    fresh.popularity.fit(past, numpy_stream(rec.run.seed, "popularity"))
    fresh.popularity.to(fresh.device)
    return fresh


def _refitted(rec: Recommender, past: Interactions) -> Recommender:
    """Return `rec` trained on another past; raises `RequestError` where a run does not keep all that this takes."""
    missing = [
        what
        for what, known, there in (
            ("what people tell of themselves", rec.schema.user_content, past.user_content),
            ("relations", rec.schema.relations, past.relations),
        )
        if known and not there
    ]
    if missing:
        raise RequestError(
            f"{rec.name} learns from {missing[0]}, which a run does not keep. Train it again from a table without the "
            "person (bowerbird train … --out RUN), and then erase."
        )
    return rec.refit(past)
