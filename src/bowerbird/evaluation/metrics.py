"""The one set of ranking metrics, from which places of a list were hits.

Shapes: B users, K places of the list. `hits` is bool (B, K), best place first; `relevant` is int64 (B,), the number
of items each user should have been shown.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import ConfigError, did_you_mean

EPSILON = 1e-12


def recall(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """Return the share of relevant items among the first k places (B,)."""
    return hits[:, :k].sum(1) / relevant


def precision(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """Return the share of the first k places that are relevant (B,)."""
    return hits[:, :k].sum(1) / k


def hit(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """Return 1 where any of the first k places is relevant (B,)."""
    return hits[:, :k].any(1).float()


def mrr(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """Return one over the first relevant place, 0 where there is none among k (B,)."""
    place = hits[:, :k].int().argmax(1) + 1
    return torch.where(hits[:, :k].any(1), 1 / place, 0.0)


def average_precision(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """Return the precision at each relevant place among k, summed, over the number of relevant items (B,)."""
    first = hits[:, :k].float()
    places = torch.arange(1, first.shape[1] + 1, device=hits.device)
    return (first * first.cumsum(1) / places).sum(1) / relevant


def ndcg(hits: Tensor, relevant: Tensor, k: int) -> Tensor:
    """Return discounted gain over that of the ideal list, which has min(k, relevant) hits on top (B,).

    Järvelin and Kekäläinen, ACM TOIS 2002, with binary gain and discount log2(place + 1).
    """
    first = hits[:, :k]
    discount = 1 / torch.log2(torch.arange(2, k + 2, device=hits.device, dtype=torch.float64))
    ideal = discount.cumsum(0)[relevant.clamp(1, k) - 1]
    return (first * discount[: first.shape[1]]).sum(1) / ideal


METRICS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "ndcg": ndcg,
    "recall": recall,
    "hit": hit,
    "mrr": mrr,
    "precision": precision,
    "map": average_precision,
}


def parse(metric: str) -> tuple[str, int]:
    """Return name and depth of "ndcg@10"; raises `ConfigError` for what is not a metric."""
    name, _, depth = metric.partition("@")
    if name not in METRICS or not depth.isdecimal() or int(depth) < 1:
        closest = "" if name in METRICS else did_you_mean(name, METRICS)
        raise ConfigError(
            f"{metric!r} is not a metric.{closest} Write one of {', '.join(METRICS)} and a depth, such as ndcg@10."
        )
    return name, int(depth)


def beyond_accuracy(top: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """Return what a set of lists does to the catalogue.

    `top` is int (B, K), item rows with −1 for empty places; `people` (I,) is how many chose each item before. The
    catalogue is the I items.
      coverage: share of the catalogue that appears in any list;
      gini: inequality of the number of appearances over the catalogue, 0 when all appear alike, near 1 when few do;
      novelty: mean of −log2 of the share of choices that an item had, in bits, at least one choice assumed;
      popularity_share: share of places taken by the 20 % most chosen items.
    """
    shown = np.bincount(top[top >= 0], minlength=len(people)).astype(np.float64)
    places = max(shown.sum(), EPSILON)
    ascending = np.sort(shown)
    n = len(people)
    rank = np.arange(1, n + 1)
    gini = float(((2 * rank - n - 1) * ascending).sum() / (n * places))
    surprise = -np.log2(np.maximum(people, 1) / max(people.sum(), 1))
    head = np.argsort(-people, kind="stable")[: math.ceil(0.2 * n)]
    return {
        "coverage": float((shown > 0).mean()),
        "gini": gini,
        "novelty": float((shown * surprise).sum() / places),
        "popularity_share": float(shown[head].sum() / places),
    }
