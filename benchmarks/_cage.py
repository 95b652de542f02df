"""A process with limits that reads hostile input, job after job; it tells what it did, or is found dead or hung.

    python benchmarks/_cage.py MODULE [MEGABYTES]

serves the `JOBS` of a module: reads a JSON line for each job from standard input, and answers with one. What a job must
not do is seen by Python's audit events: opened files outside the job's folder and what Python itself needs, pickles,
programs, connections.
"""

import importlib
import json
import os
import resource
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

MEGABYTES = 2048  # of address space that jobs may take beyond what the imports took
SECONDS = 30.0  # of a job
START_S = 120.0  # until all is imported
DEEDS = (
    "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn",
    "socket.connect", "socket.getaddrinfo", "urllib.Request", "shutil.unpack_archive", "ctypes.dlopen",
)  # fmt: skip
HARMLESS = ("/proc/", "/dev/null", "/dev/urandom", "/sys/", "/etc/localtime", "/usr/share/zoneinfo")


@dataclass
class Outcome:
    """What became of a job."""

    kind: str  # "done", "refused" by an error of ours, "raised" by another one, "died", "hung"
    error: str = ""  # the class of what was raised
    said: str = ""
    answer: Any = None
    deeds: list[str] = field(default_factory=list)  # what a job must not do
    seconds: float = 0.0
    megabytes: float = 0.0  # of memory at its peak, beyond what was held before

    @property
    def faults(self) -> list[str]:
        """What is wrong with any job, whatever was asked."""
        if self.kind in ("raised", "died", "hung"):
            return [f"{self.kind}: {self.error} {self.said}"[:300]]
        return [f"did {deed}" for deed in self.deeds[:1]]


class Cage:
    """A process that does jobs, started when first asked and again after it died."""

    def __init__(self, module: str, *, megabytes: int = MEGABYTES, seconds: float = SECONDS, **env: str) -> None:
        self.module, self.megabytes, self.seconds, self.env = module, megabytes, seconds, env
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def __enter__(self) -> "Cage":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.close()
            self.process.stdout.close()
        self.process = None

    def ask(self, job: str, *, seconds: float | None = None, **values: Any) -> Outcome:
        """Return what became of a job."""
        if self.process is None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        started = time.perf_counter()
        try:
            self.process.stdin.write(json.dumps({"job": job, "values": values}).encode() + b"\n")
            self.process.stdin.flush()
            line = self._line(seconds or self.seconds)
        except (BrokenPipeError, EOFError):
            status = self.process.wait()
            self.end()
            return Outcome("died", f"status {status}", seconds=time.perf_counter() - started)
        if line is None:
            self.end()
            return Outcome("hung", seconds=time.perf_counter() - started)
        return Outcome(**json.loads(line))

    def _start(self) -> None:
        command = [sys.executable, __file__, self.module, str(self.megabytes)]
        env = os.environ | {"POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "1"} | self.env
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env)
        self.starts += 1
        if self._line(START_S) != b"ready\n":
            self.end()
            raise RuntimeError(f"the cage of {self.module} did not start: {' '.join(command)}")

    def _line(self, seconds: float) -> bytes | None:
        """Return the next line that the process writes; None where there is none in time."""
        assert self.process is not None
        assert self.process.stdout is not None
        end, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            if not part:
                raise EOFError
            line += part
        return line


# ── in the process ────────────────────────────────────────────────────────────────────────────────────────────────


class _Watch:
    """Notes what a job does that it must not."""

    def __init__(self) -> None:
        self.on, self.folder, self.seen = False, "", list[str]()
        homes = {
            os.environ.get("TMPDIR", ""),
            sys.prefix,
            sys.base_prefix,
            str(Path(__file__).parents[1] / "src"),
            str(Path(__file__).parent),
        }
        self.known = (*HARMLESS, *(os.path.realpath(one) + os.sep for one in homes | set(sys.path) if one))
        sys.addaudithook(self._hook)

    def _hook(self, event: str, values: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in DEEDS:
            self.seen.append(f"{event} {values[:1]!r}"[:200])
        elif event == "open" and isinstance(values[0], str | bytes):
            path = os.path.abspath(os.fsdecode(values[0]))
            stays = values[2] & os.O_NOFOLLOW  # then a link is not opened
            folder, name = os.path.split(path)
            path = os.path.join(os.path.realpath(folder), name) if stays else os.path.realpath(path)
            if not path.startswith((self.folder, *self.known)):
                self.seen.append(f"open {path}"[:200])

    @contextmanager
    def __call__(self, folder: str) -> Iterator[list[str]]:
        self.folder, self.seen, self.on = os.path.realpath(folder) if folder else "\0", [], True
        try:
            yield self.seen
        finally:
            self.on = False


def _peak(reset: bool = False) -> float:
    """Return the megabytes held now at most since the last reset."""
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def _does(jobs: Any, watch: _Watch, job: str, values: dict[str, Any]) -> Outcome:
    from bowerbird.core import BowerbirdError

    before, started = _peak(reset=True), time.perf_counter()
    with watch(values.pop("inside", "")) as deeds:
        try:
            outcome = Outcome("done", answer=jobs[job](**values))
        except BowerbirdError as error:
            outcome = Outcome("refused", type(error).__name__, str(error)[:1000])
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of Polars is no Exception
            at = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{str(error)[:200]} ({Path(at.filename).name}:{at.lineno})"
            outcome = Outcome("raised", type(error).__name__, where)
    outcome.deeds, outcome.seconds = deeds, time.perf_counter() - started
    outcome.megabytes = _peak() - before
    return outcome


def _serve(module: str, megabytes: int) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints is no answer
    jobs = importlib.import_module(module).JOBS
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    most = held + megabytes * (1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = _Watch()
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        outcome = _does(jobs, watch, **json.loads(line))
        answers.write(json.dumps(vars(outcome)).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else MEGABYTES)
