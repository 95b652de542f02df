"""What a model relies on altogether: the reasons of many people's lists, summed up. No row speaks of one person.

Shapes: N people, n items of a list, P past items, B rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bowerbird.core import numpy_stream
from bowerbird.evaluation.statistics import interval
from bowerbird.explanation import words
from bowerbird.explanation.explainer import Explainer
from bowerbird.explanation.past import Past
from bowerbird.features import Context
from bowerbird.features.contracts import ContentRetriever
from bowerbird.models.baselines.popularity import Popularity
from bowerbird.models.graph.lightgcn import LightGCN

BACK = (1, 2, 3, 6, 11, 21, 51, 101)  # how far back past items stand, the latest being 1: where a group begins
ACTIVE = (0.01, 0.1, 0.5)  # shares of people, the most active
TOP = 10  # past items that are named
TITLES = {
    "features": "what columns add to the log of the odds, either way",
    "content": "kinds of content, and behaviour",
    "places": "how far back past items stand",
    "items": "past items that speak most",
    "people": "whom paths lead over",
}


@dataclass(frozen=True)
class Part:
    """One thing that a model relies on: its mean share, or what it adds, with a 95 % interval over people or rows."""

    name: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Overview:
    """What a model relies on, by section: those of TITLES that mean something for it."""

    people: int  # or rows
    sections: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return what a manifest and `--json` keep."""
        shown = {name: [vars(one) for one in parts] for name, parts in self.sections.items()}
        return {"people": self.people, "sections": shown}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Overview":
        """Return what `to_dict` was made from."""
        sections = {name: tuple(Part(**one) for one in parts) for name, parts in document["sections"].items()}
        return cls(document["people"], sections)


def overview(
    explainer: Explainer, lists: Callable[[Context], torch.Tensor], *, people: int = 100, seed: int = 0
) -> Overview:
    """Return what the model relies on in the lists of people who are drawn.

    `lists` gives the item rows (1, n) of a request. Nothing where the model tells nobody apart.
    """
    past = explainer.past
    some = numpy_stream(seed, "overview").permutation(np.unique(past.positives.user))[:people]
    gathered: dict[str, dict[str, list[float]]] = {}
    weight = np.zeros(past.n_items)  # of past items, summed over people
    active = _activity(past.positives.user, past.n_users)
    for user in some:
        context = Context.of_users(np.array([user], np.int32), past)
        items = lists(context)[0]
        items = items[items >= 0]
        if len(items) and not isinstance(explainer.model, Popularity):
            for section, shares in _of_one(explainer, context, items, weight, active).items():
                for name, share in shares.items():
                    gathered.setdefault(section, {}).setdefault(name, []).append(share)
    sections = {name: _parts(shares, len(some), seed) for name, shares in gathered.items()}
    if "places" in sections:
        there = [place for place, one in enumerate(sections["places"]) if one.mean > 0]
        sections["places"] = sections["places"][: there[-1] + 1]  # nobody's past reaches further back
    for name in ("features", "content"):
        if name in sections:
            sections[name] = tuple(sorted(sections[name], key=lambda one: -one.mean))
    if weight.sum() > 0:
        sections["items"] = _strongest(explainer, weight / weight.sum())
    return Overview(len(some), {name: sections[name] for name in TITLES if name in sections})


def of_rows(names: Sequence[str], added: np.ndarray, *, seed: int = 0) -> Overview:
    """Return what a ranker on rows relies on, from what columns add to each of them (B, K)."""
    columns = {name: np.abs(added[:, place]).tolist() for place, name in enumerate(names)}
    parts = _parts(columns, len(added), seed)
    return Overview(len(added), {"features": tuple(sorted(parts, key=lambda one: -one.mean))})


def _of_one(
    explainer: Explainer, context: Context, items: torch.Tensor, weight: np.ndarray, active: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return the sections of one person, and add to the weights of past items."""
    found: dict[str, dict[str, float]] = {}
    if explainer.columns is not None:
        names, added, _ = explainer.columns.attributed(context, items)
        found["features"] = dict(zip(names, added.abs().mean(dim=0).tolist(), strict=True))
    past = Past(context)
    if len(past) and bool(explainer.model.can(context).all()):
        said = past.said(explainer.model, items).clamp(min=0).sum(dim=1).cpu().numpy()
        if said.sum() > 0:
            share, rows = said / said.sum(), past.items.cpu().numpy()
            np.add.at(weight, rows, share)
            found["places"] = _places(share)
            if isinstance(explainer.model, LightGCN):
                met = _met(explainer, rows[np.argsort(-share)[:3]], items.tolist(), int(context.user[0]))
                if len(met):
                    found["people"] = {
                        f"the most active {100 * one:g} %": float((active[met] <= one).mean()) for one in ACTIVE
                    }
    if isinstance(explainer.model, ContentRetriever) and explainer.past.item_content:
        names, added = explainer.modalities(context, items)
        size = added.abs().sum(dim=1).cpu().numpy()
        if size.sum() > 0:
            found["content"] = dict(zip(names, (size / size.sum()).tolist(), strict=True))
    return found


def _places(share: np.ndarray) -> dict[str, float]:
    """Return the shares (P,) of past items, oldest first, by how far back they stand."""
    back = np.arange(len(share), 0, -1)
    group = np.searchsorted(BACK, back, side="right") - 1
    ends = [*(one - 1 for one in BACK[1:]), None]
    names = [
        str(a) if a == b else f"{a} or more" if b is None else f"{a} to {b}" for a, b in zip(BACK, ends, strict=True)
    ]
    return dict(zip(names, np.bincount(group, share, len(BACK)).tolist(), strict=True))


def _met(explainer: Explainer, over: np.ndarray, items: list[int], user: int) -> np.ndarray:
    """Return the rows of people on the paths over some past items, once for each path."""
    paths = [np.intersect1d(explainer.choosers(int(one)), explainer.choosers(item)) for one in over for item in items]
    met = np.concatenate(paths) if paths else np.zeros(0, np.int64)
    others: np.ndarray = met[met != user]
    return others


def _activity(users: np.ndarray, n_users: int) -> np.ndarray:
    """Return which share of people is at least as active as each (U,)."""
    count = np.bincount(users, minlength=n_users)
    ordered = np.sort(count)
    at_least = n_users - np.searchsorted(ordered, count)
    share: np.ndarray = np.true_divide(at_least, max(n_users, 1))
    return share


def _parts(shares: Mapping[str, Sequence[float]], n: int, seed: int) -> tuple[Part, ...]:
    """Return the mean of each thing over n people; who does not have it has 0 of it."""
    found = []
    for name, values in shares.items():
        padded = np.zeros(n)
        padded[: len(values)] = values
        low, high = interval(padded, numpy_stream(seed, "intervals"))
        found.append(Part(name, float(padded.mean()), low, high))
    return tuple(found)


def _strongest(explainer: Explainer, share: np.ndarray) -> tuple[Part, ...]:
    """Return the past items that speak most, of those that a crowd chose."""
    order = [row for row in np.argsort(-share, kind="stable") if len(explainer.choosers(int(row))) >= words.CROWD]
    named = [(explainer.past.title(int(row)), float(share[row])) for row in order[:TOP] if share[row] > 0]
    return tuple(Part(title, one, one, one) for title, one in named)
