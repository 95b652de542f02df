"""Raw sockets: requests that two parts of a chain read differently, what is no HTTP at all, and wrong hosts."""

import contextlib
import re
import socket
import threading
import time

import httpx
import numpy as np

import _breaking
from _breaking import Effort, Found, Progress
from _victim import Victim, victim
from _wire_cases import CASES, Case

stages = _breaking.Stages()

QUIET_S, LONGEST_S = 0.4, 15.0  # without a byte, after which an answer is over; and in all
COUNT = re.compile(r'^bowerbird_requests_total\{.*route="(.*?)".*\} ([0-9.e+]+)$', re.MULTILINE)
OURS = ("/healthz", "/metrics", "/v1/items/{document_id:path}")  # routes that the clients beside ask for


def exchanged(port: int, case: Case, sent: bytes, rng: np.random.Generator) -> bytes:
    """Send the bytes of a case in a few parts, and return what comes back until it is over."""
    told = b""
    with socket.create_connection(("127.0.0.1", port), timeout=LONGEST_S) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cuts = sorted(rng.integers(0, len(sent) + 1, rng.integers(0, 3)).tolist())
        with contextlib.suppress(ConnectionError):
            for first, last in zip([0, *cuts], [*cuts, len(sent)], strict=True):
                one.sendall(sent[first:last])
                time.sleep(0.002)
            if case.then == "reset":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            if case.then in ("drop", "reset"):
                return told
            if case.then == "half":
                one.shutdown(socket.SHUT_WR)
        one.settimeout(QUIET_S if case.may_close else LONGEST_S)
        end = time.monotonic() + LONGEST_S
        with contextlib.suppress(TimeoutError, ConnectionError):
            while time.monotonic() < end and (part := one.recv(65_536)):
                told += part
                one.settimeout(QUIET_S)
    return told


def faults_of(case: Case, told: bytes) -> list[str]:
    """Return what is wrong with the answers to a case."""
    statuses = [int(one) for one in re.findall(rb"HTTP/1\.[01] (\d{3})", told)]
    faults = [f"answered {one}" for one in statuses if one not in case.statuses]
    if not statuses and not case.may_close:
        faults.append(f"no answer but {told[:80]!r}")
    if len(statuses) > max(case.most, 2):
        faults.append(f"{len(statuses)} answers")
    heads = b"".join(part.split(b"\r\n\r\n")[0].lower() for part in re.split(rb"HTTP/1\.[01] ", told)[1:])
    if b"set-cookie" in heads or b"x-evil" in heads or b"upgrade: " in heads:
        faults.append(f"a header that was sent came back: {heads[:300]!r}")
    return faults[:2]


class Beside:
    """A client as any other, which must not notice."""

    def __init__(self, server: Victim) -> None:
        self.server, self.waits, self.failed = server, list[float](), list[str]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self.server.client() as client:
            while not self._stop.wait(0.01):
                began = time.perf_counter()
                try:
                    status = client.get("/healthz").status_code
                except httpx.HTTPError as error:
                    status = type(error).__name__
                self.waits.append(time.perf_counter() - began)
                if status != 200:
                    self.failed.append(f"a client beside got {status}")

    def end(self) -> list[str]:
        """Stop it; return what it complains of."""
        self._stop.set()
        self._thread.join()
        return self.failed[:3]


def reached(client: httpx.Client) -> int:
    """Return how many requests reached the application, those of the clients beside not counted."""
    text = client.get("/metrics").text
    return round(
        sum(
            float(n)
            for route, n in COUNT.findall(text)
            if route not in ("/healthz", "/metrics", "/v1/items/{document_id:path}")
        )
    )


@stages("wire", "what is no proper request is refused or cut off, hides no second one, and disturbs nobody", n=900)
def wire(effort: Effort) -> Found:
    """Send every case in parts of all sizes; look for what was smuggled in, and at a client beside."""
    found, step = Found(), Progress(effort, "connections")
    with victim(effort.folder) as server, server.client() as client:
        beside = Beside(server)
        places = effort.rng().permutation(len(CASES)) if effort.n < len(CASES) else np.arange(len(CASES))
        for number in range(effort.n):
            case, rng, mark = CASES[places[number % len(CASES)]], effort.rng(number), f"smuggled-{number}"
            before = reached(client)
            told = exchanged(server.port, case, case.sent.replace(b"MARK", mark.encode()), rng)
            faults = faults_of(case, told)
            if client.get(f"/v1/items/{mark}").status_code != 404 and case.most < 2:
                faults.append("the request within was answered")
            if (n := reached(client) - before) > case.most:
                faults.append(f"{n} requests reached the application")
            if server.process is None or server.process.poll() is not None:
                found.note(f"connection {number}, {case.name}: the server ended")
                break
            found.note(*(f"connection {number}, {case.name}: {fault}" for fault in faults))
            found.add("answered" if told else "closed", 1)
            step(number)
        found.note(*beside.end())
        found.figures |= {"kinds": len(CASES), "beside_p99_ms": round(1000 * float(np.quantile(beside.waits, 0.99)), 1)}
        found.note(*["the server printed a traceback"] * ("Traceback" in server.told()))
    return found
