"""The engine: takes events, answers requests, follows the catalogue and the published versions. It knows no HTTP.

Every answer is made of one `View`. Events reach it on the committing thread, in the order of the log, before they are
acknowledged, so that whoever was told an offset finds its effect.
"""

import json
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bowerbird.core import (
    BowerbirdError,
    BundleError,
    DataError,
    RealWorld,
    RequestError,
    ScoreError,
    UnknownItemError,
    World,
    torch_stream,
)
from bowerbird.data import EventType, declared
from bowerbird.pipeline.answers import Answer, Asked
from bowerbird.pipeline.live import LivePipeline
from bowerbird.pipeline.scenario import Scenario, shipped
from bowerbird.pipeline.sources import best, of_board
from bowerbird.privacy.unlearning import silenced
from bowerbird.recommender import Recommender, load
from bowerbird.serving.bodies import MOST_KINDS
from bowerbird.serving.experiments import Laboratory
from bowerbird.serving.exploring import Exploring, trying
from bowerbird.serving.maker import Maker
from bowerbird.serving.metrics import Metrics
from bowerbird.serving.questions import allowed_of, asked_of, body_of, causes_of, explain, known_rows, slate_of
from bowerbird.serving.view import HALF_LIFE_S, View
from bowerbird.store import bundles, erasures
from bowerbird.store.answers import Answers
from bowerbird.store.catalogue import Catalogue, Kind, Row, Stored
from bowerbird.store.database import DatabaseBroken, Overloaded, StoreAway
from bowerbird.store.events import RETRACTED, STEP, Appended, TableLog
from bowerbird.store.following import Following
from bowerbird.store.keys import KEYS, Keys
from bowerbird.store.log import MERGE, SLATE, LogEvent, Stretch
from bowerbird.store.opening import followed, opened
from bowerbird.store.people import People
from bowerbird.store.postgres import Postgres
from bowerbird.store.schema import Schemas

LOG = logging.getLogger("bowerbird.engine")
DEFAULT = Scenario(name="default", k=10)  # that of a request that names none: what the library answers
WAIT_S = 0.2  # for events that a request wants to see reflected
KEEP_S, BOARDS_EVERY = 0.5, 4  # how often the keeper looks, and in which of its turns boards are shaped anew
LOOKS = 40  # for them, meanwhile, at what another process writes
REMEMBERED = 20_000  # slates that can be fetched before they are on the disk
TRIED = 200  # requests after a swap in which failures roll it back
BAD_SHARE = 0.05  # of them


class Engine:
    """One run directory, one data directory, and everything between."""

    def __init__(
        self,
        run: Path,
        data: Path,
        *,
        recommender: Recommender | None = None,
        scenarios: Mapping[str, Scenario] | None = None,
        world: World | None = None,
        follow: bool = False,
        keep: bool = True,
    ) -> None:
        """With `follow`, another process holds the data directory and writes; this one only answers.

        Without `keep`, `tend` is left to the caller.
        """
        self.run, self.data, self.world = run, data, world or RealWorld()
        self.metrics = Metrics()
        self._refused: str | None = None  # a version that was not fit to serve
        rec = recommender or self._loaded()
        self.scenarios = {DEFAULT.name: DEFAULT, **(scenarios or shipped())}
        self.database = (followed if follow else opened)(data, world=self.world)
        self.log, self.catalogue, self.keys = TableLog(self.database), Catalogue(self.database), Keys(self.database)
        self.answers, self.schemas = Answers(self.database), Schemas(self.database)
        self.laboratory = Laboratory(self, guards=not follow)
        self.maker = Maker(self)
        self._told = self._last_notice()
        self._forgetting = False  # whether another process erases somebody, of whom nothing is forgotten here yet
        self._heeded = self.catalogue.last  # the last one that `look` obeyed
        self._applied = threading.Condition()
        self._slates: OrderedDict[str, LogEvent] = OrderedDict()
        self._chosen_from: OrderedDict[str, None] = OrderedDict()  # request_ids of slates that something good came of
        self._changing = threading.RLock()  # one view at a time is made, and nothing is taken back meanwhile
        self._building = threading.Lock()  # held for moments, also by the committing thread
        self._documenting = threading.Lock()
        self.exploring = Exploring(self.log, self.world)
        self._undone: deque[tuple[int, LogEvent]] = deque(maxlen=1_000)  # what was taken back last
        self._tries = [0, 0]  # requests and failures since the last swap
        self._previous: str | None = None
        self._before: View | None = None  # what was in use before
        self._stopping = threading.Event()
        self._erased = frozenset(erasures.names_of(run, world=self.world))  # users who are nobody now
        rec = silenced(rec, self._erased)
        self.view = self.maker.view(rec, self._people(rec.log_offset))
        self._catch_up(self.view, self.log.end)
        self._shape_boards()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        if keep:
            self._keeper.start()

    def _loaded(self) -> Recommender:
        """Load the published version, the newest one before it where that is damaged, and so on.

        Raises `BundleError` where none of them can be read.
        """
        published = bundles.current(self.run, world=self.world)
        try:
            return load(self.run, version=published, world=self.world)
        except BundleError as error:
            for version in reversed(bundles.versions(self.run, world=self.world)):
                if version < published:
                    with suppress(BundleError):
                        rec = load(self.run, version=version, world=self.world)
                        LOG.error("%s Until then version %s answers.", error, version)
                        self._refused = published
                        return rec
            raise

    def close(self) -> None:
        """Stop following, and write down what waits."""
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self.database.close()

    # ── views ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _shape_boards(self) -> None:
        """Let a view with the boards of now take the place of the one in use, unless that was swapped meanwhile."""
        view = self.view
        if view.tally.changed:
            fresh = self.maker.with_boards(view)
            with self._building:
                if self.view is view:
                    self.view = fresh

    def _people(self, start: int) -> People:
        """Return people without deeds, of whom is known which sessions became users before an offset of the log."""
        people, place = People(start), 0
        while place < start and (found := self.log.page(event=MERGE, start=place, limit=STEP)):
            for offset, event in found:
                if offset < start:
                    people.merge(offset, event.session_id, event.user_id)
            place = found[-1][0] + 1
        return people

    def _catch_up(self, view: View, end: int) -> None:
        """Apply what the log holds from where a view's people are, up to `end`: what is there at first all at once."""
        people = view.people

        def counted() -> Iterator[Stretch]:
            for some in self.log.stretches(people.end, end):
                view.count_all(some, self.world.now())
                yield some

        if people.end == people.start:
            people.take_in(counted())
        else:
            for offset, event in self.log.walk(people.end, end):
                self._follow(view, offset, event)
        people.end = max(people.end, end)  # what was retracted or erased leaves no event behind

    def _follow(self, view: View, offset: int, event: LogEvent) -> None:
        if offset < view.people.end:
            return
        shown: Sequence[Any] = ()
        if event.event == SLATE and event.context:
            shown = json.loads(event.context)["items"]
        view.people.apply(offset, event, shown)
        view.count(event, 1.0, self.world.now())

    # ── events ────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, events: Sequence[LogEvent]) -> "Future[Appended]":
        """Append events; when the future is done they are on the disk, and every later answer reflects them."""
        return self.log.submit(events, then=self._taken)

    def _taken(self, appended: Appended) -> None:
        """Follow events that were just committed; on the committing thread, in the order of the log."""
        view = self.view
        if self.database.shared:
            self._catch_up(view, appended.start)  # what others wrote before
        for place, event in enumerate(appended.fresh):
            self._follow(view, appended.start + place, event)
            self._count_outcome(view, event)
        with self._applied:
            self._applied.notify_all()

    def _count_outcome(self, view: View, event: LogEvent) -> None:
        """Count a slate, and the first good event that names it: what share of slates is chosen from."""
        if event.event == SLATE:
            self.metrics.outcome("shown")
            return
        named = event.request_id
        if named is None or named not in self._slates or named in self._chosen_from:
            return
        if any(kind.name == event.event and kind.sign == "positive" for kind in view.kinds):
            self._chosen_from[named] = None
            if len(self._chosen_from) > REMEMBERED:
                self._chosen_from.popitem(last=False)
            self.metrics.outcome("chosen_from")

    def retract(self, event_id: str) -> tuple[int, LogEvent] | None:
        """Take an event back, and what followed from it; return it with its offset, None where there is none to take.

        What the server noted itself, answers and merges, stays.
        """
        found = self.log.find(event_id)
        if found is None or found[1].event in (SLATE, MERGE):
            return None
        with self._changing:
            if not self.log.retract(event_id):
                return None
            self.undo(*found)
        return found

    def undo(self, offset: int, event: LogEvent) -> None:
        """Forget what followed from an event that was taken back, where it was followed."""

        def act() -> None:
            self._undone.append((offset, event))
            for view in filter(None, (self.view, self._before)):
                self._take_back(view, offset, event)

        self.database.between(act)

    def _take_back(self, view: View, offset: int, event: LogEvent) -> None:
        """Let a view forget an event; one that follows another process may never have known it."""
        if view.people.start <= offset < view.people.end:
            found = view.people.take_back(event.user_id, event.session_id, offset)
            if found is not None or not self.database.shared:
                view.count(event, -1.0, self.world.now())

    def look(self) -> None:
        """Follow what another process committed since the last look; where it cannot be read, the next look does."""
        database = self.database
        if not isinstance(database, Following | Postgres):
            return
        try:
            with database.turn:
                moved = database.moved()
                if moved:
                    self._look(database)
            if moved and self.schemas.current.number != self.view.declared.number:
                with self._changing:
                    if self.schemas.current.number != self.view.declared.number:
                        self._recount()
            self.follow_experiments()
        except StoreAway as error:
            LOG.warning("%s", error)
            database.missed()

    def _look(self, database: Following | Postgres) -> None:
        """Read what is new, in the turn of whoever reads on."""
        self.log.look()
        self._catch_up(self.view, self.log.end)
        last = self.catalogue.last
        if last > self._heeded:
            self.heed("item", self._heeded)
            self._heeded = last
        self.laboratory.look()
        for number, kind, offset in database.notices(self._told):
            self._told = number
            self._heed_notice(kind, offset)

    def _heed_notice(self, kind: str, offset: int) -> None:
        """Do what another process, or this one, told all to do; twice is as once."""
        if kind == RETRACTED and (event := self.log.at(offset)) is not None:
            self.undo(offset, event)
        elif kind == KEYS:
            self.keys.look()
        elif kind == erasures.FORGET:
            self._forgetting = True

    def _last_notice(self) -> int:
        found = self.database.notices(0) if isinstance(self.database, Postgres) else []
        return found[-1][0] if found else 0

    def wait_for(self, offset: int | None) -> bool:
        """Wait a little until events up to an offset are reflected; return whether they are."""
        if offset is None:
            return True
        if self.database.shared:
            for _ in range(LOOKS):
                if self.view.people.end >= offset:
                    break
                self.world.sleep(WAIT_S / LOOKS)
                self.look()
            return self.view.people.end >= offset
        with self._applied:
            return self._applied.wait_for(lambda: self.view.people.end >= offset, WAIT_S)

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

    def recommend(
        self, question: Mapping[str, Any], request_id: str, *, previous: Sequence[Any] = ()
    ) -> dict[str, Any]:
        """Return the body of one answer, and log it. `question` has the keys of the API, `previous` what was shown."""
        body, slate = self.answered(question, request_id, previous=previous)
        self.log_slate(slate)
        return body

    def answered(
        self, question: Mapping[str, Any], request_id: str, *, previous: Sequence[Any] = ()
    ) -> tuple[dict[str, Any], LogEvent]:
        """Return the body of one answer, and what the log is to keep of it."""
        self.look()
        stale = not self.wait_for(question.get("min_offset"))
        view = self.view
        scenario, pipeline, experiment = self._arm(view, question)
        asked, unknown = asked_of(view, scenario, question, previous, self.world)
        asked = replace(asked, draw=request_id)
        answer = self._run(view, pipeline, asked)
        body = body_of(view, scenario, question, request_id, answer, unknown)
        body |= {"stale": stale, "experiment": experiment}
        if question.get("explain"):
            explain(view, asked, answer, body)
        return body, slate_of(view, question, asked, answer, body, previous)

    def _pipeline(self, view: View, question: Mapping[str, Any]) -> tuple[Scenario, LivePipeline]:
        name = question.get("scenario") or DEFAULT.name
        if name not in view.pipelines:
            raise RequestError(f'scenario is "{name}"; this server has {", ".join(sorted(view.pipelines))}.')
        return self.scenarios[name], view.pipelines[name]

    def _arm(self, view: View, question: Mapping[str, Any]) -> tuple[Scenario, LivePipeline, dict[str, str] | None]:
        """Return what answers a question, and which experiment and arm that is: none for who cannot be met again."""
        plain = self._pipeline(view, question)
        trial = view.trials.of.get(question.get("scenario") or DEFAULT.name)
        known = trial is not None and question.get("history") is None
        unit = view.people.key(question.get("user_id"), question.get("session_id")) if known else None
        scenario, pipeline, mark = (*plain, None) if trial is None or unit is None else trial.arm(unit)
        chance = question.get("exploration")
        return scenario, pipeline if chance is None else pipeline.choosing(trying(chance)), mark

    def _run(self, view: View, pipeline: LivePipeline, asked: Asked) -> Answer:
        """Return the pipeline's answer, that of the popular list where it fails; failures are counted."""
        self._tries[0] += 1
        try:
            answer = pipeline.run(asked)
            if not np.isfinite(answer.scores).all():  # neither JSON nor SQLite could read it
                raise ScoreError("a score of the answer is not finite.")
        except RequestError:
            raise
        except Exception as error:
            LOG.exception("version %s failed: %s", view.version, error)
            self._failed(view)
            answer = pipeline.popular(asked, "model_failed")
        self.metrics.slate({step.stage: step.ms for step in answer.trace}, answer.fallback)
        return answer

    def log_slate(self, event: LogEvent) -> None:
        """Log what is about to be shown, without waiting for the disk."""
        self._slates[event.event_id] = event
        if len(self._slates) > REMEMBERED:
            self._slates.popitem(last=False)
        try:
            self.take([event])
        except (Overloaded, DatabaseBroken):  # an answer that nobody will learn from is better than none
            self.metrics.events("lost", 1)

    def slate(self, request_id: str) -> LogEvent:
        """Return the log's event of an answer that was served; raises `UnknownItemError`."""
        event = self._slates.get(request_id)
        if event is None:
            found = self.log.find(request_id)
            event = None if found is None or found[1].event != SLATE else found[1]
        if event is None or event.context is None:
            raise UnknownItemError(f"no answer has the request_id {request_id!r}.")
        return event

    def after(self, request_id: str) -> tuple[dict[str, Any], list[Any]]:
        """Return the question of the slate that follows one, and what stood in it and before it."""
        document = json.loads(str(self.slate(request_id).context))
        return document["question"], [*document["previous"], *document["items"]]

    def why(self, question: Mapping[str, Any], item_id: Any) -> dict[str, Any]:
        """Return which stages an item passes for somebody, and which one it leaves at."""
        view = self.view
        row = self._row(view, item_id)
        scenario, pipeline, _ = self._arm(view, question)
        asked, _ = asked_of(view, scenario, question, (), self.world)
        stages = pipeline.why(asked, row)
        return {
            "item_id": item_id,
            "shown": bool(stages) and stages[-1].kept,
            "stages": [{"stage": one.stage, "kept": one.kept, "detail": one.detail} for one in stages],
            **(causes_of(view, asked, row) if question.get("explain") else {"reasons": [], "without": None}),
        }

    def ranked(self, question: Mapping[str, Any], request_id: str) -> dict[str, Any]:
        """Return a given list in the order that suits somebody; what is not known or not allowed is left out."""
        view = self.view
        scenario, pipeline = self._pipeline(view, question)
        rows = view.rows(question["items"])
        asked, unknown = asked_of(view, scenario, {**question, "k": len(rows)}, (), self.world)
        answer = pipeline.rank_list(asked, np.unique(rows[rows >= 0]))
        body = body_of(view, scenario, question, request_id, answer, unknown + int((rows < 0).sum()))
        if question.get("explain"):
            explain(view, asked, answer, body)
        return body

    def similar(self, question: Mapping[str, Any], request_id: str) -> dict[str, Any]:
        """Return the items most like some; raises `UnknownItemError` for one that is not known."""
        view = self.view
        rows = np.array([self._row(view, one) for one in question["items"]], np.int64)
        where = question.get("where")
        allowed = allowed_of(view, where, self.world.now())
        allowed[rows] = False
        allowed[known_rows(view.rows(question.get("exclude_items") or ()))] = False
        rec = view.recommender
        with torch.inference_mode():
            draw = partial(torch_stream, rec.run.seed, "ties")
            found = view.scorer.like(rows[view.scorer.knows(rows, view.n_known)], question["k"], allowed, draw)
        if found is None:
            raise RequestError(f"{rec.name} knows no likeness of these items. Train itemknn, ease or lightgcn.")
        return body_of(view, None, question, request_id, Answer.plain(*found, "model"), 0)

    def search(self, question: Mapping[str, Any], request_id: str) -> dict[str, Any]:
        """Return the items whose content is closest to a text, to the bytes of a picture, or to both."""
        view = self.view
        rec, allowed = view.recommender, allowed_of(view, question.get("where"), self.world.now())
        sought = rec.contents.sought(question.get("text") or "", question.get("image"))
        assert view.places is not None
        with torch.inference_mode():
            scores = sought @ view.places.T
            scores[:, ~view.places.any(dim=1)] = -torch.inf
            found = best(scores, allowed, question["k"], partial(torch_stream, rec.run.seed, "ties"))
        return body_of(view, None, question, request_id, Answer.plain(*found, "content"), 0)

    def alike(self, user_id: Any, k: int) -> list[dict[str, Any]]:
        """Return the users most like one, by the items that they share; raises `UnknownItemError`."""
        rec = self.view.recommender
        user = rec.user_ids.row(user_id)
        if user < 0:
            raise UnknownItemError(f"no user has the id {user_id!r}.")
        rows, cosine = rec.users_like(user, k)
        return [
            {"user_id": rec.user_ids[row], "score": float(one)} for row, one in zip(rows.tolist(), cosine, strict=True)
        ]

    def board(self, name: str, k: int, where: str | None, request_id: str) -> dict[str, Any]:
        """Return the first items of a board: popular, trending or latest."""
        view = self.view
        boards = {"popular": view.shelf.popular, "trending": view.shelf.trending, "latest": view.shelf.latest}
        if name not in boards:
            raise UnknownItemError(f'no list is named "{name}". There are {", ".join(boards)}.')
        allowed, order = allowed_of(view, where, self.world.now()), boards[name]
        rows = of_board(order, allowed, k)
        scores = {"popular": view.tally.chosen, "trending": view.tally.hot}.get(name)
        worth = scores[rows] if scores is not None else -np.arange(len(rows), dtype=float)
        return body_of(view, None, {}, request_id, Answer.plain(rows, worth, name), 0)

    def _row(self, view: View, item_id: Any) -> int:
        row = view.row(item_id)
        if row < 0:
            raise UnknownItemError(f"no item has the id {item_id!r}.")
        return row

    # ── versions ──────────────────────────────────────────────────────────────────────────────────────────────

    def swap(self, version: str) -> None:
        """Take a published version into use; raises `BundleError` for one that is not fit to serve."""
        with self._changing:
            old, view = self.view, self._kept(version)
            if view is None:
                self._before = None  # with the one that is made, two versions are held and no more
                rec = silenced(load(self.run, version=version, world=self.world), self._erased)
                view = self.maker.view(rec, self._people(rec.log_offset))
                self._prove(view)
            self._catch_up(view, self.log.end)  # most of it, while events go on being committed
            view = self.maker.with_boards(view)

            def take_over() -> None:
                self._catch_up(view, self.log.end)
                previous = self.view.recommender.version
                self._previous, self._tries = None if previous == self._refused else previous, [0, 0]

            self._replace(view, take_over)
            self._before = old
        self.metrics.swap("taken")
        LOG.info("version %s is in use", version)

    def forget(self, names: Collection[str]) -> None:
        """Let users of these names, and no others, be nobody from the next answer on; memory is made anew from the log.

        The names are those of whoever is being erased, until no version knows them.
        """
        with self._changing:
            self.look()
            self._erased, self._before, self._previous = frozenset(names), None, None
            self._slates.clear()  # those that are on the disk are found there
            self._undone.clear()
            self.exploring = Exploring(self.log, self.world)  # it is taught again, from what is left
            old = self.view
            rec = silenced(old.recommender, self._erased)
            view = self.maker.view(rec, self._people(rec.log_offset), old=old)
            self._catch_up(view, self.log.end)
            view = self.maker.with_boards(view)
            self._replace(view, lambda: self._catch_up(view, self.log.end))

    def _kept(self, version: str) -> View | None:
        """Return the view that was in use before this one, where it is of that version: going back loads nothing."""
        view = self._before
        if view is None or view.recommender.version != version:
            return None
        declared_now = self.schemas.current.number
        state = (view.followed, view.declared.number, view.trials.salts)
        if state == (self.catalogue.last, declared_now, self.laboratory.store.salts()):
            return view
        fresh = self.maker.view(view.recommender, view.people, old=view)  # catalogue or schema went on
        if view.declared.number == declared_now:
            fresh.tally.go_on(view.tally, fresh.row)
        else:
            for some in self.log.stretches(view.people.start, view.people.end):
                fresh.count_all(some, self.world.now())
        return fresh

    def promote(self, version: str) -> None:
        """Make a version the published one and take it into use; raises `BundleError` for one that is not fit."""
        with self._changing:
            self.swap(version)
            self._refused = None
            bundles.point(self.run, version, world=self.world)

    def _replace(self, view: View, before: Callable[[], None]) -> None:
        """Let a view take the place of the one in use between two commits, after `before` was called there."""

        def take_over() -> None:
            before()
            if self.database.shared:  # nobody waits there with taking back until a view is made
                for offset, event in self._undone:
                    self._take_back(view, offset, event)
            with self._building:
                view.obey(self.catalogue.changes("item", view.followed), self.world.now())
                self.view = view

        self.database.between(take_over)

    def status(self) -> dict[str, Any]:
        """Return what the server holds and how far it is."""
        view = self.view
        return {
            "model": view.recommender.name,
            "model_version": view.recommender.version,
            "users": len(view.recommender.user_ids),
            "items": len(view.shelf.items),
            "new_items": len(view.extra),
            "available_items": int(view.shelf.available.sum()),
            "log_offset": self.log.end,
            "trained_to": view.recommender.log_offset,
            "people_since": len(view.people),
            "failures_since_swap": self._tries[1],
            "keys": len(self.keys.all()),
        }

    def known(self, kind: Kind, document_id: Any) -> Stored | None:
        """Return a document, or what the model's item table says where there is none; None for what nobody knows."""
        found, view = self.catalogue.get(kind, document_id), self.view
        row = view.row(document_id) if kind == "item" else -1
        if found is not None or row < 0 or not view.shown[row]:  # hidden without a document: it was deleted
            return found
        names = [name for name in view.shelf.items.columns if name != "item_id"]
        return Stored(view.item_id(row), view.properties(row, names), True, None, 0, False, 0)

    def put_many(self, kind: Kind, rows: Sequence[Row], *, whole: bool) -> list[Stored | DataError]:
        """Put many documents; return what became of each, in order: of one that cannot be kept, the error."""
        last = self.catalogue.last
        outcomes = self.catalogue.put_many(kind, rows, whole=whole)
        self.heed(kind, last)
        return outcomes

    def patch(self, kind: Kind, document_id: Any, change: Mapping[str, Any], if_match: str | None) -> Stored:
        """Merge a change into a document; one that only the model knows gets a document of its own by it."""
        self._document(kind, document_id)
        return self.catalogue.patch(kind, document_id, change, if_match=if_match)

    def delete(self, kind: Kind, document_id: Any, if_match: str | None) -> None:
        """Take a document away; an item is then shown to nobody, also one that only the model knew."""
        self._document(kind, document_id)
        last = self.catalogue.last
        self.catalogue.delete(kind, document_id, if_match=if_match)
        self.heed(kind, last)

    def _document(self, kind: Kind, document_id: Any) -> None:
        """Make a document of an item that only the model knows."""
        with self._documenting:
            if self.catalogue.get(kind, document_id) is None and (known := self.known(kind, document_id)) is not None:
                self.catalogue.put(kind, known.id, {})

    def heed(self, kind: Kind, since: int) -> None:
        """Let the next request see at once which items are there, by what came after a change of the catalogue."""
        if kind == "item":
            with self._building:
                self.view.obey(self.catalogue.changes(kind, since), self.world.now())

    def _prove(self, view: View) -> None:
        """Raise `BundleError` unless a version answers somebody, nobody and a stranger with finite scores."""
        users = view.recommender.user_ids.values[:3].to_list()
        items = view.recommender.item_ids.values[:2].to_list()
        questions: list[dict[str, Any]] = [{"user_id": one} for one in users] + [{}, {"history": items}]
        for question in questions:
            scenario, pipeline = self._pipeline(view, question)
            try:
                answer = pipeline.run(asked_of(view, scenario, question, (), self.world)[0])
            except Exception as error:
                raise BundleError(f"version {view.version} cannot answer {question}: {error}") from error
            if not np.isfinite(answer.scores).all():
                raise BundleError(f"version {view.version} answers {question} with scores that are not finite.")

    def _failed(self, view: View) -> None:
        """Count a failure; a fresh version that fails too often makes room for the one before it."""
        self._tries[1] += 1
        asked, failed = self._tries
        previous = self._previous
        if previous is None or asked > TRIED or failed < max(3, BAD_SHARE * TRIED):
            return
        self._refused, self._previous = view.version, None
        LOG.error("version %s failed %s of %s requests: rolled back to %s", view.version, failed, asked, previous)
        self.metrics.swap("rolled_back")
        bundles.point(self.run, previous, world=self.world)

    def _keep(self) -> None:
        """Follow the published version, the catalogue and the boards until the server stops."""
        turn = 0
        while not self._stopping.wait(KEEP_S):
            turn += 1
            try:
                self.tend(boards=turn % BOARDS_EVERY == 0)
            except BowerbirdError as error:
                LOG.error("%s", error)
            except Exception:  # whatever it was, the next look may find it mended
                LOG.exception("the keeper failed")

    def tend(self, *, boards: bool = True) -> None:
        """Do once what the keeper does again and again; boards of many items take it some milliseconds."""
        self.look()
        if self._forgetting:
            self._forgetting = False
            self.forget(erasures.names_of(self.run, world=self.world))
        with self._changing:
            self._follow_run()
            back = self.world.now() < self.view.tally.zero - HALF_LIFE_S  # the clock was wrong when these were counted
            if back or self.schemas.current.number != self.view.declared.number:
                self._recount()
            if self.catalogue.last > self.view.followed:
                self._renew()
        self.laboratory.look()
        self.follow_experiments()
        self.laboratory.guard()
        self.view.expire(self.world.now())
        self.exploring.teach(self.view)
        if boards:
            self._shape_boards()

    def _follow_run(self) -> None:
        """Take the published version into use, unless it was refused before."""
        published = bundles.POINTER in self.world.names(self.run)
        current = bundles.current(self.run, world=self.world) if published else self.view.recommender.version
        if current is not None and current not in (self.view.recommender.version, self._refused):
            try:
                self.swap(current)
            except Exception:
                self._refused = current
                self.metrics.swap("refused")
                raise

    def follow_experiments(self) -> None:
        """Let the next answer be of the experiments that were found running; who comes meanwhile waits for that."""
        if self.laboratory.salts != self.view.trials.salts:
            with self._changing:
                if self.laboratory.salts != self.view.trials.salts:
                    self._renew()

    def _renew(self) -> None:
        """Bring a changed catalogue into use: new items get rows, properties new values; and other experiments."""
        old = self.view
        view = self.maker.view(old.recommender, old.people, old=old)
        self._replace(view, lambda: view.tally.go_on(old.tally, view.row))

    # ── schema ────────────────────────────────────────────────────────────────────────────────────────────────

    def declare(self, events: Sequence[Mapping[str, Any]], if_match: str | None) -> None:
        """Put event types in force, in the place of those declared before, for the very next event and answer.

        Raises `RequestError` for more types than can be told apart, and as `Schemas.put`.
        """
        with self._changing:
            own = self.view.recommender.schema.events
            n = len(declared(own, (EventType(**kind) for kind in events)))
            if n > MOST_KINDS:
                raise RequestError(f"that makes {n} event types; {MOST_KINDS} are the most. Leave some out.")
            if self.schemas.put(events, if_match=if_match).number != self.view.declared.number:
                self._recount()

    def _recount(self) -> None:
        """Bring other event types into use: what their events are worth is counted again, from the log."""
        old = self.view
        view, counted = self.maker.view(old.recommender, old.people, old=old), old.people.start

        def count() -> None:
            nonlocal counted
            end = self.log.end
            for some in self.log.stretches(counted, end):
                view.count_all(some, self.world.now())
            counted = end

        count()  # most of it, while events go on being committed
        view = self.maker.with_boards(view)
        self._replace(view, count)
