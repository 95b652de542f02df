"""Why an item is, or is not, in somebody's list: its place, its reasons, and what it hangs on.

Shapes: I items, P past items that count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import Cause, ConfigError, Reason, RequestError, UnknownItemError, did_you_mean
from bowerbird.core.reason import METHODS
from bowerbird.explanation import Explainer, Past, counterfactual
from bowerbird.explanation.columns import Columns
from bowerbird.explanation.counterfactual import ranks
from bowerbird.explanation.cut import without_edges
from bowerbird.features import Context
from bowerbird.models.graph.lightgcn import LightGCN
from bowerbird.models.graph.ngcf import NGCF
from bowerbird.recommender.hints import closest_id, not_known
from bowerbird.retrieval import hide_seen

if TYPE_CHECKING:
    from bowerbird.recommender.recommender import Recommender

CAUSES = 10  # causes in a reason


@dataclass(frozen=True)
class Explanation:
    """Where an item stands for one request, and why."""

    item_id: Any
    title: str
    place: int | None  # among what may be recommended, from 1; None where the item cannot be
    n_items: int  # that may be recommended
    k: int  # places of the list
    note: str  # why the item cannot be recommended, or what else is to be known; empty where nothing is
    reasons: tuple[Reason, ...]
    without: tuple[Cause, ...] | None  # past items without which it would leave the list; None where nothing moves it
    smallest: bool  # whether nothing smaller that was tried moves it, see `explanation.Counterfactual`

    @property
    def shown(self) -> bool:
        """Whether the item is in the list."""
        return self.place is not None and self.place <= self.k

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        without = None if self.without is None else [{"id": one.id, "label": one.label} for one in self.without]
        return {
            "item_id": self.item_id,
            "title": self.title,
            "shown": self.shown,
            "place": self.place,
            "n_items": self.n_items,
            "k": self.k,
            "note": self.note,
            "reasons": [one.to_dict() for one in self.reasons],
            "without": without,
            "smallest": self.smallest,
        }


def explainer_of(rec: "Recommender") -> Explainer:
    """Return what finds reasons for a recommender."""
    columns = None
    if rec.stage is not None and rec.stage.ranking.reference is not None:
        columns = Columns(rec.stage.ranking.model, rec.stage.table, rec.stage.ranking.reference)
    return Explainer(rec.model, rec.past, columns)


def why(
    rec: "Recommender", item: Any, user: Any, history: Sequence[Any] | None, k: int, method: str | None
) -> Explanation:
    """Return why `item` is, or is not, among the first k for a known user or for a stranger with a history.

    Raises `UnknownItemError` for an item and `RequestError` for a user that is not known, and `ConfigError` where the
    model's reasons are not found by `method`.
    """
    row, context = rec.item_ids.row(item), _context(rec, user, history)
    if row < 0:
        meant = closest_id(item, rec.item_ids)
        close = "" if meant is None else f' Did you mean "{meant}"?'
        raise UnknownItemError(f"no item has the id {item!r}.{close}")
    scores = rec.pipeline.scores(context, rec.run.seed)
    seen = torch.zeros_like(scores)
    hide_seen(seen, context.history, rec.pipeline.hides)
    allowed = seen[0] == 0
    answered = bool(rec.model.can(context).all())
    place, note = ranks(scores, row, allowed)[0], ""
    n_items = int((scores[0].isfinite() & allowed).sum())
    if not bool(allowed[row]):
        note = "they chose it before, and what was chosen is not shown again"
    elif not bool(scores[0, row].isfinite()):
        note = f"{rec.name} gives it no score: nobody chose it in training"
        if rec.source is not None:
            note = f"it is not among the {rec.pipeline.candidates:,} items that {rec.source.name} finds"
    elif not answered:
        note = f"{rec.name} knows nothing of them, and popularity answers"
    can_be = bool(allowed[row]) and bool(scores[0, row].isfinite())
    found = rec.explainer.reasons(context, torch.tensor([row], device=scores.device), most=CAUSES)[0]
    reasons = _by_method(rec, found, method)
    moved: tuple[Cause, ...] | None = None
    smallest = False
    if can_be and place <= k and answered:
        moved, smallest = without(rec, context, row, k, allowed)
    return Explanation(rec.item_ids[row], rec.past.title(row), place if can_be else None, n_items, k, note, reasons,
                       moved, smallest)  # fmt: skip


def _context(rec: "Recommender", user: Any, history: Sequence[Any] | None) -> Context:
    if (user is None) == (history is None):
        raise RequestError("for whom? Give either a user or a history.")
    if history is not None:
        context = Context.of_histories([rec.item_ids.rows(history)])
        if not len(context.history.item):
            raise RequestError("none of the history's items is known here. Give one that training knew.")
        return context.to(rec.device)
    row = rec.user_ids.row(user)
    if row < 0:
        raise RequestError(f"{not_known('user', user, rec.user_ids)}. A stranger is explained by a history.")
    return Context.of_users(np.array([row], np.int32), rec.past).to(rec.device)


def _by_method(rec: "Recommender", reasons: tuple[Reason, ...], method: str | None) -> tuple[Reason, ...]:
    if method is None:
        return reasons
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise ConfigError(f"method is {method!r}; there are {known}.{did_you_mean(method, list(METHODS))}")
    kept = tuple(one for one in reasons if one.method == method)
    if not kept:
        there = ", ".join(dict.fromkeys(one.method for one in reasons))
        raise ConfigError(f"no reason of {rec.name} is found by {method!r} here; there are reasons by {there}.")
    return kept


def without(
    rec: "Recommender", context: Context, row: int, k: int, allowed: Tensor
) -> tuple[tuple[Cause, ...] | None, bool]:
    """Return the past items without which an item leaves the list, and whether nothing smaller does."""
    past = Past(context)
    if not len(past):
        return None, False
    with torch.no_grad():
        said = past.said(rec.model, torch.tensor([row], device=allowed.device))[:, 0].cpu().numpy()

        def rescore(removed: Tensor) -> Tensor:
            if rec.stage is None:
                return past.rescored(rec.model, removed)
            return rec.pipeline.scores(past.without(removed), rec.run.seed)

        confirm = None
        if isinstance(rec.model, LightGCN | NGCF) and bool(rec.model.own(context)[0]) and rec.stage is None:
            confirm = partial(without_edges, rec.model, rec.past, past)
        found = counterfactual(rescore, said, row, k, allowed, confirm=confirm)
    if found is None:
        return None, False
    items = [int(past.items[one]) for one in found.removed]
    return tuple(Cause(rec.item_ids[one], rec.past.title(one), 1.0) for one in items), found.smallest
