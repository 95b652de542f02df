"""Jobs: work that takes longer than a request may. One at a time, in a thread of its own.

They are remembered as long as the server runs. One that a stop interrupts can be started again: events and documents
that are kept already change nothing.

Files lie in folders of the data directory and are named, never given by path: what is imported is read from `imports`,
what is exported is written to `exports`, backups to `backups`.
"""

import json
import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel

from bowerbird.core import RequestError, UnknownItemError
from bowerbird.privacy.erasure import STEPS, Place, begin, certify, do
from bowerbird.serving.engine import Engine
from bowerbird.serving.intake import Rejected, json_lines, put_rows, sensible, take_in
from bowerbird.serving.workers import Workers
from bowerbird.store import backups, erasures, exports
from bowerbird.store.catalogue import Kind
from bowerbird.store.feedback import feedback, in_parts
from bowerbird.store.following import Following

LOG = logging.getLogger("bowerbird.jobs")
AT_ONCE = 1000  # rows of one step of a job
FEEDBACK = ("feedback", "orphans")
KIND_OF: dict[str, Kind] = {"items": "item", "users": "user"}
TRAIN = "import sys; from bowerbird.privacy.erasure import train; train(*sys.argv[1:])"
NICE = 10  # how much the trainer gives way to requests
TURN_S = 0.2  # between two looks whether another server is done with its erasure
State = Literal["waiting", "running", "done", "failed", "cancelled"]


class Job(BaseModel):
    """One job."""

    id: str
    kind: str
    what: str | None
    file: str | None
    state: State
    started: int
    done: int = 0  # rows so far
    detail: str = ""


class Cancelled(Exception):
    """The job was asked to stop."""


class Jobs:
    """The jobs of one server; every `update_every` seconds, unless that is 0, one that learns from what is new."""

    def __init__(self, engine: Engine, *, workers: Workers | None = None, update_every: float = 0.0) -> None:
        self.engine, self.world, self.update_every = engine, engine.world, update_every
        self.workers = workers or Workers(engine)
        self.keys: dict[str, str] = {}  # of certificates: they are given out while this server runs, and kept nowhere
        self._erasing = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._cancelled: set[str] = set()
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()
        self._stopping = threading.Event()
        for begun in erasures.going_on(engine.run, world=self.world):  # a stop came in between
            self.erase(begun.user_id)
        if update_every:
            threading.Thread(target=self._remind, name="updates", daemon=True).start()

    def close(self) -> None:
        """Let what runs end after its step, and start nothing more."""
        self._stopping.set()
        self._cancelled.update(self._jobs)
        self._waiting.put(None)
        self._thread.join()

    def start(self, kind: str, *, what: str | None = None, file: str | None = None) -> Job:
        """Queue a job; raises `RequestError` where it lacks something."""
        if kind in ("import", "export") and what is None:
            raise RequestError(f"an {kind} needs to know what, such as items, users or events.")
        if kind == "import":
            if what in FEEDBACK:
                raise RequestError(f"{what} can be exported only: import items, users or events.")
            if file is None:
                raise RequestError("an import needs the name of a file in the folder imports of the data directory.")
            path = self._folder("imports", file)
            if path.is_symlink() or not path.is_file():  # whoever may put files there may not read all that we may
                raise RequestError(f"imports has no file {file}.")
        job = Job(id=self.world.token(), kind=kind, what=what, file=file, state="waiting", started=self.world.now())
        self._jobs[job.id] = job
        self._waiting.put(job.id)
        return job

    def all(self) -> list[Job]:
        """Return all jobs, the newest first."""
        return list(reversed(self._jobs.values()))

    def get(self, job_id: str) -> Job:
        """Return one job; raises `UnknownItemError`."""
        if job_id not in self._jobs:
            raise UnknownItemError(f"no job has the id {job_id!r}.")
        return self._jobs[job_id]

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop."""
        job = self.get(job_id)
        if job.state in ("waiting", "running"):
            self._cancelled.add(job_id)
        return job

    def file(self, job_id: str) -> Path:
        """Return where the file of an export lies, and note that it was fetched; raises `RequestError` without one."""
        job = self.get(job_id)
        if job.kind != "export" or job.state != "done" or job.file is None:
            raise RequestError(f"job {job_id} has no file: it is {job.kind}, {job.state}.")
        path = self._folder("exports", job.file)
        exports.note(self.engine.data, "download", path, world=self.world)
        return path

    def _remind(self) -> None:
        while not self._stopping.wait(self.update_every):
            waiting = any(one.kind == "update" and one.state in ("waiting", "running") for one in self.all())
            if not waiting and self.engine.log.end > self.engine.view.recommender.log_offset:
                self.start("update")

    def _folder(self, name: str, file: str) -> Path:
        return self.engine.data / name / file

    def _work(self) -> None:
        while (job_id := self._waiting.get()) is not None:
            self._do(self._jobs[job_id])
            self._waiting.task_done()

    def _do(self, job: Job) -> None:
        try:
            self._step(job)
            job.state = "running"
            run: Callable[[Job], str] = getattr(self, f"_{job.kind}")
            job.detail, job.state = run(job), "done"
        except Cancelled:
            job.state = "cancelled"
        except Exception as error:  # the next job must find this thread alive
            job.state, job.detail = "failed", str(error)
            LOG.error("job %s (%s) failed: %s", job.id, job.kind, error)

    def _step(self, job: Job, rows: int = 0) -> None:
        """Note how far a job is; raises `Cancelled` where it was asked to stop."""
        job.done += rows
        if job.id in self._cancelled:
            raise Cancelled

    # ── kinds ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _import(self, job: Job) -> str:
        """Take in a file of JSON lines. Rows that are wrong are counted, and the first of them is told."""
        sink = self._keep_events if job.what == "events" else partial(self._keep_documents, KIND_OF[str(job.what)])
        lines = json_lines(self._folder("imports", str(job.file)), links=False)
        done = take_in(lines, sink, at_once=AT_ONCE, after=lambda rows: self._step(job, rows))
        first = f"; line {done.told[0]['row'] + 1}: {done.told[0]['detail']}" if done.told else ""
        return f"{done.kept:,} rows kept, {done.rejected:,} wrong{first}"

    def _keep_events(self, rows: list[Any]) -> tuple[int, list[Rejected]]:
        good, rejected = sensible(rows, self.engine.view.kinds, self.world.now())
        return self.engine.take(good).result().duplicates, rejected

    def _keep_documents(self, kind: Kind, rows: list[Any]) -> tuple[int, list[Rejected]]:
        kept, rejected = put_rows(self.engine, kind, rows)
        return sum(not one.created for one in kept), rejected

    def _export(self, job: Job) -> str:
        """Write everything of one kind: events and what came of answers as Parquet, documents as JSON lines."""
        job.file = f"{job.what}-{job.id}.{'jsonl' if job.what in KIND_OF else 'parquet'}"
        path = self._folder("exports", job.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        if job.what not in KIND_OF:
            frame = self._feedback(job.what) if job.what in FEEDBACK else self.engine.log.read()
            frame.write_parquet(path)
            self._step(job, len(frame))
        else:
            kind, after = KIND_OF[str(job.what)], None
            with open(path, "w", encoding="utf-8") as file:
                while found := self.engine.catalogue.page(kind, after, AT_ONCE):
                    names = ("id", "properties", "available", "expires")
                    lines = [json.dumps({name: getattr(one, name) for name in names}) + "\n" for one in found]
                    file.writelines(lines)
                    after = found[-1].id
                    self._step(job, len(found))
        return f"{job.done:,} rows in {job.file}"

    def _feedback(self, what: str) -> pl.DataFrame:
        log, worth = self.engine.log, {kind.name: kind.reward for kind in self.engine.view.kinds}
        found = feedback(in_parts(log.read, log.end), worth=worth)
        return found.places if what == "feedback" else found.orphans

    def _backup(self, job: Job) -> str:
        """Copy the database as it is at one moment, and the run directory's current version, into one folder."""
        name = f"{self.world.now()}-{job.id[:6]}"
        version = str(self.engine.view.recommender.version)
        assert not isinstance(self.engine.database, Following)  # jobs run where the writing is done
        backups.take(self.engine.database, self.engine.run, version, self._folder("backups", name))
        return f"{name}: the database, and version {version}"

    def _update(self, job: Job) -> str:
        """Let a process of its own learn from the log, giving way to requests; the keeper takes what it publishes."""
        asked = ["update", str(self.engine.run), "--data-dir", str(self.engine.data), "--json"]
        return self._beside(job, ["-m", "bowerbird", *asked], fine=(0, 3, 4))

    def _erase(self, job: Job) -> str:
        """Do what is left of an erasure: a process of its own trains, and its version is taken into use."""
        place, erasure_id = self.place, str(job.file)
        let_go = self._turn_to_erase(job)
        try:
            return self._erase_alone(job, place, erasure_id)
        finally:
            let_go()

    def _turn_to_erase(self, job: Job) -> Callable[[], None]:
        """Wait until no other server over this run directory erases; return how to let the next one."""
        lock = self.engine.run / erasures.FOLDER / ".lock"
        while (let_go := self.world.lock(lock)) is None:
            self._step(job)
            self.world.sleep(TURN_S)
        return let_go

    def _erase_alone(self, job: Job, place: Place, erasure_id: str) -> str:
        if all(one.id != erasure_id for one in erasures.going_on(place.run, world=self.world)):
            self.engine.tend()
            return f"certificate {erasure_id} is another server's"
        self._beside(job, ["-c", TRAIN, str(place.run), str(place.data), erasure_id])
        self.engine.tend()
        self.workers.tell("tend")
        [begun] = [one for one in erasures.going_on(place.run, world=self.world) if one.id == erasure_id]
        for step in ("database", *STEPS[2:]):  # the first once more: of what came meanwhile
            begun = do(place, begun, step)
        certificate = certify(place, begun)
        self.keys[erasure_id] = certificate["key"]
        self.forget()
        hits = len(certificate["search"].get("hits", ()))
        return f"certificate {erasure_id}" + (f"; the id is still found in {hits} files" if hits else "")

    def erase(self, user_id: str | int) -> str:
        """Let a person be nobody at once, and have the rest of the erasure done; return its id.

        One that goes on is not begun again. Raises as `privacy.erasure.begin`.
        """
        with self._erasing:
            begun = begin(self.place, user_id)
            if not any(one.file == begun.id and one.state in ("waiting", "running") for one in self.all()):
                begun = do(self.place, begun, "database")
                self.forget()
                self.start("erase", file=begun.id)
        return begun.id

    def forget(self) -> None:
        """Let the engine and its workers take whoever is being erased for nobody."""
        database, names = self.engine.database, erasures.names_of(self.engine.run, world=self.world)
        self.engine.forget(names)
        self.workers.tell("forget", names=names)
        database.write(lambda connection: database.tell(connection, erasures.FORGET)).result()

    @property
    def place(self) -> Place:
        """Where people are erased."""
        assert not isinstance(self.engine.database, Following)  # jobs run where the writing is done
        return Place(self.engine.run, self.engine.data, self.engine.database, self.world)

    def _beside(self, job: Job, words: Sequence[str], fine: Collection[int] = (0,)) -> str:
        """Return the last line of what a Python of its own prints, which gives way to requests."""
        command = ["nice", "-n", str(NICE), sys.executable, *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while True:
            try:
                out, err = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if job.id in self._cancelled:
                    process.terminate()
                    process.communicate()
                    raise Cancelled from None
        if process.returncode not in fine:
            raise RequestError(f"the {job.kind} failed: {err.strip().splitlines()[-1] if err.strip() else out}")
        return out.strip().splitlines()[-1] if out.strip() else ""
