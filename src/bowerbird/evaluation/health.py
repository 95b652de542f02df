"""A look at the lists of a fitted model: do they differ between people, from popularity's, and over the catalogue?

It needs no holdout and says nothing of accuracy. It finds what a good metric can hide: a model that learned
popularity and no more, one whose lists are all alike, one that recommends by chance.

Shapes: U users of the sample, I items, K places of a list.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import numpy_stream, torch_stream
from bowerbird.data import Interactions
from bowerbird.evaluation.report import Scorer
from bowerbird.features import Context
from bowerbird.retrieval import block_size, hide_seen, top_k

MOST_USERS = 1_000  # of the sample: shares of 10,000 places are known to half a percent
K = 10

# Below these sizes lists are alike and popular by necessity, and nothing is warned of.
FEW_USERS, FEW_ITEMS = 20, 10 * K
COPIES = 0.9  # share of places that popularity fills alike; EASE, ItemKNN and LightGCN stay below 0.5 on MovieLens
ALIKE = 0.1  # personalisation: nine of ten places are the same for any two people
NARROW = 0.05  # of the items that so many lists could show; popularity itself shows about that many
GUESSED = 0.5  # times the share of choices on the tenth chosen most: models amplify it, and guesses fall short of it
SKEWED = 0.3  # share of choices on that tenth from which the rule above means something; guesses put a tenth there


@dataclass(frozen=True)
class Health:
    """What the lists of up to `MOST_USERS` users look like, and what to do where that is odd."""

    users: int
    k: int
    personalisation: float  # 1 − mean share of places that two users' lists have in common
    coverage: float  # share of the items ever chosen that are in any list
    coverage_most: float  # the largest share that so many lists could show
    popular: float  # share of places that popularity's own list for the same user has too
    head_1: tuple[float, float, float]  # on the 1 % most chosen items: of model, popularity's lists, all choices
    head_10: tuple[float, float, float]  # the same on the 10 %
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "Health":
        """Return what `to_dict` was made from."""
        listed = ("head_1", "head_10", "warnings")
        values: dict[str, Any] = {key: tuple(one) if key in listed else one for key, one in document.items()}
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return what a manifest and `--json` keep."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"lists of {self.users:,} users: personalisation {self.personalisation:.2f}, "
            f"{self.coverage:.0%} of the items shown (of {self.coverage_most:.0%} possible), "
            f"{self.popular:.0%} as popularity, {self.head_10[0]:.0%} on the top tenth "
            f"(popularity {self.head_10[1]:.0%}, choices {self.head_10[2]:.0%})"
        )


@torch.no_grad()
def health(scorer: Scorer, past: Interactions, *, personal: bool = True, seed: int = 0) -> Health | None:
    """Return the health of a scorer that was fitted on `past`, whose rows it shares; None where nobody has a past.

    `personal=False` says that one list for all is meant, so that this is no reason to warn.
    """
    pairs = past.positives
    users = np.unique(pairs.user)
    if len(users) < 2:
        return None
    users = numpy_stream(seed, "health").permutation(users)[:MOST_USERS]
    weight = np.bincount(pairs.item, weights=pairs.weight, minlength=past.n_items)
    mine, common, popular = _counts(scorer, past, users, torch.from_numpy(weight.astype(np.float32)), seed)
    people = np.bincount(pairs.item, minlength=past.n_items)
    places, chosen = int(mine.sum()), int((people > 0).sum())
    head_1, head_10 = (
        tuple(_share(counts, people, part) for counts in (mine, popular, people)) for part in (0.01, 0.1)
    )
    found = Health(
        users=len(users),
        k=K,
        personalisation=_personalisation(mine, len(users)),
        coverage=int((mine > 0).sum()) / chosen,
        coverage_most=min(places, chosen) / chosen,
        popular=common / max(places, 1),
        head_1=head_1,  # type: ignore[arg-type]
        head_10=head_10,  # type: ignore[arg-type]
    )
    if len(users) < FEW_USERS or chosen < FEW_ITEMS:
        return found
    return replace(found, warnings=_warnings(found, personal))


def _counts(
    scorer: Scorer, past: Interactions, users: np.ndarray, weight: Tensor, seed: int
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return how often each item stands in the scorer's lists (I,), in popularity's (I,), and in both of a user."""
    hides = torch.tensor([kind.hides for kind in past.events], device=scorer.device)
    draw, weight = torch_stream(seed, "health", device=scorer.device), weight.to(scorer.device)
    tops = []
    size = block_size(past.n_items)
    for start in range(0, len(users), size):
        context = Context.of_users(users[start : start + size], past).to(scorer.device)
        pair = []
        for scores in (scorer.scores(context), weight.repeat(len(context), 1)):
            hide_seen(scores, context.history, hides)
            pair.append(top_k(scores, K, lambda: draw)[1].cpu())
        tops.append(pair)
    mine, popular = (torch.cat(lists) for lists in zip(*tops, strict=True))  # (U, K) each
    common = int(((mine[:, :, None] == popular[:, None, :]) & (mine[:, :, None] >= 0)).sum())
    shown, shown_popular = (np.bincount(top[top >= 0].numpy(), minlength=past.n_items) for top in (mine, popular))
    return shown, common, shown_popular


def _personalisation(shown: np.ndarray, users: int) -> float:
    """Return 1 − the mean share of places in common of two lists, from how often each item is shown (I,).

    An item in n lists is common to n (n − 1) / 2 pairs of them, so that no pair of users need be looked at.
    """
    places = shown.sum() / users
    common = (shown.astype(np.float64) * (shown - 1)).sum() / (users * (users - 1))
    return float(1 - common / max(places, 1e-9))


def _share(counts: np.ndarray, people: np.ndarray, part: float) -> float:
    """Return the share of `counts` (I,) on the most chosen `part` of the items ever chosen."""
    head = np.argsort(-people, kind="stable")[: math.ceil(part * (people > 0).sum())]
    return float(counts[head].sum() / max(counts.sum(), 1))


def _warnings(found: Health, personal: bool) -> tuple[str, ...]:
    """Return what is odd, why that matters, and what to do."""
    said = []
    if personal and found.popular >= COPIES:
        said.append(
            f"{found.popular:.0%} of the places are what popularity shows: the model has learned little beside it. "
            "Train longer, lower l2, or check that the user and item columns are the right ones."
        )
    elif personal and found.personalisation <= ALIKE:
        said.append(
            f"two people's lists have {1 - found.personalisation:.0%} of their places in common: the model tells "
            "people hardly apart. Train longer, take a larger dim, or lower l2 and the learning rate."
        )
    if personal and found.coverage <= NARROW * found.coverage_most:
        said.append(
            f"all lists together show {found.coverage:.1%} of the items, where {found.coverage_most:.0%} could be: "
            "most of the catalogue is never seen. Compare with itemknn, or take more negatives."
        )
    if found.head_10[0] <= GUESSED * found.head_10[2] and found.head_10[2] >= SKEWED:
        said.append(
            f"{found.head_10[0]:.0%} of the places are on the tenth of the items that gets {found.head_10[2]:.0%} of "
            "the choices; guesses would put 10% there. Train longer, or check that the item column is the right one."
        )
    return tuple(said)
