"""Power cuts of real processes: a server that takes events, and an update that publishes, each from its own tape.

The SQLite, the system calls and the HTTP answers are those of the product; only the cut is made up. strace records the
calls; where there is none, nothing counts as tried.
"""

import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import bowerbird as bb
from _breaking import Effort, Found, Progress, Stages
from _faults_disk import quiet
from _tape import Copy, calls, recorded
from _victim import Victim, publish
from bowerbird.store.database import Database
from bowerbird.store.events import TableLog
from bowerbird.store.log import LogEvent

stages = Stages()

CLIENTS = 4
OFFSET = re.compile(rb'"accepted":\d+.*"offset":(\d+)')
PUBLISHED = re.compile(rb"published as version (\d+)")
WORDS = "x" * 300  # of each event, so that checkpoints come

Check = Callable[[Path, int], list[str]]  # where the files lie again, the last number that was said → what is wrong


@stages("power_cut_server", "An acknowledged event of a real server survives a power cut at any system call", n=600)
def power_cut_server(effort: Effort) -> Found:
    """Record a server that takes events from some clients, and cut its power anywhere."""
    return cuts(effort, serve, OFFSET, events_there)


@stages("power_cut_server_lying", "Control: without syncs the same cuts of the same server do lose events", n=60)
def power_cut_server_lying(effort: Effort) -> Found:
    """The same, on a disk that forgets."""
    return seeing(cuts(effort, serve, OFFSET, events_there, honest=False))


@stages("power_cut_publish", "A version is published whole or not at all, whenever the power is cut", n=400)
def power_cut_publish(effort: Effort) -> Found:
    """Record `bowerbird update`, and cut its power anywhere."""
    return cuts(effort, update, PUBLISHED, version_there)


@stages("power_cut_publish_lying", "Control: without syncs the same cuts do lose a version", n=60)
def power_cut_publish_lying(effort: Effort) -> Found:
    """The same, on a disk that forgets."""
    return seeing(cuts(effort, update, PUBLISHED, version_there, honest=False))


def seeing(found: Found) -> Found:
    """Return what a control run comes to: it went wrong where nothing was lost, for then the test is blind."""
    blind = found.tried >= 20 and not found.wrong
    figures = found.figures | {"lost_something": found.wrong}
    return Found(found.tried, found.tried if blind else 0, figures, ["nothing was lost"] if blind else [])


def cuts(
    effort: Effort,
    record: Callable[[Path, list[str], int], None],
    said: re.Pattern[bytes],
    check: Check,
    *,
    honest: bool = True,
) -> Found:
    """Record a program over a run and a data directory, and look at what is left by cuts at so many of its changes."""
    found = Found(figures={"changes": 0, "said": 0})
    run, data, tape = (effort.folder / name for name in ("run", "data", "tape"))
    if not shutil.which("strace"):
        return Found(figures={"strace": "not there"})
    publish(run, "popularity")
    prepare(data)
    copy, progress = Copy(run, data, honest=honest), Progress(effort, "cuts")
    record(effort.folder, recorded(tape), effort.n)
    done = list(calls(tape))
    where = [n for n, call in enumerate(done) if str(effort.folder) in call.path]
    places = [*where, *(len(done) - 1,) * max(1, len(where) // 9)]  # at its end it has said the most
    chosen = Counter(effort.rng().choice(places, effort.n).tolist())
    for n, call in enumerate(done):
        if call.name == "say" and (number := said.search(call.data)) is not None:
            found.figures["said"] = max(found.figures["said"], int(number[1]))
        found.figures["changes"] += copy.heed(call)
        for turn in range(chosen[n]):
            left = laid_out(effort.folder, copy.after_cut(effort.rng(n, turn)))
            found.note(*(f"after call {n} ({call.name}): {one}" for one in check(left, found.figures["said"])))
            progress(found.tried)
    if not found.figures["said"]:
        found.note("the program said nothing: nothing was put to the test")
    return found


def laid_out(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files of a folder into another one, in the place of what lay there."""
    left = folder / "left"
    shutil.rmtree(left, ignore_errors=True)
    for path, content in files.items():
        place = left / Path(path).relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return left


def prepare(data: Path) -> None:
    """Put some events into a data directory, for an update to learn from."""
    with closing(Database(data)) as database:
        TableLog(database).append([LogEvent(**made(f"old-{n}"), time=1_700_000_000) for n in range(30)])


def made(event_id: str) -> dict[str, Any]:
    """Return an event."""
    n = sum(event_id.encode())
    return {"event_id": event_id, "event": "interaction", "item_id": f"i{n % 40}", "user_id": f"u{n % 60}"}


def serve(folder: Path, before: list[str], n: int) -> None:
    """Serve some clients that send events; then stop as an operator would."""
    server = Victim(folder / "run", folder / "data", before=before)
    rounds = max(2, min(60, n // 4))

    def send(client: int) -> None:
        with server.client() as http:
            for turn in range(rounds):
                rows = [
                    made(f"{client}-{turn}-{place}") | {"context": {"words": WORDS}} for place in range(1 + turn % 9)
                ]
                http.post("/v1/events", json={"events": rows}).raise_for_status()

    try:
        server.start()
        threads = [threading.Thread(target=send, args=(client,)) for client in range(CLIENTS)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        server.kill(signal.SIGTERM)


def update(folder: Path, before: list[str], n: int) -> None:
    """Learn from the events, and publish."""
    words = ["-m", "bowerbird", "update", folder / "run", "--data-dir", folder / "data"]
    subprocess.run([*before, sys.executable, *map(str, words)], check=True, capture_output=True)


def events_there(left: Path, said: int) -> list[str]:
    """Say what is wrong with a log whose offset was told as `said`."""
    try:
        with closing(Database(left / "data")) as database, database.reader() as connection:
            whole = connection.execute("PRAGMA integrity_check").fetchone()[0]
            found = list(TableLog(database).walk())
    except Exception as error:
        return [f"it does not open: {error}"]
    faults = [] if whole == "ok" else [f"integrity: {whole}"]
    if [offset for offset, _ in found] != list(range(len(found))):
        faults.append("offsets have gaps")
    if len({one.event_id for _, one in found}) < len(found):
        faults.append("an event is there twice")
    if len(found) < said:
        faults.append(f"{said} events were acknowledged, {len(found)} are there")
    return faults


def version_there(left: Path, said: int) -> list[str]:
    """Say what is wrong with a run whose version was told as `said`."""
    try:
        with quiet():
            rec = bb.load(left / "run")
            shown = rec.recommend(["u1"], k=3).to_polars()
    except Exception as error:
        return [f"it does not load: {error}"]
    faults = [] if len(shown) == 3 else ["it recommends nothing"]
    if not max(said, 1) <= int(rec.version or 0) <= 2:
        faults.append(f"version {said} was published, {rec.version} is in force")
    return faults
