"""A server process to break: a small shop with a model, started, killed and started again on the same directories."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

import bowerbird as bb
from bowerbird.core import BowerbirdError
from bowerbird.testing import halves

READY_S = 60.0  # wait for a server no longer than that


def publish(run: Path, model: str = "itemknn", **config: Any) -> str:
    """Publish a model of 60 users "u0" and on, and 40 items "i0" and on; return its version."""
    return bb.fit(halves(), model, **config).save(run)


class Victim:
    """A server on a run directory and a data directory, at a port that stays its own."""

    def __init__(self, run: Path, data: Path, *words: str, before: Sequence[str] = (), **env: str) -> None:
        """`words` go to `bowerbird serve`, `before` in front of it, such as strace."""
        self.run, self.data, self.words, self.before, self.env = run, data, words, before, env
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.said = data.parent / f"said-{self.port}"  # what it prints, over all of its lives
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> float:
        """Start it; return the seconds until it was ready. Raises `BowerbirdError` where it does not get there."""
        serve = [sys.executable, "-m", "bowerbird", "serve", self.run, "--data-dir", self.data, "--port", self.port]
        command = [str(word) for word in (*self.before, *serve, *self.words)]
        started = time.perf_counter()
        with open(self.said, "ab") as said:
            self.process = subprocess.Popen(
                command, stdout=said, stderr=said, env=os.environ | self.env, start_new_session=True
            )
        while wait:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    break
            if self.process.poll() is not None or time.perf_counter() > started + READY_S:
                self.kill()
                raise BowerbirdError(f"the server did not become ready: {self.told()[-2000:]}")
            time.sleep(0.02)
        return time.perf_counter() - started

    def kill(self, sign: int = signal.SIGKILL) -> int:
        """Send a signal to it and what it started, where it runs; return its exit status when it ended."""
        assert self.process is not None
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
        return self.process.wait(READY_S)

    def told(self) -> str:
        """Return all that it printed."""
        return self.said.read_text(errors="replace")

    def client(self, timeout: float = 30.0, **headers: str) -> httpx.Client:
        """Return a client of it."""
        return httpx.Client(base_url=self.url, timeout=timeout, headers=headers)


@contextlib.contextmanager
def victim(folder: Path, *words: str, model: str = "itemknn", **options: Any) -> Iterator[Victim]:
    """Serve a shop from a folder, and kill what is left of it at the end."""
    run = folder / "run"
    if not run.exists():
        publish(run, model)
    one = Victim(run, folder / "data", *words, **options)
    one.start()
    try:
        yield one
    finally:
        one.kill()
