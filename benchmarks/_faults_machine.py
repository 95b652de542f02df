"""Real servers on a machine that fails them: a full disk, syncs that fail, a clock that jumps.

Each of these needs something of the system: a small file system, strace, libfaketime. Where it is not there, the stage
says so, and nothing counts as tried.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from _breaking import Effort, Found, Progress, Stages
from _posting import Client, Ledger, Outcome, ask, posting
from _victim import Victim, publish, victim
from bowerbird.core import BowerbirdError
from bowerbird.store.database import read_only

stages = Stages()

SMALL_MB, BALLAST_MB = 10, 4  # a file system, and what is taken off it later
WORDS = 1500  # letters of each event's context, so that little is much
FULL_S, RESUME_S = 60.0, 5.0  # until the disk is full, and until writes go on when there is room
FIRST_SYNC, LAST_SYNC = 3, 40  # which sync of the server fails
AFTER = 20  # parts that are sent after a sync failed
DAY, YEAR = 86_400, 365 * 86_400
AHEAD_S = 300  # how far an event's time may be ahead of the server's clock; see docs/http.md
SLOW_S = 5.0  # how far a clock may go on while something is done
FAKETIME = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


# ── a full disk ───────────────────────────────────────────────────────────────────────────────────────────────────────


@stages(
    "full_disk",
    "On a full disk writes are refused, reads go on, and writes resume by themselves when there is room",
    n=5,
)
def full_disk(effort: Effort) -> Found:
    """Fill a small file system with events, look, make room, and look again; kill every second server meanwhile."""
    found, progress = Found(figures={"refused": 0, "acked": 0, "lost": 0, "resumed_max_s": 0.0}), Progress(effort)
    publish(effort.folder / "run")
    for turn in range(effort.n):
        with small_disk(effort.folder / f"disk-{turn}") as data:
            if data is None:
                return Found(figures={"tmpfs": "not there"})
            faults = filled(Victim(effort.folder / "run", data), data, effort.seed + turn, turn % 2 == 1, found)
        found.note(*(f"disk {turn}: {fault}" for fault in faults))
        progress(turn + 1)
    return found


@contextmanager
def small_disk(place: Path) -> Iterator[Path | None]:
    """Lend a data directory on a file system of its own, with a ballast file; None where none can be made."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MB}m", "bowerbird", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        (place / "ballast").write_bytes(bytes(BALLAST_MB * 1024 * 1024))
        yield place / "data"
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def filled(one: Victim, data: Path, seed: int, killed: bool, found: Found) -> list[str]:
    """Return what is wrong with a server whose disk fills up, and with what is left of it."""
    one.start()
    try:
        with posting(one.port, seed, clients=4, rest_s=0.0, words=WORDS) as clients:
            clients.go()
            faults = wait_for(lambda: clients.outcomes["507"] > 5, FULL_S, "the disk does not become full")
            faults += refusing(one)
            if killed:
                one.kill()
                with suppress(BowerbirdError):  # it may say that the disk is full
                    one.start()
                    one.kill()
            (data.parent / "ballast").unlink()
            started, kept = time.monotonic(), len(clients.ledger.acked)
            if killed:
                one.start()
                started = time.monotonic()
            faults += wait_for(lambda: len(clients.ledger.acked) > kept, RESUME_S, "writes do not resume")
            found.figures["resumed_max_s"] = max(found.figures["resumed_max_s"], round(time.monotonic() - started, 2))
            clients.hold()
            one.kill()
            one.start()
            faults += clients.told + clients.ledger.faults(data, whole=True)
            found.add("refused", clients.outcomes["507"])
            found.add("acked", len(clients.ledger.acked))
            found.add("lost", clients.ledger.lost)
    finally:
        one.kill()
    return faults


def wait_for(true: Callable[[], bool], seconds: float, fault: str) -> list[str]:
    """Wait until something is true; return the fault that it never was."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return [fault]
        time.sleep(0.01)
    return []


def refusing(one: Victim) -> list[str]:
    """Return what is wrong with a server that has no room: it writes nothing, and answers all else."""
    faults = [f"{path} is answered with {status}" for path, status in reads(one.port) if status != 200]
    for path, document, method in (
        ("/v1/events", {"events": [sent("full-0", words=WORDS)]}, "POST"),
        ("/v1/items/full", {"properties": {"title": "x" * 50_000}}, "PUT"),
    ):
        said = ask(one.port, path, document, method)
        if said.status != 507 or said.body["code"] != "disk_full" or not said.body["retryable"]:
            faults.append(f"{method} {path} is answered with {said}")
    return faults


def reads(port: int) -> list[tuple[str, int]]:
    """Return the statuses of what a server answers that need not write."""
    asked = [
        ("/v1/recommendations", {"user_id": "u1"}, "POST"),
        ("/v1/recommendations", {"history": ["i1"], "k": 3}, "POST"),
        ("/v1/events?limit=5", None, "GET"),
        ("/v1/lists/popular?k=3", None, "GET"),
        ("/v1/status", None, "GET"),
        ("/readyz", None, "GET"),
    ]
    return [(path, ask(port, path, document, method).status) for path, document, method in asked]


def sent(event_id: str, words: int = 0, **more: Any) -> dict[str, Any]:
    """Return an event as it is sent."""
    event = {"event_id": event_id, "event": "interaction", "user_id": "u1", "item_id": "i1"} | more
    return event | ({"context": {"words": "x" * words}} if words else {})


# ── syncs that fail ───────────────────────────────────────────────────────────────────────────────────────────────────


@stages("failing_sync", "When a sync fails, nothing is acknowledged from then on, and what was before is kept", n=10)
def failing_sync(effort: Effort) -> Found:
    """Let one sync of a server fail, or all from one on; post before and after, and start it again on a sound disk."""
    found, progress = Found(figures={"failed": 0, "acked": 0, "lost": 0}), Progress(effort)
    if not shutil.which("strace"):
        return Found(figures={"strace": "not there"})
    publish(effort.folder / "run")
    for turn in range(effort.n):
        folder = effort.folder / str(turn)
        folder.mkdir()
        one = Victim(effort.folder / "run", folder / "data")
        one.start()  # makes the tables
        one.kill()
        which = f"{effort.rng(turn).integers(FIRST_SYNC, LAST_SYNC)}{'+' if turn % 2 else ''}"
        one.before = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e"]
        one.before += [f"inject=fsync,fdatasync:error=EIO:when={which}"]
        try:
            one.start()
            faults, ledger = posted(one.port, found)
            one.kill()
            one.before = ()
            one.start()
            faults += ledger.faults(one.data, whole=True)
            faults += [
                f"after a restart {path} is answered with {status}" for path, status in reads(one.port) if status != 200
            ]
            said = ask(one.port, "/v1/events", {"events": [sent("again")]})
            faults += [] if said.status == 200 else [f"after a restart an event is answered with {said}"]
        finally:
            one.kill()
        found.note(*(f"sync {which}: {fault}" for fault in faults))
        found.add("acked", len(ledger.acked))
        found.add("lost", ledger.lost)
        progress(turn + 1)
    return found


def posted(port: int, found: Found) -> tuple[list[str], Ledger]:
    """Post until the disk fails, and a while longer; return what is wrong, and what was acknowledged."""
    client, ledger, faults, left = Client(port), Ledger(), list[str](), -1
    for n in range(10 * LAST_SYNC):
        part = [sent(f"e{n}-{place}", words=WORDS) for place in range(1 + n % 7)]
        said = client.post("/v1/events", {"events": part})
        if said.status == 200:
            ledger.ack(part, said.body["offset"])
            faults += ["an event was acknowledged after the disk had failed"] * (left >= 0)
        else:
            faults += loud(said)
            left = AFTER if left < 0 else left
        left -= left > 0
        if left == 0:
            break
    found.add("failed", left >= 0)
    if left < 0:
        faults.append("no sync failed")
    faults += [f"after that {path} is answered with {status}" for path, status in reads(port) if status != 200]
    client.close()
    return faults, ledger


def loud(said: Outcome) -> list[str]:
    """Return what is wrong with how a server says that its disk failed."""
    well = said.status == 503 and said.body["code"] == "storage_failed" and "the disk failed" in said.body["detail"]
    return [] if well else [f"a failing disk is told as {said}"]


# ── clocks ────────────────────────────────────────────────────────────────────────────────────────────────────────────

CLOCKS = (  # seconds that the clock of the server is ahead, one after the other
    (0, DAY, -DAY, 0),
    (DAY, 0),
    (-25 * YEAR, 0),
    (0, 3 * YEAR, 0),
)


@stages(
    "clocks", "A clock that jumps loses no event, keeps their order, and hides and shows items by what it says", n=4
)
def clocks(effort: Effort) -> Found:
    """Move the clock of a running server; every second one is killed at each move, and started under the new clock."""
    found, progress = Found(figures={"moves": 0, "events": 0, "clamped": 0, "lost": 0}), Progress(effort)
    library = next((path for path in FAKETIME if Path(path).exists()), None)
    if library is None:
        return Found(figures={"libfaketime": "not there"})
    for turn in range(effort.n):
        folder, moves = effort.folder / str(turn), CLOCKS[turn % len(CLOCKS)]
        folder.mkdir()
        clock = Clock(folder / "clock", moves[0])
        env = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(clock.path), "FAKETIME_NO_CACHE": "1"}
        with victim(folder, **env, FAKETIME_DONT_FAKE_MONOTONIC="1") as one:
            ledger, faults = Ledger(), expiring(one)
            for step, ahead in enumerate(moves):
                clock.set(ahead)
                if turn % 2 and step:
                    one.kill()
                    one.start()
                faults += [f"at {ahead:+} s {fault}" for fault in told(one, clock, ledger, f"{turn}-{step}", found)]
                found.add("moves", 1)
            one.kill()
            faults += ledger.faults(one.data, whole=True)
            found.add("lost", ledger.lost)
        found.note(*(f"clock {turn}: {fault}" for fault in faults))
        progress(turn + 1)
    return found


class Clock:
    """What libfaketime reads."""

    def __init__(self, path: Path, ahead: int) -> None:
        self.path, self.ahead = path, ahead
        self.set(ahead)

    def set(self, ahead: int) -> None:
        """Let the clock be so many seconds ahead."""
        self.ahead = ahead
        part = self.path.with_suffix(".part")
        part.write_text(f"{ahead:+}\n")
        part.replace(self.path)

    def now(self) -> int:
        """Return what the server takes the time to be."""
        return int(time.time()) + self.ahead


def expiring(one: Victim) -> list[str]:
    """Put two items that expire half a day ago and in half a day, by the clock that is right."""
    with one.client() as client:
        for item, hours in (("i2", -12), ("i3", 12)):
            client.put(f"/v1/items/{item}", json={"expires": int(time.time()) + hours * 3600}).raise_for_status()
    return []


def told(one: Victim, clock: Clock, ledger: Ledger, name: str, found: Found) -> list[str]:
    """Post events with all sorts of times; return what is wrong with what is kept, and with what is shown."""
    now = clock.now()
    times = {"none": None, "now": now, "soon": now + AHEAD_S - 60, "late": now - 40 * DAY, "first": 0}
    times |= {"ahead": now + AHEAD_S + 60, "far": now + 100 * YEAR}
    part = [
        sent(f"{name}-{key}", item_id="i1") | ({} if when is None else {"time": when}) for key, when in times.items()
    ]
    said = ask(one.port, "/v1/events", {"events": part})
    if said.status != 200:
        return [f"events are answered with {said}"]
    ledger.ack(part, said.body["offset"])
    with closing(read_only(one.data)) as connection:
        sql = "SELECT event_id, time, context FROM events WHERE event_id LIKE ? ORDER BY number"
        rows = connection.execute(sql, (f"{name}-%",)).fetchall()
    faults = [] if [row[0] for row in rows] == [event["event_id"] for event in part] else ["the order is another"]
    for (event_id, kept, context), (key, when) in zip(rows, times.items(), strict=True):
        clamped = when is None or key in ("ahead", "far")
        found.add("clamped", clamped and when is not None)
        if not (now <= kept <= now + SLOW_S if clamped else kept == when):
            faults.append(f"{event_id}, sent with {when}, has the time {kept}, and it is {now}")
        if clamped and when is not None and json.loads(context)["sent_time"] != when:
            faults.append(f"{event_id} lost the time that was sent: {context}")
    found.add("events", len(rows))
    return faults + shown(one, clock)


def shown(one: Victim, clock: Clock) -> list[str]:
    """Return which items are shown though they expired by the clock, or hidden though they did not."""
    wanted = {"i1": True, "i2": clock.ahead < -12 * 3600, "i3": clock.ahead < 12 * 3600}

    def right() -> bool:
        there = board(one, "popular")
        return all((item in there) == is_there for item, is_there in wanted.items())

    faults = wait_for(right, SLOW_S, f"of {wanted} what is popular shows other ones")
    return faults + wait_for(lambda: "i1" in board(one, "trending"), SLOW_S, "what was chosen just now is not trending")


def board(one: Victim, name: str) -> set[str]:
    """Return what is on a list by more than nothing."""
    with one.client() as client:
        items = client.get(f"/v1/lists/{name}?k=40").raise_for_status().json()["items"]
    return {item["item_id"] for item in items if item["score"] > 0}
