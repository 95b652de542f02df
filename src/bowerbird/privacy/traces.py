"""Traces: does a model tell that a person's history took part in its training? A membership attack on recommenders.

The attacker holds a history and may ask the model, as a stranger who posts items; ids and rows are of no use. The mark
of a history is how well the model foretells each of its items from the others (from those before it where order
counts), in standard deviations of the scores of items outside the history. It is taken relative to a model of the same
kind that has learnt neither those who are asked about nor those they are compared with, as in Watson et al., ICLR 2022,
arXiv:2111.08440: what any model foretells easily tells nothing. An AUC of 1/2 is a coin; its interval is a bootstrap
over people.

Shapes: N histories, B requests, I items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bowerbird.core import entry_of, numpy_stream
from bowerbird.evaluation.binary import auc
from bowerbird.features import Context
from bowerbird.recommender import Recommender

ITEMS = 20  # of a history that are foretold: more cost time and add little
BLOCK = 4_000_000  # scores held at once
DRAWS = 1_000  # of the bootstrap
TINY = 1e-9


@dataclass(frozen=True)
class Traces:
    """How well people who took part are told from people who did not."""

    auc: float
    low: float  # of the 95 % interval
    high: float
    n_in: int
    n_out: int


def attack(
    rec: Recommender,
    inside: Sequence[np.ndarray],
    outside: Sequence[np.ndarray],
    *,
    reference: Recommender | None = None,
    seed: int = 0,
) -> Traces:
    """Return how well histories that are said to have been learnt are told from others; items are rows of `rec`.

    `reference` is a model over the same items that has learnt none of them.
    """
    signals = [marks(rec, part, reference=reference, seed=seed) for part in (inside, outside)]
    return told_apart(*signals, seed=seed)


def marks(
    rec: Recommender,
    histories: Sequence[np.ndarray],
    *,
    reference: Recommender | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Return the mark of each history (N,), larger where it looks learnt."""
    found = _foretold(rec, histories, seed)
    return found if reference is None else found - _foretold(reference, histories, seed)


def told_apart(inside: np.ndarray, outside: np.ndarray, *, seed: int = 0) -> Traces:
    """Return how well two kinds of people are told apart by their marks, with a bootstrap over both."""
    rng = numpy_stream(seed, "traces")
    draws = [_auc(rng.choice(inside, len(inside)), rng.choice(outside, len(outside))) for _ in range(DRAWS)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Traces(_auc(inside, outside), float(low), float(high), len(inside), len(outside))


def _auc(inside: np.ndarray, outside: np.ndarray) -> float:
    label = np.concatenate([np.ones(len(inside)), np.zeros(len(outside))])
    return auc(label, np.concatenate([inside, outside]))


@torch.inference_mode()
def _foretold(rec: Recommender, histories: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Return the mean standard score of some items of each history, foretold from the others (N,)."""
    ordered = "sequential" in entry_of(rec.config).tags
    rng = numpy_stream(seed, "foretold")
    asked: list[np.ndarray] = []
    target, owner = [], []
    for place, history in enumerate(histories):
        which = np.arange(1 if ordered else 0, len(history))
        for at in np.sort(rng.permutation(which)[:ITEMS]):
            asked.append(history[:at] if ordered else np.delete(history, at))
            target.append(int(history[at]))
            owner.append(place)
    total, size = np.zeros(len(histories)), max(1, BLOCK // len(rec.item_ids))
    for start in range(0, len(asked), size):
        part = slice(start, start + size)
        found = _standard(rec, asked[part], target[part], [histories[one] for one in owner[part]])
        np.add.at(total, owner[part], found)
    return total / np.maximum(np.bincount(owner, minlength=len(histories)), 1)


def _standard(
    rec: Recommender, asked: Sequence[np.ndarray], target: Sequence[int], whole: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the scores of targets (B,) in standard deviations above the mean of what lies outside the history."""
    scores = rec.scores(Context.of_histories(list(asked)).to(rec.device)).double().cpu()
    own = scores[torch.arange(len(asked)), torch.tensor(target)]
    for row, history in enumerate(whole):
        scores[row, torch.from_numpy(history.astype(np.int64))] = torch.nan
    scores[~scores.isfinite()] = torch.nan
    mean = scores.nanmean(dim=1)
    spread = (scores - mean[:, None]).square().nanmean(dim=1).sqrt().clamp(min=TINY)
    found = ((own - mean) / spread).nan_to_num(
        0.0, posinf=0.0, neginf=0.0
    )  # items that nobody had are foretold by none
    return np.asarray(found)
