"""Reasons for slates: what of a request the model made each item of.

Shapes: B requests, k places, n items of one request, P past items that count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from bowerbird.core import Cause, Reason
from bowerbird.data import Interactions
from bowerbird.explanation import words
from bowerbird.explanation.columns import Columns
from bowerbird.explanation.content import modalities, parts
from bowerbird.explanation.past import Past, method_of
from bowerbird.features import Context, Retriever
from bowerbird.features.contracts import ContentRetriever
from bowerbird.models.baselines.itemknn import ItemKNN
from bowerbird.models.baselines.popularity import Popularity
from bowerbird.models.graph.lightgcn import LightGCN
from bowerbird.nn.content import tensors

MOST = 3  # causes in a reason of a slate; the sentence names the first
KEPT = 50_000  # items whose content was taken apart
AHEAD = 54  # popular items that are, with those asked for: most of that work is the same for ten items as for sixty
EXPLORED = 0.999  # a place with a smaller propensity was drawn


@dataclass(frozen=True, eq=False)
class Explainer:
    """Finds reasons. `past` gives ids, titles, phrases, content, and who chose what."""

    model: Retriever  # who finds items
    past: Interactions
    columns: Columns | None = None  # of the ranker that orders them, where there is one

    def slates(
        self, context: Context, items: Tensor, propensity: Tensor | None = None
    ) -> list[list[tuple[Reason, ...]]]:
        """Return the reasons of every filled place of B slates of item rows (B, k), −1 where empty; the main one first.

        A place that was drawn, as its `propensity` (B, k) tells, says so.
        """
        answers = []
        for row in range(len(context)):
            filled = items[row][items[row] >= 0]
            found = self.reasons(context.take(torch.tensor([row], device=items.device)), filled)
            if propensity is not None:
                chances = propensity[row][items[row] >= 0].tolist()
                found = [with_chance(one, chance) for one, chance in zip(found, chances, strict=True)]
            answers.append(found)
        return answers

    @torch.no_grad()
    def reasons(self, context: Context, items: Tensor, *, most: int = MOST) -> list[tuple[Reason, ...]]:
        """Return the reasons of items (n,) for one request, the main one first, with up to `most` causes each."""
        found: list[list[Reason]] = [[] for _ in items]
        if not len(items):
            return []
        seen = None
        if self.columns is not None:
            names, added, by_slot = self.columns.attributed(context, items)
            seen = self.columns.said(context, by_slot)
            for mine, causes in zip(found, self.columns.causes(names, added, items, self.past), strict=True):
                named = causes if len(causes) <= 2 * most else (*causes[:most], *causes[-most:])
                mine.append(words.features(named))
        past = Past(context)
        if len(past) and not isinstance(self.model, Popularity) and bool(self.model.can(context).all()):
            for mine, reason in zip(found, self._of_past(past, items, most, seen), strict=True):
                mine += reason
        if isinstance(self.model, ContentRetriever) and self.past.item_content and bool(self.model.can(context).all()):
            for mine, reason in zip(found, self._of_content(context, items), strict=True):
                mine += reason
        for mine, item in zip(found, items.tolist(), strict=True):
            if not mine:
                mine.append(self.crowd(item))
        return [tuple(mine) for mine in found]

    def _of_past(self, past: Past, items: Tensor, most: int, seen: tuple[Tensor, Tensor] | None) -> list[list[Reason]]:
        """Return for each item the past items that speak most for it; nothing where none does.

        `seen` is what a ranker sees of the past, and what each item of it adds, instead of what the model makes of it.
        """
        phrases = self._phrases(past)
        if seen is not None and len(seen[0]):
            (rows, said), method = seen, "integrated gradients"
            phrases = _lined_up(past, phrases, rows)
        else:
            rows, said, method = past.items, past.said(self.model, items), method_of(self.model)
        ids = [self.past.item_ids[row] for row in rows.tolist()]
        labels = [self.past.title(row) for row in rows.tolist()]
        strengths, found = said.T.cpu().numpy(), list[list[Reason]]()
        for item, mine in zip(items.tolist(), strengths, strict=True):
            causes = words.shares(mine, ids, labels, most)
            if not causes:
                found.append([])
                continue
            best = int(mine.argmax())
            if seen is None and isinstance(self.model, LightGCN | ItemKNN):
                people = self.both(int(rows[best]), item, int(past.context.user[0]))
                if isinstance(self.model, LightGCN):
                    found.append([words.path(causes, phrases[best], method, people, self.past.title(item))])
                else:
                    found.append([words.neighbours(causes, phrases[best], method, people)])
            else:
                found.append([words.history(causes, phrases[best], method)])
        return found

    def _of_content(self, context: Context, items: Tensor) -> list[list[Reason]]:
        """Return for each item which kind of its content speaks for it; nothing where none does."""
        names, added = self.modalities(context, items)
        found = []
        for mine in added.T.tolist():
            total = sum(abs(one) for one in mine) or 1.0
            order = sorted(range(len(names)), key=lambda one: -mine[one])
            causes = tuple(Cause(names[one], words.CONTENT.get(names[one], (names[one],))[0], mine[one] / total)
                           for one in order)  # fmt: skip
            found.append([words.content(causes)] if causes[0].share > 0 else [])
        return found

    def modalities(self, context: Context, items: Tensor) -> tuple[list[str], Tensor]:
        """Return names of kinds of content, and what each adds to scores, see `content.modalities`; parts are kept."""
        assert isinstance(self.model, ContentRetriever)
        rows = items.tolist()
        if len(self._parts) > KEPT:
            self._parts.clear()
        if new := [row for row in dict.fromkeys(rows) if row not in self._parts]:
            ahead = islice((row for row in self._popular if row not in self._parts and row not in new), AHEAD)
            new += ahead
            here = tensors({name: one[new] for name, one in self.past.item_content.items()}, items.device)
            self._parts.update(zip(new, parts(self.model, here), strict=True))
        found = torch.stack([self._parts[row] for row in rows])
        return modalities(self.model, context, items, dict.fromkeys(self.past.item_content, found), found)

    @cached_property
    def _popular(self) -> Iterator[int]:
        """Item rows, those that most people chose first, each once."""
        return iter(np.argsort(-self._people, kind="stable").tolist())

    @cached_property
    def _parts(self) -> dict[int, Tensor]:
        """What `content.parts` made of items, by row."""
        return {}

    def crowd(self, item: int) -> Reason:
        """Return that people chose an item row."""
        return words.popularity(int(self._people[item]))

    def both(self, one: int, other: int, user: int = -1) -> int:
        """Return how many people chose both of two items, `user` apart."""
        people = np.intersect1d(self.choosers(one), self.choosers(other), assume_unique=True)
        return len(people) - int(user in people)

    def choosers(self, item: int) -> np.ndarray:
        """Return the rows of who chose an item."""
        offsets, users = self._by_item
        return users[offsets[item] : offsets[item + 1]] if item < len(offsets) - 1 else users[:0]

    @cached_property
    def _by_item(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets (I+1,) and users of the distinct positive pairs, by item."""
        pairs = self.past.positives
        order = np.argsort(pairs.item, kind="stable")
        counts = np.bincount(pairs.item, minlength=self.past.n_items)
        return np.concatenate([[0], np.cumsum(counts)]), pairs.user[order]

    @cached_property
    def _people(self) -> np.ndarray:
        """How many people chose each item, int (I,)."""
        return np.diff(self._by_item[0])

    def _phrases(self, past: Past) -> list[str]:
        """Return the past tense of the event of each past item (P,)."""
        event = past.context.history.event
        if event is None:
            return ["chose"] * len(past)
        return [self.past.events[kind].phrase for kind in event[past.entries].tolist()]


def with_chance(reasons: tuple[Reason, ...], propensity: float) -> tuple[Reason, ...]:
    """Return reasons with the one that a place was drawn, first where it more likely would not have been."""
    if propensity >= EXPLORED:
        return reasons
    drawn = words.drawn(propensity)
    return (drawn, *reasons) if propensity < 0.5 else (*reasons, drawn)


def _lined_up(past: Past, phrases: list[str], rows: Tensor) -> list[str]:
    """Return the phrases of item rows (H,) that are among a past."""
    known = dict(zip(past.items.tolist(), phrases, strict=True))
    return [known.get(row, "chose") for row in rows.tolist()]
