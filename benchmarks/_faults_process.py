"""Real servers that are killed, stopped, started twice and starved: what they acknowledged is kept."""

import json
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from _breaking import Effort, Found, Progress, Stages
from _posting import Client, Posting, ask, posting
from _victim import Victim, victim
from bowerbird.core import BowerbirdError
from bowerbird.store.database import read_only

stages = Stages()

WHOLE_EVERY = 20  # kills between two looks at the whole log
DRAIN_S = 22.0  # in which a server ends that was asked to
REFUSED_S = 30.0  # in which a command ends that finds the directory taken
HELD = "another process has this data directory"
DESCRIPTORS, CONNECTIONS = (64, 128), 200  # open files that a server may have, and connections to it
CALM_S = 15.0  # in which it is as before when the connections are gone


# ── killed ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages("kills", "An acknowledged event is neither lost nor kept twice when the server is killed", n=200)
def kills(effort: Effort) -> Found:
    """Kill a server under load, start it again on what it left, and so on."""
    found, ready, progress = Found(), list[float](), Progress(effort, "kills")
    with victim(effort.folder) as one, posting(one.port, effort.seed) as clients:
        for turn in range(effort.n):
            clients.go()
            time.sleep(effort.rng(turn).uniform(0.1, 2.0))
            one.kill()
            clients.hold()
            ready.append(one.start())
            whole = turn % WHOLE_EVERY == WHOLE_EVERY - 1 or turn == effort.n - 1
            faults = [*clients.told, *clients.ledger.faults(one.data, whole=whole), *miscounted(one)]
            found.note(*(f"kill {turn}: {fault}" for fault in faults))
            progress(turn + 1)
        ledger = clients.ledger
        unanswered = sum(one["event_id"] in ledger.stored for part in clients.open.values() for one in part)
        found.figures = {"kills": effort.n, "clients": len(clients.threads), "acked": len(ledger.acked)}
        found.figures |= {"lost": ledger.lost, "kept_unanswered": unanswered, "log": ledger.end}
        found.figures |= {"ready_p50_s": round(statistics.median(ready), 2), "ready_max_s": round(max(ready), 2)}
    return found


def miscounted(one: Victim) -> list[str]:
    """Return what a server counts otherwise than its log."""
    with closing(read_only(one.data)) as connection:
        end = connection.execute("SELECT max(number) FROM events").fetchone()[0] or 0
        who = "CASE WHEN user_id IS NULL THEN 's' || session_id ELSE 'u' || user_id END"
        people = f"SELECT count(DISTINCT {who}) FROM events WHERE item_id IS NOT NULL AND NOT retracted"
        counted = {"log_offset": end, "people_since": connection.execute(people).fetchone()[0]}
    with one.client() as client:
        said = client.get("/v1/status").json()
    return [f"{name} is {said[name]}, and {n} by the log" for name, n in counted.items() if said[name] != n]


# ── asked to stop ─────────────────────────────────────────────────────────────────────────────────────────────────────


@stages("drain", "A server that is asked to stop answers what it began, loses nothing and ends with status 0", n=50)
def drain(effort: Effort) -> Found:
    """Send SIGTERM while clients post, and one of them is in the middle of a body."""
    found, took, progress = Found(figures={"slow_answered": 0}), list[float](), Progress(effort)
    with victim(effort.folder) as one, posting(one.port, effort.seed) as clients:
        for turn in range(effort.n):
            rng = effort.rng(turn)
            clients.go()
            time.sleep(rng.uniform(0.05, 0.6))
            broken = clients.outcomes["-1"]
            with slow_post(one.port, f"slow-{turn}", float(rng.uniform(0.1, 1.0))) as answer:
                started = time.perf_counter()
                status = one.kill(signal.SIGTERM)
                took.append(time.perf_counter() - started)
            clients.hold()
            faults = clients.told + [f"it ended with {status} after {took[-1]:.1f} s"] * (
                status != 0 or took[-1] > DRAIN_S
            )
            faults += ["an answer broke off"] * (clients.outcomes["-1"] - broken)
            faults += [f"a request that was begun got {answer!r}"] * (answer not in (["200"], ["503"]))
            found.add("slow_answered", answer == ["200"])
            one.start()
            faults += clients.ledger.faults(one.data, whole=turn == effort.n - 1)
            faults += unanswered(clients)
            faults += ["the slow event was lost"] * (answer == ["200"] and f"slow-{turn}" not in clients.ledger.stored)
            found.note(*(f"stop {turn}: {fault}" for fault in faults))
            progress(turn + 1)
        found.figures |= {"acked": len(clients.ledger.acked), "lost": clients.ledger.lost}
        found.figures |= {"refused": clients.outcomes["503"], "closed": clients.outcomes["0"]}
    found.figures |= {"stopped_p50_s": round(statistics.median(took), 2), "stopped_max_s": round(max(took), 2)}
    return found


def unanswered(clients: Posting) -> list[str]:
    """Return which events were kept and not answered."""
    stored = clients.ledger.stored
    return [
        f"{one['event_id']} was kept, and nobody told"
        for part in clients.open.values()
        for one in part
        if one["event_id"] in stored
    ]


@contextmanager
def slow_post(port: int, event_id: str, seconds: float) -> Iterator[list[str]]:
    """Post an event half now and half after so long; the list holds the status of the answer in the end."""
    event = {"event_id": event_id, "event": "interaction", "user_id": "u0", "item_id": "i0"}
    body = json.dumps({"events": [event]}).encode()
    words = ("POST /v1/events HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Expect: 100-continue")
    head = "\r\n".join((*words, f"Content-Length: {len(body)}", "", ""))
    answer: list[str] = []
    half = socket.create_connection(("127.0.0.1", port), timeout=30)

    def end() -> None:
        time.sleep(seconds)
        try:
            half.sendall(body[20:])
            answer.append(half.recv(1000).decode().split(" ")[1])
        except (OSError, IndexError) as error:
            answer.append(repr(error))

    with half:
        half.sendall(head.encode())
        assert half.recv(1000).startswith(b"HTTP/1.1 100")  # the head was read, and the body is waited for
        half.sendall(body[:20])
        ending = threading.Thread(target=end)
        ending.start()
        yield answer
        ending.join()


# ── started twice ─────────────────────────────────────────────────────────────────────────────────────────────────────


@stages(
    "two_servers", "Nothing else takes a data directory that a server holds, and the server goes on answering", n=20
)
def two_servers(effort: Effort) -> Found:
    """Start what wants the directory too, while the server is asked all the time; and two servers at one moment."""
    found, progress = Found(figures={"answered": 0}), Progress(effort)
    with victim(effort.folder) as one:
        before = ask(one.port, "/v1/status", method="GET").body
        second = Victim(one.run, one.data)
        name = ["--data-dir", one.data, "--name", "x", "--scope", "admin"]
        orders: list[list[object]] = [
            ["serve", one.run, "--data-dir", one.data, "--port", second.port],
            ["key", "create", *name],
            ["key", "list", "--data-dir", one.data],
            ["key", "revoke", "x", "--data-dir", one.data],
            ["import", "--items", events_file(effort.folder), "--data-dir", one.data, "--run", one.run],
        ]
        for turn in range(effort.n):
            if turn % 6 == 5:
                faults = at_once(effort.folder / f"both-{turn}", one.run)
            else:
                with asked(one.port) as answers:
                    faults = refused([str(word) for word in orders[turn % 6]])
                found.add("answered", answers.count(200))
                faults += [f"meanwhile the server answered {answer}" for answer in answers if answer != 200][:1]
                faults += [] if answers else ["the server was not asked"]
            found.note(*(f"try {turn}: {fault}" for fault in faults))
            progress(turn + 1)
        after = ask(one.port, "/v1/status", method="GET").body
        if {**before, "log_offset": 0} != {**after, "log_offset": 0}:
            found.note(f"the server says {after} and said {before}")
    return found


def events_file(folder: Path) -> Path:
    """Return a file of one item."""
    path = folder / "items.jsonl"
    path.write_text(json.dumps({"id": "new"}) + "\n")
    return path


def refused(words: list[str]) -> list[str]:
    """Return what is wrong with how a command ends that finds the directory taken."""
    try:
        command = [sys.executable, "-m", "bowerbird", *words]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=REFUSED_S)
    except subprocess.TimeoutExpired:
        return [f"{words[:2]} was not refused in {REFUSED_S:g} s"]
    told, faults = " ".join((ran.stdout + ran.stderr).split()), []
    if ran.returncode == 0:
        faults.append(f"{words[:2]} ended with status 0")
    if HELD not in told or "Traceback" in told:
        faults.append(f"{words[:2]} said {told[-300:]!r}")
    return faults


def at_once(folder: Path, run: Path) -> list[str]:
    """Start two servers on a fresh directory at one moment; return what is wrong, unless one serves and one refuses."""
    folder.mkdir()
    pair, ready, said = [Victim(run, folder / "data") for _ in range(2)], list[Victim](), list[str]()

    def begin(one: Victim) -> None:
        try:
            one.start()
            ready.append(one)
        except BowerbirdError as error:
            said.append(" ".join(str(error).split()))

    threads = [threading.Thread(target=begin, args=(one,)) for one in pair]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        ended = [one.kill() for one in pair if one not in ready and one.process is not None]
        for one in ready:
            one.kill()
    faults = [] if len(ready) == 1 else [f"{len(ready)} of two servers serve one directory"]
    faults += [f"the other one said {one!r}" for one in said if HELD not in one]
    return faults + [f"the other one ended with status {status}" for status in ended if status in (0, -9)]


@contextmanager
def asked(port: int) -> Iterator[list[int]]:
    """Ask for lists all the time; the list holds the statuses of the answers."""
    answers, end, client = list[int](), threading.Event(), Client(port)

    def ask() -> None:
        while not end.wait(0.02):
            answers.append(client.post("/v1/recommendations", {"user_id": "u0", "k": 3}).status)
        client.close()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        end.set()
        asking.join()


# ── starved ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@stages("descriptors", "A server that may open no more files goes on, and is well when it may again", n=3)
def descriptors(effort: Effort) -> Found:
    """Open more connections than a server may have files, post and ask meanwhile, close them and look again."""
    found = Found(figures={"answered_meanwhile": 0, "unanswered_meanwhile": 0, "acked": 0, "lost": 0})
    for turn in range(effort.n):
        folder, limit = effort.folder / str(turn), int(effort.rng(turn).integers(*DESCRIPTORS))
        folder.mkdir()
        limits = ["prlimit", f"--nofile={limit}:{limit}"]
        with victim(folder, before=limits) as one, posting(one.port, turn, clients=4, rest_s=0.0) as clients:
            clients.go()
            time.sleep(0.5)
            with ExitStack() as open_ones:
                for _ in range(CONNECTIONS):
                    crowd(open_ones, one.port)
                for status in busy(one):
                    found.add("answered_meanwhile" if status else "unanswered_meanwhile", 1)
                kept = len(clients.ledger.acked)
                time.sleep(1.0)
                found.add("acked_meanwhile", len(clients.ledger.acked) - kept)
            faults = calm(one, clients)
            clients.hold()
            faults += clients.told
            one.kill()
            faults += clients.ledger.faults(one.data, whole=True)
            found.note(*(f"with {limit} files: {fault}" for fault in faults))
            found.add("acked", len(clients.ledger.acked))
            found.add("lost", clients.ledger.lost)
    return found


def crowd(open_ones: ExitStack, port: int) -> None:
    """Open one connection, and keep it."""
    try:
        open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))
    except OSError:  # there is no place for it in the queue of the system
        time.sleep(0.01)


def busy(one: Victim) -> list[int]:
    """Return the statuses of what a server is asked while it has no file left: 0 where there is no answer."""
    large = [{"event_id": f"large-{n}", "event": "interaction", "user_id": "u0", "item_id": "i0"} for n in range(1000)]
    statuses = []
    for path, document in [("/v1/recommendations", {"user_id": "u0"}), ("/v1/events", {"events": large})] * 3:
        statuses.append(ask(one.port, path, document, timeout=1.0).status)
    return statuses


def calm(one: Victim, clients: Posting) -> list[str]:
    """Return what is wrong with a server from which the crowd went away."""
    end, kept = time.monotonic() + CALM_S, len(clients.ledger.acked)
    wanted = {"lists": False, "events": False, "reads": False}
    while time.monotonic() < end and not all(wanted.values()):
        wanted["lists"] |= ask(one.port, "/v1/recommendations", {"user_id": "u0"}, timeout=2.0).status == 200
        wanted["reads"] |= ask(one.port, "/v1/events?limit=10", None, "GET", timeout=2.0).status == 200
        wanted["events"] |= len(clients.ledger.acked) > kept
        time.sleep(0.1)
    assert one.process is not None
    if one.process.poll() is not None:
        return [f"the server ended with {one.process.poll()}: {one.told()[-300:]}"]
    return [f"{CALM_S:g} s later there are no {name}" for name, there in wanted.items() if not there]
