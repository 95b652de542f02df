"""Workers: processes that compute slates for the one that answers requests, so that a second core is of use.

That one process takes requests and alone writes. A worker follows what is committed before each slate, so that whoever
was told of an event finds its effect, whoever answers. It is sent a line and sends back one, of a slate three: a head,
what the log is to keep, and the body as it is. It ends when its input does.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Response

from bowerbird.core import BowerbirdError, RequestError, UnknownItemError
from bowerbird.core.room import one_heap
from bowerbird.pipeline.scenario import known_scenarios
from bowerbird.serving.engine import Engine
from bowerbird.store.log import LogEvent

LOG = logging.getLogger("bowerbird.workers")
LONGEST_LINE = 64 * 1024 * 1024
AGAIN_S, LONGEST_S = 1.0, 30.0  # before a worker that ended is started again: at first, and at most
SLATE_S, PATIENCE_S = 5.0, 60.0  # for a slate, and for what all workers are told; then a worker hangs, and is ended
MISTAKES = {kind.__name__: kind for kind in (RequestError, UnknownItemError)}  # of who asks, not ours


class WorkerGone(Exception):
    """A worker ended before it answered."""


# ── in the process that answers requests ──────────────────────────────────────────────────────────────────────────────


class Workers:
    """Slates of one engine, computed by so many processes; by this one while there are none."""

    def __init__(self, engine: Engine, n: int = 0, *, scenarios: Path | None = None) -> None:
        self.engine, self.n = engine, n
        self._place = {"run": str(engine.run), "data": str(engine.data), "scenarios": scenarios and str(scenarios)}
        self._ready: list[_Worker] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> int:
        """How many processes can answer."""
        return len(self._ready)

    def start(self) -> None:
        """Start the processes, and again those that end; nobody waits for them."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [self._loop.create_task(self._keep_one()) for _ in range(self.n)]

    async def close(self) -> None:
        """End the processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def recommend(self, question: Mapping[str, Any], request_id: str, previous: Sequence[Any] = ()) -> Response:
        """Return one answer, which is logged; raises what is wrong with the question."""
        while self._ready:
            worker = min(self._ready, key=lambda one: len(one.waiting))
            asked = {"do": "recommend", "question": question, "request_id": request_id, "previous": previous}
            try:
                head, slate, body = await worker.ask(asked, SLATE_S)
            except WorkerGone:
                continue
            if "mistake" in head:
                raise MISTAKES[head["mistake"]](head["message"])
            if "failed" in head:
                break
            self.engine.log_slate(LogEvent(**json.loads(slate)))
            self.engine.metrics.slate(head["timings_ms"], head["fallback"])
            return sent(body, head["timings_ms"])
        found, event = self.engine.answered(question, request_id, previous=previous)
        self.engine.log_slate(event)
        return sent(as_json(found), found["timings_ms"])

    def tell(self, do: str, **what: Any) -> None:
        """Have all workers do something, and wait until they did; from any thread but the loop's."""
        if self._ready:
            told = self._told({"do": do, **what})
            asyncio.run_coroutine_threadsafe(told, self._loop).result()

    async def _told(self, asked: Mapping[str, Any]) -> None:
        await asyncio.gather(*(one.ask(asked, PATIENCE_S) for one in self._ready), return_exceptions=True)

    async def _keep_one(self) -> None:
        pause = AGAIN_S
        while True:
            worker = _Worker(self._place)
            try:
                await worker.start()
                self._ready.append(worker)
                pause = AGAIN_S
                await worker.listen()
            except (WorkerGone, OSError) as error:
                LOG.error("a worker ended (%s); another one is started in %s s", error, pause)
            finally:
                if worker in self._ready:
                    self._ready.remove(worker)
                worker.end()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_S)


class _Worker:
    """One process, and what it was asked."""

    def __init__(self, place: Mapping[str, Any]) -> None:
        self.place, self.waiting, self._asked = place, dict[int, asyncio.Future[tuple[Any, bytes, bytes]]](), 0
        self.process: asyncio.subprocess.Process | None = None
        self._heard = 0.0  # when it answered last

    async def start(self) -> None:
        """Return when it can answer; raises `WorkerGone`."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"from {__name__} import main; main()",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE,
        )  # fmt: skip
        self._send(self.place)
        await self._line()

    async def listen(self) -> None:
        """Hand on answers until the process ends; raises `WorkerGone` then."""
        while True:
            head = json.loads(await self._line())
            slate, body = (await self._line(), await self._line()) if "timings_ms" in head else (b"", b"")
            self._heard = asyncio.get_running_loop().time()
            asked = self.waiting.pop(head["n"], None)
            if asked is not None and not asked.done():
                asked.set_result((head, slate, body))

    async def ask(self, asked: Mapping[str, Any], patience_s: float) -> tuple[dict[str, Any], bytes, bytes]:
        """Return head, slate and body; raises `WorkerGone`, also where for so long nobody was answered: it is ended."""
        self._asked = n = self._asked + 1
        loop = asyncio.get_running_loop()
        self.waiting[n] = coming = loop.create_future()
        self._send({"n": n, **asked})
        while not (await asyncio.wait([coming], timeout=patience_s))[0]:
            if loop.time() - self._heard >= patience_s:
                self.kill()
                self.waiting.pop(n, None)
                raise WorkerGone(f"it answered nobody for {patience_s:g} s")
        found: tuple[dict[str, Any], bytes, bytes] = coming.result()
        return found

    def kill(self) -> None:
        """End the process at once."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.kill()

    def end(self) -> None:
        """Let the process end, and whoever waits know."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        for coming in self.waiting.values():
            if not coming.done():
                coming.set_exception(WorkerGone("it ended"))
        self.waiting.clear()

    def _send(self, document: Mapping[str, Any]) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(as_json(document) + b"\n")

    async def _line(self) -> bytes:
        assert self.process is not None
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise WorkerGone(f"exit status {await self.process.wait()}")
        return line[:-1]


def sent(body: bytes, timings_ms: Mapping[str, float]) -> Response:
    """Return a body that is JSON already: it was made by us, and checking it takes as long as making it."""
    timing = ", ".join(f"{stage};dur={ms}" for stage, ms in timings_ms.items())
    return Response(body, media_type="application/json", headers={"Server-Timing": timing} if timing else None)


def settle() -> None:
    """Let Python's garbage collector leave alone what stays: what was loaded, and what people do from now on.

    It would look through all of it again and again, and stop requests for a third of a second each time. What makes
    circles and dies young is still found.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 1_000_000_000)


def as_json(document: Any) -> bytes:
    """Return a document as bytes of JSON, on one line."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


# ── in a worker ───────────────────────────────────────────────────────────────────────────────────────────────────────


def work(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer questions until there are none."""
    place = json.loads(questions.readline())
    folder = place["scenarios"] and Path(place["scenarios"])
    engine = Engine(Path(place["run"]), Path(place["data"]), scenarios=known_scenarios(folder), follow=True)
    settle()
    turn = threading.Lock()

    def answer(*lines: bytes) -> None:
        with turn:
            answers.write(b"\n".join([*lines, b""]))
            answers.flush()

    def tend(n: int) -> None:
        try:
            engine.tend()
        except BowerbirdError as error:
            LOG.error("%s", error)
        answer(as_json({"n": n}))

    answer(b"{}")
    for line in questions:
        asked = json.loads(line)
        if asked["do"] == "recommend":
            answer(*_slate(engine, asked))
        elif asked["do"] == "undo":
            engine.undo(asked["offset"], LogEvent(**asked["event"]))
            answer(as_json({"n": asked["n"]}))
        elif asked["do"] == "forget":
            engine.forget(asked["names"])
            answer(as_json({"n": asked["n"]}))
        else:  # it may take seconds, in which slates go on
            threading.Thread(target=tend, args=(asked["n"],), daemon=True).start()


def _slate(engine: Engine, asked: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Return the lines that answer a question."""
    head: dict[str, Any] = {"n": asked["n"]}
    try:
        body, event = engine.answered(asked["question"], asked["request_id"], previous=asked["previous"])
        slate, said = as_json(vars(event)), as_json(body)
    except tuple(MISTAKES.values()) as error:
        return (as_json(head | {"mistake": type(error).__name__, "message": str(error)}),)
    except Exception:
        LOG.exception("a slate failed")
        return (as_json(head | {"failed": True}),)
    return as_json(head | {"timings_ms": body["timings_ms"], "fallback": body["fallback"]}), slate, said


def main() -> None:
    """Work on standard input and output; what anything else prints goes to standard error."""
    import torch

    one_heap()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who asks says when it is over
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    work(sys.stdin.buffer, answers)
    os._exit(0)  # threads that follow end with it
