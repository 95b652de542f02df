"""A server's whole life in one process, from a seed: ingest, update, swap, serve, and faults in between.

The engine, the database, the publication of versions and the update are those of the product. Around them everything is
staged: bundles lie in memory, SQLite on a `Disk`, the clock stands until it is moved, chance is drawn from the seed. So
the same seed dies at the same write. Each life is some dozens of steps; after each death the server starts again on
what was left, and what it then holds is compared with what it had promised: a plain list of acknowledgements, which
knows nothing of how they are kept.
"""

import errno
import threading
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

import bowerbird as bb
from _disk import FULL, IOERR_FSYNC, Disk
from bowerbird.cli.versions import run_update
from bowerbird.core import BowerbirdError, RealWorld
from bowerbird.pipeline.scenario import Scenario
from bowerbird.recommender import UpdateOptions
from bowerbird.serving import Engine
from bowerbird.store import bundles
from bowerbird.store.catalogue import Stored
from bowerbird.store.database import Database, DatabaseBroken
from bowerbird.store.deeds import read_deeds
from bowerbird.store.log import SLATE, LogEvent
from bowerbird.testing import halves

RUN = Path("/run")  # in memory
NOW, DAY_S = 1_700_000_000, 86_400
STEPS = 40
K = 5
QUESTIONS: list[dict[str, Any]] = [{"user_id": f"u{n}", "k": K} for n in range(4)] + [
    {"session_id": "s1", "k": K},
    {"k": K},
]
PLAIN = {"plain": Scenario(name="plain", k=K)}  # it reads no texts, which would be most of a start
UPDATE = UpdateOptions(holdout=0.0, epochs=1)


class Died(BaseException):
    """The process is gone."""


class StagedWorld(RealWorld):
    """Files in memory, a clock that is moved by hand, and faults where a life wants them."""

    def __init__(self, files: dict[Path, bytes], rng: np.random.Generator, disk: Disk) -> None:
        self.files, self.rng, self.disk = dict(files), rng, disk
        self.at = NOW
        self.before: Callable[[Path], None] = lambda path: None  # called before each change; may raise
        self._held: set[Path] = set()

    def now(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody in one process waits for another one")

    def token(self) -> str:
        return self.rng.bytes(13).hex()

    def read(self, path: Path) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def write(self, path: Path, data: bytes) -> None:
        self.files[path] = data[: int(self.rng.integers(len(data) + 1))]  # what a death in the middle leaves
        self.before(path)
        self.files[path] = data

    def replace(self, old: Path, new: Path) -> None:
        self.before(new)
        moved = {new / path.relative_to(old): data for path, data in self.files.items() if path.is_relative_to(old)}
        self.files = {path: data for path, data in self.files.items() if not path.is_relative_to(old)} | moved

    def names(self, folder: Path) -> list[str]:
        depth = len(folder.parts)
        return sorted({path.parts[depth] for path in self.files if path.is_relative_to(folder) and path != folder})

    def make_folder(self, path: Path) -> None:
        """Folders are there where files are."""

    def remove_folder(self, path: Path) -> None:
        self.before(path)
        self.files = {one: data for one, data in self.files.items() if not one.is_relative_to(path)}

    def lock(self, path: Path) -> Callable[[], None] | None:
        if path in self._held:
            return None
        self._held.add(path)
        return lambda: self._held.discard(path)

    def connect(self, address: str) -> Any:
        return self.disk.connect(address)


@dataclass
class Promised:
    """What was acknowledged, and what was under way when the process died: that may have happened or not."""

    sent: dict[str, LogEvent] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)  # event_id → offset
    taken_back: set[str] = field(default_factory=set)
    maybe_taken_back: set[str] = field(default_factory=set)
    items: dict[str, tuple[bool, int]] = field(default_factory=dict)  # item_id → there and available, a number
    maybe_items: dict[str, set[tuple[bool, int]]] = field(default_factory=dict)
    version: str = ""  # that was published, promoted or rolled back to last
    maybe_version: set[str] = field(default_factory=set)
    written: dict[str, bytes] = field(default_factory=dict)  # version → its manifest

    def hidden(self, user_id: str) -> set[str]:
        """Return the items that a user chose for certain."""
        gone = self.taken_back | self.maybe_taken_back
        return {
            str(self.sent[one].item_id) for one in self.events if one not in gone and self.sent[one].user_id == user_id
        }


class Life:
    """One seed."""

    def __init__(self, seed: int, folder: Path, first: dict[Path, bytes], *, honest: bool = True) -> None:
        """`first` are the files of a run directory; a disk that is not `honest` forgets what it said that it synced."""
        self.rng, self.folder, self.honest = np.random.default_rng(seed), folder, honest
        self.lives, self.faults, self.counts = 0, list[str](), dict[str, int]()
        self.promised = Promised(version="000001")
        self.next_event = 0
        self.past = _past()
        self.left: tuple[dict[str, bytes], dict[Path, bytes]] | None = None  # after a death: SQLite's files, and ours
        self.at = NOW
        self._start({}, first)

    # ── lives ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, database: dict[str, bytes], files: dict[Path, bytes]) -> None:
        """Start a server on what there is."""
        self.lives += 1
        data = self.folder / str(self.lives)
        self.disk = Disk(data, honest=self.honest)
        for name, content in database.items():
            (data / name).write_bytes(content)
        self.world = StagedWorld(files, self.rng, self.disk)
        self.world.at = self.at
        self.world.before = lambda path: self._must_live()
        self.left = None
        self.engine = Engine(RUN, data.resolve(), world=self.world, scenarios=PLAIN, keep=False)

    def _must_live(self) -> None:
        if self.disk.dead:
            raise Died

    def die(self, how: str) -> None:
        """End the process here and now: killed, or by a power cut."""
        database = self.disk.files() if how == "kill" else self.disk.after_cut(self.rng)
        self.left = database, dict(self.world.files)
        self.disk.dead = True
        self.count(how)

    def revive(self) -> None:
        """Start again on what was left, and compare it with what was promised."""
        assert self.left is not None
        database, files = self.left
        self._end()
        try:
            self._start(database, files)
        except BowerbirdError as error:
            self.faults.append(f"did not start again: {error}")
            raise Died from None
        self.verify()

    def restart(self) -> None:
        """Stop and start again, as people do; what is in memory must be as it was."""
        before = self.memory()
        self._end()
        self._start(self.disk.files(), self.world.files)
        self.verify()
        if self.memory() != before:
            self.faults.append("memory after a restart is not what it was")

    def _end(self) -> None:
        with suppress(BowerbirdError, Died):
            self.engine.close()
        self.disk.close()

    def memory(self) -> Any:
        """Return what is known of people and counts, in a form that can be compared."""
        engine = self.engine
        engine.tend()
        view = engine.view
        people = {key: view.people.deeds(key) for key in ("u0", "u1", "u2", "u3", "s1")}
        chosen = {str(view.item_id(row)): round(float(n), 6) for row, n in enumerate(view.tally.chosen) if n}
        return engine.log.end, people, chosen, view.version, sorted(map(str, view.extra))

    # ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self) -> None:
        """Do one thing, in which a fault may come."""
        names, weights = zip(*CHANCES.items(), strict=True)
        name = names[self.rng.choice(len(names), p=np.array(weights) / sum(weights))]
        self.count(name)
        fault = self.arm() if name in CHANGES and self.rng.random() < 0.3 else ""
        with suppress(Died), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            getattr(self, name)()
        self.disk.before = lambda what, name: 0
        self.world.before = lambda path: self._must_live()
        if fault == "sync" and self.left is None:
            self.mended()
        if self.left is not None:
            self.revive()

    def arm(self) -> str:
        """Let a fault wait for one of the next changes of the disk; return its kind."""
        kind = str(self.rng.choice(["kill", "cut", "full", "sync"]))
        left = int(self.rng.integers(1, 12))

        def spend(what: str) -> int:
            nonlocal left
            left -= what == "sync" or kind != "sync"
            if left == 0 and kind in ("kill", "cut"):
                self.die(kind)
            if left <= 0 and kind == "full" and what == "write":
                self.count("full")
                return FULL
            if left == 0 and kind == "sync":
                self.count("sync")
                return IOERR_FSYNC
            return 0

        def before(path: Path) -> None:
            self._must_live()
            error = spend("write" if kind != "sync" else "sync")
            self._must_live()
            if error:
                raise OSError(errno.ENOSPC if error == FULL else errno.EIO, "staged", str(path))

        self.disk.before = lambda what, name: spend(what)
        self.world.before = before
        return kind

    def mended(self) -> None:
        """After a sync that failed, nothing may be written until a restart, and reading goes on."""
        group = [self.event()]
        try:
            self.acknowledged(group, self.engine.take(group).result())  # it was a sync that can be made up for
        except DatabaseBroken:
            self.ask()
            self.die("kill")

    def event(self) -> LogEvent:
        """Return a new event."""
        self.next_event += 1
        rng, event_id = self.rng, f"e{self.next_event}"
        who = {"session_id": "s1"} if rng.random() < 0.2 else {"user_id": f"u{rng.integers(4)}"}
        item = f"n{rng.integers(6)}" if rng.random() < 0.3 else f"i{rng.integers(40)}"
        made = LogEvent(event_id=event_id, event="interaction", item_id=item, time=self.at, **who)
        self.promised.sent[event_id] = made
        return made

    def events(self) -> None:
        """Send events of several people, which share a commit; some were sent before."""
        hold = threading.Event()
        database = self.engine.database
        assert isinstance(database, Database)
        with suppress(BowerbirdError):
            database.write(lambda connection: hold.wait())
        asked = []
        for _ in range(int(self.rng.integers(1, 5))):
            again = list(self.promised.sent.values())
            group = [self.event() for _ in range(int(self.rng.integers(1, 4)))]
            group += [again[int(self.rng.integers(len(again)))]] if again and self.rng.random() < 0.4 else []
            with suppress(BowerbirdError):
                asked.append((group, self.engine.take(group)))
        hold.set()
        for group, future in asked:
            with suppress(BowerbirdError):
                self.acknowledged(group, future.result())

    def acknowledged(self, group: list[LogEvent], appended: Any) -> None:
        """Note what was promised of events."""
        fresh = {one.event_id: appended.start + n for n, one in enumerate(appended.fresh)}
        for one in group:
            if one.event_id in fresh and one.event_id in self.promised.events:
                self.faults.append(f"{one.event_id} was taken for new, and had been acknowledged")
            if one.event_id in fresh:
                self.promised.events[one.event_id] = fresh[one.event_id]
            elif one.event_id not in self.promised.events:  # it had been under way at a death
                found = self.engine.log.find(one.event_id)
                if found is None and one.event_id not in self.promised.maybe_taken_back:
                    self.faults.append(f"{one.event_id} was called a duplicate, and is not there")
                elif found is not None:
                    self.promised.events[one.event_id] = found[0]

    def take_back(self) -> None:
        """Take back an event."""
        there = [one for one in self.promised.events if one not in self.promised.taken_back]
        if not there:
            return
        event_id = there[int(self.rng.integers(len(there)))]
        self.promised.maybe_taken_back.add(event_id)
        with suppress(BowerbirdError):
            if self.engine.retract(event_id) is not None:
                self.promised.taken_back.add(event_id)

    def document(self) -> None:
        """Put, hide or delete an item, known to the model or not."""
        item = f"n{self.rng.integers(6)}" if self.rng.random() < 0.6 else f"i{self.rng.integers(40)}"
        self.next_event += 1
        kind = self.rng.integers(3)
        said = (bool(kind == 0), self.next_event if kind < 2 else -1)
        maybe, before = self.promised.maybe_items.setdefault(item, set()), self.engine.known("item", item)
        maybe.add(said)
        if kind == 2 and self.engine.catalogue.get("item", item) is None:  # an empty document comes before its end
            maybe.add((True, 0))
        with suppress(BowerbirdError):
            if kind < 2:
                kept = self.engine.put_many("item", [(item, {"n": said[1]}, said[0], None)], whole=True)
                assert isinstance(kept[0], Stored)
            else:
                self.engine.delete("item", item, None)
            if kind < 2 or before is not None:  # to delete what nobody knows promises nothing of what comes later
                self.promised.items[item] = said
            del self.promised.maybe_items[item]

    def ask(self) -> None:
        """Ask for a slate, and hold it against what was promised."""
        question = QUESTIONS[int(self.rng.integers(len(QUESTIONS)))]
        body, slate = self.engine.answered(question, self.world.token())
        with suppress(BowerbirdError):
            self.engine.take([slate]).result()
        user = str(question.get("user_id", ""))
        self.count("answers")
        shown = [str(one["item_id"]) for one in body["items"]]
        if not shown or len(set(shown)) < len(shown):
            self.faults.append(f"a slate of {len(shown)} items, {len(set(shown))} of them different")
        known, promised = {f"i{n}" for n in range(40)}, self.promised
        for item in shown:
            if item in promised.maybe_items:
                continue
            there = promised.items.get(item, (item in known, 0))[0]
            if not there or item in promised.hidden(user) | self.past.get(user, set()):
                self.faults.append(f"{item} was shown to {user or 'nobody'}: there {there}")
        if not np.isfinite([one["score"] for one in body["items"]]).all():
            self.faults.append("scores are not finite")
        if body["model_version"] not in self.promised.written:
            self.faults.append(f"version {body['model_version']} answered, which is not whole")

    def learn(self) -> None:
        """Learn from the log, publish, and take the version into use."""
        promised = self.promised
        promised.maybe_version.add(bundles.next_version(RUN, world=self.world))
        with suppress(BowerbirdError, OSError):
            run_update(
                RUN, read_log=lambda start: read_deeds(self.engine.data, start), options=UPDATE, world=self.world
            )
            promised.version = bundles.current(RUN, world=self.world)
            promised.maybe_version.clear()
        self.whole_versions()
        self.engine.tend()

    def roll_back(self) -> None:
        """Go back to the version before."""
        with suppress(BowerbirdError, OSError):
            version = bundles.before(RUN, str(self.engine.view.version), world=self.world)
            self.promised.maybe_version.add(version)
            self.engine.promote(version)
            self.promised.version = version
            self.promised.maybe_version.clear()

    def wait(self) -> None:
        """Let time go by, or back: clocks are set."""
        self.at += int(self.rng.choice([60, 3_600, DAY_S, -DAY_S, -60]))
        self.world.at = self.at
        self.engine.tend()

    def kill(self) -> None:
        """End the process between two requests."""
        self.die("kill")

    def cut(self) -> None:
        """Cut the power between two requests."""
        self.die("cut")

    # ── what is held against it ───────────────────────────────────────────────────────────────────────────────

    def verify(self) -> None:
        """Compare what a server holds that was started again with what was promised."""
        self._verify_events()
        self._verify_items()
        self.whole_versions()
        promised, current = self.promised, bundles.current(RUN, world=self.world)
        if current not in {promised.version} | promised.maybe_version:
            self.faults.append(f"version {current} is in force; {promised.version} was published")
        promised.version = current
        promised.maybe_version.clear()
        with self.engine.database.reader() as connection:
            said = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if said != "ok":
            self.faults.append(f"integrity: {said}")

    def _verify_events(self) -> None:
        promised = self.promised
        found = list(self.engine.log.walk())
        stored = {one.event_id: (offset, one) for offset, one in found if one.event != SLATE}
        if len(stored) < sum(one.event != SLATE for _, one in found):
            self.faults.append("an event is there twice")
        for event_id in promised.maybe_taken_back - promised.taken_back:
            if event_id not in stored:
                promised.taken_back.add(event_id)
        promised.maybe_taken_back = set(promised.taken_back)
        lost = [one for one in promised.events if one not in promised.taken_back and one not in stored]
        self.count("lost", len(lost))
        self.faults += [f"{one} was acknowledged and is lost" for one in lost]
        for event_id, (offset, one) in stored.items():
            if one != promised.sent.get(event_id) or promised.events.get(event_id, offset) != offset:
                self.faults.append(f"{event_id} is not what was sent, or not where it was")
            if event_id in promised.taken_back:
                self.faults.append(f"{event_id} is back")
            promised.events[event_id] = offset

    def _verify_items(self) -> None:
        promised = self.promised
        for item in set(promised.items) | set(promised.maybe_items):
            found = self.engine.catalogue.get("item", item)
            said = (found.available, int(found.properties.get("n", 0))) if found is not None else (False, -1)
            known = promised.items.get(item)
            may = promised.maybe_items.get(item, set()) | ({known} if known else {(False, -1), (True, 0)})
            if said not in may:
                self.faults.append(f"item {item} is {said}; it was put as {known}")
            if known or found is not None:
                promised.items[item] = said
        promised.maybe_items.clear()

    def whole_versions(self) -> None:
        """Read every version that is there: all are whole, whatever happened."""
        for version in bundles.versions(RUN, world=self.world):
            manifest = self.world.files[RUN / "bundles" / version / bundles.MANIFEST]
            if self.promised.written.get(version) != manifest:
                try:
                    bundles.read(RUN, version=version, world=self.world)
                    self.promised.written[version] = manifest
                except BowerbirdError as error:
                    self.faults.append(f"version {version} is not whole: {error}")

    def count(self, name: str, n: int = 1) -> None:
        """Count what happened."""
        self.counts[name] = self.counts.get(name, 0) + n


CHANGES = {"events": 8, "take_back": 1, "document": 3, "learn": 1, "roll_back": 1}
CHANCES = {**CHANGES, "ask": 6, "wait": 1, "restart": 0.5, "kill": 0.5, "cut": 0.5}


def live(seed: int, folder: Path, first: dict[Path, bytes], *, honest: bool = True) -> Life:
    """Live the life of a seed to its end; what went wrong is in its `faults`."""
    life = Life(seed, folder, first, honest=honest)
    life.whole_versions()
    try:
        for _ in range(STEPS):
            life.step()
            if life.faults:
                break
    except Died:
        assert life.faults
    finally:
        life._end()
    life.count("acked", len(life.promised.events))
    return life


def first_run(folder: Path) -> dict[Path, bytes]:
    """Return the files of a run directory with one version; it is made in an empty folder."""
    bb.fit(halves(), "popularity").save(folder)
    return {RUN / path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@cache
def _past() -> dict[str, set[str]]:
    """Return what users of the world of halves chose before."""
    train = halves().train
    users, items = train.user_ids.values.to_list(), train.item_ids.values.to_list()
    past: dict[str, set[str]] = {}
    for user, item in zip(train.user.tolist(), train.item.tolist(), strict=True):
        past.setdefault(users[user], set()).add(items[item])
    return past
