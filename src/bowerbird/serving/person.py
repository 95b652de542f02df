"""Whoever asks, in rows: what training knew of them and what they did since, as one history."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from bowerbird.features import Context, Ragged
from bowerbird.pipeline.scenario import Scenario
from bowerbird.serving.view import View

LIKED = 10  # items by whose words others are found: the wish of these days, not the taste of years
SIGNS = {"positive": 1.0, "neutral": 0.0, "negative": -1.0}


class Person:
    """Who a question is about: a known user, a session, a stranger with a posted history, or nobody."""

    def __init__(self, view: View, scenario: Scenario, question: Mapping[str, Any]) -> None:
        self.view, self.scenario = view, scenario
        self.kinds = view.kinds
        self.user, self.key, self.unknown = -1, None, 0
        self.state: tuple[int, int] | None = None  # the offset of the last deed since training, and how many there are
        self.posted = question.get("history") is not None
        if self.posted:
            self._take(question["history"])
            return
        user_id = question.get("user_id")
        self.key = view.people.key(user_id, question.get("session_id"))
        if user_id is not None:
            self.user = view.recommender.user_ids.row(user_id)
        self._lived()

    def _take(self, item_ids: Sequence[Any]) -> None:
        rows = self.view.rows(item_ids)
        self.unknown = int(((rows < 0) | (rows >= self.view.n_known)).sum())
        self.item = rows[rows >= 0]
        self.event = np.full(len(self.item), self._chosen, np.uint8)
        self.weight = np.ones(len(self.item), np.float32)
        self.time = np.zeros(len(self.item), np.int64)
        self.n_old = len(self.item)

    def _lived(self) -> None:
        past = self.view.recommender.past
        mine = np.zeros(0, np.int64)
        if self.user >= 0:
            offsets, order = past.by_user
            mine = order[offsets[self.user] : offsets[self.user + 1]]
        names = {kind.name: number for number, kind in enumerate(self.kinds)}
        deeds = self.view.people.deeds(self.key)
        if deeds:
            self.state = max(deed.offset for deed in deeds), len(deeds)
        new = [deed for deed in deeds if deed.event in names]
        rows = self.view.rows([deed.item_id for deed in new])
        self.unknown = int((rows < 0).sum())
        kept = [(row, deed) for row, deed in zip(rows.tolist(), new, strict=True) if row >= 0]
        self.n_old = len(mine)
        self.item = np.concatenate([past.item[mine], np.array([row for row, _ in kept], np.int64)])
        event = [names[deed.event] for _, deed in kept]
        self.event = np.concatenate([past.event[mine], np.array(event, np.uint8)])
        raw = np.concatenate([past.weight[mine], np.array([deed.weight for _, deed in kept], np.float32)])
        self.weight = (raw * self._worth[self.event]).astype(np.float32)
        old = np.zeros(len(mine), np.int64) if past.time is None else past.time[mine]
        self.time = np.concatenate([old, np.array([deed.time for _, deed in kept], np.int64)])

    @property
    def _chosen(self) -> int:
        """The event that a posted history is taken to be of: the first that says something good."""
        return next((n for n, kind in enumerate(self.kinds) if kind.sign == "positive"), 0)

    @property
    def _worth(self) -> np.ndarray:
        """What each event type says about liking, by the scenario where it speaks of it."""
        told = self.scenario.event_weights
        return np.array([told.get(kind.name, kind.weight * SIGNS[kind.sign]) for kind in self.kinds], np.float32)

    @cached_property
    def context(self) -> Context:
        """The request as models see it (B = 1): items that they do not know are left out."""
        known = self.item < self.view.n_known
        if self.posted:
            return Context.of_histories([self.item[known]])
        history = Ragged(
            torch.tensor([0, int(known.sum())]),
            torch.from_numpy(self.item[known].astype(np.int64)),
            torch.from_numpy(self.event[known]),
            torch.from_numpy(self.weight[known]),
            torch.from_numpy(self.time[known]) if self.view.recommender.past.time is not None else None,
        )
        news = torch.tensor([True]) if (self.weight[self.n_old :] != 0).any() else None
        return Context(torch.tensor([self.user]), history, news=news)

    @cached_property
    def seen(self) -> np.ndarray:
        """Rows of the items that are hidden because of what happened to them, int64."""
        if self.scenario.hides is None:
            hides = np.array([kind.hides for kind in self.kinds])
        else:
            hides = np.array([kind.name in self.scenario.hides for kind in self.kinds])
        rows: np.ndarray = self.item[hides[self.event]].astype(np.int64)
        return rows

    @cached_property
    def liked(self) -> np.ndarray:
        """Rows of the last few items of which the last word was a good one, newest last, int64: new ones too."""
        said = np.flatnonzero(self.weight)  # neutral events say nothing
        _, back = np.unique(self.item[said][::-1], return_index=True)
        said = said[np.sort(len(said) - 1 - back)]
        rows: np.ndarray = self.item[said[self.weight[said] > 0]][-LIKED:].astype(np.int64)
        return rows

    def did(self, event: str | None, since: int | None) -> np.ndarray:
        """Return the rows of items with an event of this name, or any, from a moment on, int64."""
        mine = np.ones(len(self.item), bool)
        if event is not None:
            names = [kind.name for kind in self.kinds]
            mine &= np.array([name == event for name in names])[self.event]
        if since is not None:
            mine &= self.time >= since
        rows: np.ndarray = self.item[mine].astype(np.int64)
        return rows
