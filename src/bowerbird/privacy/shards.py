"""Shards: one model made of several, each trained on some of the people, so that one of them can be trained again.

Paper:  Chen et al., RecEraser, WWW 2022, arXiv:2201.06820: users are split, each part trains a model of its own, and
        the scores of all of them are put together.
Differs: users are split by a keyed hash of their ids, not by likeness, so that one who leaves moves nobody else; the
        scores are a mean, not an attention, which would have to be trained on everybody; and a model that was not
        trained on a person answers from the history, as it answers strangers.

The mean of dot products is the dot product of longer vectors: n models of D numbers are kept, served and loaded as one
`mf` of n · D numbers, whose block s is the model of shard s. A person's own block was trained; the others are ridge
regressions on what they did.

Shapes: U users, I items, n shards, D numbers of one model.
"""

import secrets
from collections.abc import Collection
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bowerbird.core import ConfigError, RunOptions, check, numpy_stream
from bowerbird.core.ids import Ids
from bowerbird.core.random import derive
from bowerbird.data import Interactions
from bowerbird.features import Context
from bowerbird.models.baselines.mf import MF, STRANGER_L2, MFConfig
from bowerbird.nn.vectors import ridge
from bowerbird.recommender import Recommender

PEOPLE = 4_096  # whose vectors are found at once


def fit_shards(
    events: Interactions, config: MFConfig, *, shards: int = 8, run: RunOptions | None = None, key: str | None = None
) -> Recommender:
    """Return one recommender of so many models, each trained on its people for all the epochs of `config`.

    `key` decides who belongs to which; it is drawn where none is given, and kept in the bundle.
    """
    check(shards >= 2, "shards", shards, "must be 2 or more", try_instead=8)
    if config.start:
        raise ConfigError("a model that starts from content has no shards. Leave start out.")
    return _joined(events, config, {"n": shards, "key": key or secrets.token_hex(16)}, run or RunOptions())


def retrained(
    rec: Recommender, past: Interactions, items: np.ndarray, names: Collection[str]
) -> tuple[Recommender, list[int]]:
    """Return `rec` over a past without some users, and which shards were trained again for it: those that held them.

    `items` are the rows of the items that are left. Equal to `fit_shards` on that past where no item left.
    """
    assert rec.shards is not None
    held = shard_of(rec.user_ids, rec.shards)[rec.user_ids.values.cast(pl.String).is_in(list(names)).to_numpy()]
    which = sorted({int(one) for one in held})
    assert isinstance(rec.config, MFConfig)
    config = replace(rec.config, dim=rec.config.dim // rec.shards["n"])
    left = ~rec.user_ids.values.cast(pl.String).is_in(list(names)).to_numpy()
    return _joined(past, config, rec.shards, rec.run, old=(rec.model, left, items), which=which), which


def shard_of(user_ids: Ids, shards: dict[str, Any]) -> np.ndarray:
    """Return the shard of each user, int64 (U,), which depends on the id and the key alone."""
    key, n = str(shards["key"]).encode(), int(shards["n"])
    digests = (blake2b(str(one).encode(), digest_size=8, key=key).digest() for one in user_ids.values.to_list())
    return np.fromiter((int.from_bytes(one, "big") % n for one in digests), np.int64, len(user_ids))


def _joined(
    past: Interactions,
    config: MFConfig,
    shards: dict[str, Any],
    run: RunOptions,
    *,
    old: tuple[MF, np.ndarray, np.ndarray] | None = None,
    which: Collection[int] | None = None,
) -> Recommender:
    """Return the models of all shards as one; those that `which` does not name are taken from an old one.

    `old` is a model, and the users (bool, its own) and items (rows, its own) that are left.
    """
    n, dim = int(shards["n"]), config.dim
    whole = Recommender(replace(config, dim=n * dim), past, run=run)
    model: MF = whole.model
    mine = torch.from_numpy(shard_of(past.user_ids, shards))
    for shard in range(n):
        block = slice(shard * dim, (shard + 1) * dim)
        if old is None or (which is not None and shard in which):
            user, item, average = _trained(past, config, run, shard, (mine == shard).numpy(), whole)
            user = _folded(past, user, item, average, config, mine == shard, whole)
        else:
            before, users, items = old
            kept = torch.from_numpy(np.flatnonzero(users)), torch.from_numpy(items)
            user, item = before.user.detach()[kept[0], block], before.items[kept[1], block]
            average = before.average[block]
        with torch.no_grad():
            model.user[:, block], model.item[:, block] = user, item
        model.average[block] = average
    model.items = model.item.detach().clone()
    model.note_shaped(past)
    whole.popularity.fit(past, numpy_stream(run.seed, "popularity"))
    whole.popularity.to(whole.device)
    whole.shards = dict(shards)
    return whole


def _trained(
    past: Interactions, config: MFConfig, run: RunOptions, shard: int, mine: np.ndarray, whole: Recommender
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the vectors of one shard's users (U, D), zeros for others, of items (I, D), and the average user (D,).

    An item that nobody of the shard chose has zeros: it takes no part in the mean.
    """
    order = np.concatenate([np.flatnonzero(mine), np.flatnonzero(~mine)])
    part = past.rows(mine[past.user]).reorder_ids(order, np.arange(past.n_items))
    part = part.head_ids(int(mine.sum()), past.n_items)
    user, item = torch.zeros(past.n_users, config.dim), torch.zeros(past.n_items, config.dim)
    if not len(part.positives):
        return user, item, torch.zeros(config.dim)
    one = Recommender(config, part, run=replace(run, seed=derive(run.seed, "shard", shard) % 2**31, checkpoint=""))
    one.learn(epochs=config.epochs)
    if one.training is not None and one.training.interrupted:
        raise KeyboardInterrupt
    model: MF = one.model
    shaped = model.shaped_user[:, None].float()
    user[torch.from_numpy(order[: len(shaped)])] = (config.scaled(model.user.detach()) * shaped).to("cpu")
    item = (model.items * model.shaped_item[:, None]).to("cpu")
    return user.to(whole.device), item.to(whole.device), model.average.to(whole.device)


@torch.no_grad()
def _folded(
    past: Interactions,
    user: Tensor,
    item: Tensor,
    average: Tensor,
    config: MFConfig,
    mine: Tensor,
    whole: Recommender,
) -> Tensor:
    """Return user vectors (U, D) with those of other shards' people found in their histories."""
    found, others = user.clone(), np.flatnonzero(~mine.numpy()).astype(np.int32)
    if not bool(item.any()):
        return found
    for start in range(0, len(others), PEOPLE):
        rows = others[start : start + PEOPLE]
        history = Context.of_users(rows, past).to(whole.device).history
        vectors = ridge(history, item, average, STRANGER_L2)
        found[torch.from_numpy(rows).long()] = config.scaled(vectors)
    return found
