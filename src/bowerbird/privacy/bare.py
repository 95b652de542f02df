"""Recommenders that know nobody: what a server may hold where people keep to themselves what they did."""

import numpy as np
import torch

from bowerbird.core import ModelConfig, RunOptions
from bowerbird.data import Interactions
from bowerbird.recommender import Recommender


def knowing_nobody(config: ModelConfig, past: Interactions, run: RunOptions) -> Recommender:
    """Return an untrained recommender of the same items, without a person and without an event."""
    nobody = past.rows(np.zeros(len(past), bool)).head_ids(0, past.n_items)
    return Recommender(config, nobody, run=run)


def without_people(rec: Recommender) -> Recommender:
    """Return the item side of a recommender as one that knows nobody and counts nothing; people bring their histories.

    What is expected of a stranger is nothing in particular, since the mean of people's vectors is theirs too.
    """
    bare = knowing_nobody(rec.config, rec.past, rec.run)
    mine = bare.model.state_dict()
    theirs = {name: one for name, one in rec.model.state_dict().items() if name.split(".")[0] not in ("user", "users")}
    kept = {name: one for name, one in theirs.items() if name in mine and one.shape == mine[name].shape}
    bare.model.load_state_dict(mine | kept | {"average": torch.zeros_like(mine["average"])})
    return bare
