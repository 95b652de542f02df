"""A process of its own for tries: it can be ended when a time or memory limit is reached, and its memory is told apart.

It is sent a split, and then configurations to measure on parts of it, and sends back what came of each. It ends when
its input does, or whoever started it. `Spread` has many of them, wherever an executor puts them.
"""

import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np

from bowerbird.core import BowerbirdError, ConfigError, ModelConfig, RunOptions
from bowerbird.data import RowSplit, Split
from bowerbird.selection.measure import Measured

MEASURE_S = 2.0  # of a limit, at most, that are kept for measuring what was trained; a third of short ones
LOOK_S = 0.05
STARTING_S = 60.0  # that an executor may take to start a process somewhere
READY = b"ready"
START = "from bowerbird.selection.worker import main; main()"


@dataclass(frozen=True)
class Answer:
    """What came of a try: measured, with the values that two tries are compared by; or an error."""

    measured: Measured | None
    values: np.ndarray | None
    error: str = ""
    seconds: float = 0.0  # that it took, whatever came of it


@dataclass(frozen=True)
class Attempt:
    """A configuration that is to be measured."""

    config: ModelConfig
    share: float  # of the train part
    limit_s: float
    most_mb: float | None = None


class Executor(Protocol):
    """Whoever runs tries in several places, such as `distributed.tune.Tries`."""

    at_once: int

    def __call__(self, function: Callable[[Attempt], Any], tries: Sequence[Attempt], limit_s: float) -> list[Any]:
        """Return what the function makes of each, None where it had no answer after so many seconds in all."""
        ...


class Worker:
    """Measures configurations in another process, one at a time."""

    def __init__(self, split: Split | RowSplit, run: RunOptions, *, seed: int = 0) -> None:
        self.split, self.run, self.seed = split, run, seed
        self.start_s = 0.0  # that the last start took: ending a process costs as much
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._began = 0.0

    def begin(self) -> None:
        """Start the process, which takes seconds, and do not wait for it."""
        self._began = time.monotonic()
        path = os.pathsep.join(one for one in sys.path if one)
        self._process = subprocess.Popen(
            [sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path}, start_new_session=True,  # so that Ctrl-C ends no try half-way
        )  # fmt: skip
        self._ready = False

    def start(self) -> None:
        """Have a process that holds the split, and wait until it does."""
        if self._process is None or self._process.poll() is not None:
            self.begin()
        if self._ready:
            return
        self._send((self.split, self.run, self.seed))
        assert self._process is not None
        assert self._process.stdout is not None
        if not self._process.stdout.read(len(READY)):
            self.end()
            raise ConfigError("a process for tries ended before it was ready. Is there memory left?")
        self._ready, self.start_s = True, time.monotonic() - self._began

    def measure(
        self, config: ModelConfig, share: float, limit_s: float, *, most_mb: float | None = None, last_s: float = 0.0
    ) -> Answer:
        """Return what a configuration is worth on a share of the train part, within `limit_s` seconds in all.

        A training that takes too long is ended in time to measure its best epoch; a process that takes longer even so,
        or more memory than `most_mb`, is ended: a little later, `last_s` at most, if another could not start before.
        """
        self.start()
        started, hard_s = time.monotonic(), max(limit_s, min(limit_s + self.start_s, last_s))
        self._send((config, share, max(min(limit_s, hard_s - min(MEASURE_S, hard_s / 3)), 0.1)))
        process = self._process
        assert process is not None
        assert process.stdout is not None
        while not select.select([process.stdout], [], [], LOOK_S)[0]:
            spent = time.monotonic() - started
            if spent > hard_s:
                self.end()
                return Answer(None, None, f"was ended after {spent:.1f} s, its limit", spent)
            held = _megabytes(process.pid)
            if most_mb is not None and held > most_mb:
                self.end()
                return Answer(None, None, f"was ended with {held:,.0f} MB, over the limit of {most_mb:,.0f}", spent)
        try:
            found = pickle.load(process.stdout)
        except (EOFError, pickle.UnpicklingError):
            self.end()
            return Answer(None, None, "its process ended, as one does that runs out of memory",
                          time.monotonic() - started)  # fmt: skip
        return Answer(**found, seconds=time.monotonic() - started)

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            self._process = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def _send(self, what: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # whoever reads next finds that it ended
            pickle.dump(what, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()


class Spread(Worker):
    """Measures configurations several at a time, each in a process that an executor starts somewhere."""

    def __init__(self, split: Split | RowSplit, run: RunOptions, executor: Executor, *, seed: int = 0) -> None:
        super().__init__(split, run, seed=seed)
        self.executor, self.at_once = executor, executor.at_once
        self._found: dict[str, Answer] = {}

    def begin(self) -> None:
        """Do nothing: processes start with their tries."""

    start = begin

    def ahead(self, tries: Sequence[Attempt], limit_s: float) -> None:
        """Measure what will be asked for, and keep it until it is."""
        one = partial(_attempted, self.split, self.run, self.seed)
        for attempt, answer in zip(tries, self.executor(one, tries, limit_s), strict=True):
            late = Answer(None, None, f"had no result after {limit_s:.1f} s, the limit of all", limit_s)
            self._found[_named(attempt.config, attempt.share)] = answer or late

    def measure(
        self, config: ModelConfig, share: float, limit_s: float, *, most_mb: float | None = None, last_s: float = 0.0
    ) -> Answer:
        """Return what a configuration is worth on a share of the train part."""
        name = _named(config, share)
        if name not in self._found:
            self.ahead([Attempt(config, share, limit_s, most_mb)], 2 * limit_s + STARTING_S)
        return self._found.pop(name)


def _named(config: ModelConfig, share: float) -> str:
    return f"{share} {config!r}"


def _attempted(split: Split | RowSplit, run: RunOptions, seed: int, one: Attempt) -> Answer:
    """Measure one configuration by a worker of its own."""
    with Worker(split, run, seed=seed) as worker:
        return worker.measure(one.config, one.share, one.limit_s, most_mb=one.most_mb)


def _megabytes(process: int) -> float:
    """Return what a process holds; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0


# ── in the process itself ─────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Answer until the input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not disturb the answers
    signal.signal(signal.SIGALRM, _over)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    import bowerbird.models  # noqa: F401
    from bowerbird.selection.sampling import thinned

    source = sys.stdin.buffer
    with suppress(EOFError):
        split, run, seed = pickle.load(source)
        out.write(READY)
        out.flush()
        parts: dict[float, Split | RowSplit] = {}
        while True:
            config, share, training_s = pickle.load(source)
            if share not in parts:
                parts[share] = thinned(split, share, seed=seed)
            pickle.dump(_answer(parts[share], config, run, training_s), out, protocol=pickle.HIGHEST_PROTOCOL)
            out.flush()


def _answer(split: Split | RowSplit, config: ModelConfig, run: RunOptions, training_s: float) -> Mapping[str, Any]:
    from bowerbird.selection.measure import measured

    def stop_the_clock() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    signal.setitimer(signal.ITIMER_REAL, training_s)
    try:
        found, values = measured(split, config, run, on_trained=stop_the_clock)
        return {"measured": found, "values": values}
    except KeyboardInterrupt:
        return {"measured": None, "values": None, "error": f"had no result after {training_s:.1f} s, its limit"}
    except (BowerbirdError, MemoryError, RuntimeError) as error:  # torch raises RuntimeError where memory is short
        return {"measured": None, "values": None, "error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        stop_the_clock()


def _over(number: int, frame: FrameType | None) -> None:
    """End a training as Ctrl-C does: the loop keeps the best epoch."""
    raise KeyboardInterrupt


def _follow(parent: int) -> None:
    """End this process when the one that started it has ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
