"""What makes views: of a recommender, the catalogue and the event types as they are at one moment."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bowerbird.core import MissingExtraError, RequestError
from bowerbird.data import EventType, declared
from bowerbird.features.content import ItemWords
from bowerbird.pipeline.answers import Index, Shelf
from bowerbird.pipeline.live import LivePipeline
from bowerbird.pipeline.rerank import seconds
from bowerbird.pipeline.sources import Scorer
from bowerbird.recommender import Recommender
from bowerbird.retrieval import Approximate, choose
from bowerbird.serving.experiments import Make, Trials
from bowerbird.serving.questions import known_rows
from bowerbird.serving.view import NEVER, PUBLISHED, Tally, View, item_table
from bowerbird.store.catalogue import Stored
from bowerbird.store.people import People

if TYPE_CHECKING:
    from bowerbird.serving.engine import Engine

LOG = logging.getLogger("bowerbird.engine")


class Maker:
    """Makes the views of one engine, and keeps what its catalogue said so far."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self._items: dict[str, Stored] = {}
        self._followed = 0  # the last change of the catalogue that is in `_items`

    def view(self, rec: Recommender, people: People, *, old: View | None = None) -> View:
        """Return a view of a recommender, the catalogue and the schema as they are now, without the newest events.

        `old` is one of the same model, whose index and words are gone on with.
        """
        told = self.engine.schemas.current
        rec = rec.knowing(declared(rec.schema.events, (EventType(**kind) for kind in told.events)))
        last = self.engine.catalogue.last  # users' documents count too
        for stored in self.engine.catalogue.changes("item", self._followed):
            self._items[str(stored.id)], last = stored, max(last, stored.change)
        self._followed = last
        documents = list(self._items.values())
        table, extra = item_table(rec, documents)
        n, now = len(table), self.engine.world.now()
        shown, expires, since = np.ones(n, bool), np.full(n, NEVER), np.full(n, np.nan)
        extra_rows = {str(one): len(rec.item_ids) + place for place, one in enumerate(extra)}
        for one in documents:
            row = rec.item_ids.row(one.id)
            row = row if row >= 0 else extra_rows[str(one.id)]
            shown[row] = one.available
            expires[row] = NEVER if one.expires is None else one.expires
            if row >= len(rec.item_ids):
                since[row] = one.since
        past, tally, trials = rec.past, Tally(n, now), self.engine.laboratory.trials()
        words = self._words(table, old, trials)
        tally.add_past(past, rec.popularity.counts.cpu().numpy())
        if past.time is not None:
            first = np.full(len(rec.item_ids), np.inf)
            first[past.item[::-1]] = past.time[::-1]  # the oldest is written last
            since[: len(first)] = np.where(np.isinf(first), np.nan, first)
        shelf = Shelf(
            items=table,
            n_known=len(rec.item_ids),
            available=np.logical_and(shown, expires > now),
            popular=np.zeros(0, np.int64),
            trending=np.zeros(0, np.int64),
            latest=_latest(table, since),
            content=None if words is None else words.likeness,
        )
        if old is None:
            scorer = Scorer(rec.ladder, _indexed if choose(len(rec.item_ids)) == "approximate" else None)
        else:
            scorer = old.scorer.over(rec.ladder)
        newer, places = _newer(rec, table.tail(len(extra)))
        if newer is not None:
            scorer = scorer.beyond(newer)
        title = table["title"].cast(pl.String).to_arrow() if "title" in table.columns else None
        view = View(
            rec, people, shelf, extra, extra_rows, {}, scorer, tally, expires, shown, title, told, last, words, places,
            trials,
        )  # fmt: skip
        return self.with_boards(view)

    def _words(self, table: pl.DataFrame, old: View | None, trials: Trials) -> ItemWords | None:
        """Return what items say, where a scenario asks for content."""
        scenarios = (*self.engine.scenarios.values(), *trials.scenarios)
        if not any(source.name == "content" for one in scenarios for source in one.sources):
            return None
        if old is None or old.words is None:
            return ItemWords.of(table)
        rows = old.rows([one.id for one in self.engine.catalogue.changes("item", old.followed)])
        return old.words.renewed(table, known_rows(rows))

    def with_boards(self, view: View) -> View:
        """Return the view with boards as events have them now, and pipelines on top."""
        popular, trending = view.tally.boards()
        view = replace(view, shelf=replace(view.shelf, popular=popular, trending=trending))
        if view.pipelines:
            pipelines, trials = {name: one.on(view.shelf) for name, one in view.pipelines.items()}, view.trials
            return replace(view, pipelines=pipelines, trials=trials.on(view.shelf))
        make = self.pipeline(view)
        pipelines = {name: make(scenario) for name, scenario in self.engine.scenarios.items()}
        return replace(view, pipelines=pipelines, trials=view.trials.built(make))

    def pipeline(self, view: View) -> Make:
        """Return what makes pipelines of scenarios over a view; it raises `ConfigError` as they do."""
        rec = view.recommender
        rank = None if rec.stage is None else rec.stage.rank
        return lambda one: LivePipeline(
            rec.ladder, one, view.shelf, rank=rank, scorer=view.scorer, policy=self.engine.exploring.policy(one, view),
            world=self.engine.world,
        )  # fmt: skip


def _indexed(vectors: Tensor, shaped: Tensor) -> Index | None:
    """Return an index of item vectors; None where what makes one is not installed."""
    try:
        return Approximate.of(vectors, shaped=shaped)
    except MissingExtraError as error:
        LOG.warning("%s Until then all %s items are looked through.", error, f"{len(vectors):,}")
        return None


def _newer(rec: Recommender, table: pl.DataFrame) -> tuple[Tensor | None, Tensor | None]:
    """Return the vectors (n, D) of items that the model does not know, and the places of all items (I, D).

    None where the model tells neither by content, or where what reads it is not installed. No file is opened.
    """
    contents = rec.contents
    try:
        places = contents.places
    except RequestError:
        places = None
    try:
        content = contents.read(table, paths=False) if len(table) else None
    except MissingExtraError as error:
        LOG.warning("%s Until then new items are not known by their content.", error)
        content = None
    if content is None:
        return None, places
    newer = contents.embed(content)
    if places is not None:
        places = torch.cat([places, contents.place(content)])
    return newer, places


def _latest(table: Any, since: np.ndarray) -> np.ndarray:
    """Return all rows that came at a known moment, newest first."""
    if PUBLISHED in table.columns:
        told = seconds(table[PUBLISHED])
        since = np.where(np.isnan(told), since, told)
    order: np.ndarray = np.argsort(-since, kind="stable")
    return order[: np.count_nonzero(~np.isnan(since))]  # what is NaN stands last
