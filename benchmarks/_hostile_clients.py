"""Clients that mean a server ill, in a process of their own: they hold connections, renew those it ends, and count.

    python _hostile_clients.py PORT KIND NUMBER [KEY]

It says "ready" when all of them are connected, and goes on until its input ends; then it says what became of them.

- `heads` send a line of a head each second, and never the last;
- `bodies` send a byte of a body each second;
- `deaf` ask for files of the documentation page, one after the other, and read none;
- `idle` connect, and say nothing;
- `garbage` send what is no HTTP, each of them twice a second.
"""

import asyncio
import json
import random
import resource
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

EACH_S = 1.0  # between two things that a client says
TOGETHER, PAUSE_S = 100, 0.5  # clients that connect at once at first, and between them and the next
AHEAD = 6  # requests that a deaf client sends at once
FILE = "/static-offline-docs/swagger-ui-bundle.js"  # of 1.5 MB: costs a server little to send


@dataclass
class Count:
    """What became of the connections."""

    opened: int = 0
    refused: int = 0  # could not be opened
    held_s: list[float] = field(default_factory=list)  # of those that the server ended


class Hostile(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass
class Kind:
    """What clients of a kind say: first, and then again and again."""

    first: bytes
    then: bytes
    each_s: float = EACH_S
    deaf: bool = False
    together: int = TOGETHER


def kinds(port: int, key: str) -> dict[str, Callable[[], Kind]]:
    """Return what makes what a client says."""
    head = f"Host: 127.0.0.1:{port}\r\n" + (f"Authorization: Bearer {key}\r\n" if key else "")
    post = f"POST /v1/events HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    file = f"GET {FILE} HTTP/1.1\r\n{head}\r\n".encode()

    def garbage() -> Kind:
        return Kind(random.randbytes(200), random.randbytes(200), each_s=0.5)

    return {
        "heads": lambda: Kind(f"GET /v1/status HTTP/1.1\r\n{head}".encode(), b"X-More: 1\r\n"),
        "bodies": lambda: Kind(post.encode() + b"{", b" "),
        "deaf": lambda: Kind(file * AHEAD, b"\r\n", deaf=True, together=10),
        "idle": lambda: Kind(b"", b""),
        "garbage": garbage,
    }


async def hold(port: int, make: Callable[[], Kind], count: Count) -> None:
    """Hold one connection after the other."""
    loop = asyncio.get_running_loop()
    while True:
        kind = make()
        try:
            with socket.socket() as plain:
                plain.setblocking(False)
                if kind.deaf:
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await loop.sock_connect(plain, ("127.0.0.1", port))
                transport, one = await loop.create_connection(Hostile, sock=plain.dup())
        except OSError:
            count.refused += 1
            await asyncio.sleep(kind.each_s)
            continue
        count.opened, began = count.opened + 1, time.monotonic()
        if kind.deaf:
            transport.pause_reading()
        transport.write(kind.first)
        while not one.ended.done():
            await asyncio.wait([one.ended], timeout=kind.each_s)
            if kind.then and not transport.is_closing() and not transport.get_write_buffer_size():
                transport.write(kind.then)
        count.held_s.append(time.monotonic() - began)
        await asyncio.sleep(kind.each_s * random.random())


async def main(port: int, name: str, number: int, key: str) -> None:
    """Let so many clients of a kind loose until the input ends."""
    count, make, loop = Count(), kinds(port, key)[name], asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    while len(tasks) < number:
        more = min(make().together, number - len(tasks))
        tasks += [asyncio.create_task(hold(port, make, count)) for _ in range(more)]
        await asyncio.sleep(PAUSE_S)
    while count.opened + count.refused < len(tasks):
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    held = count.held_s or [0.0]
    told = {"opened": count.opened, "refused": count.refused, "ended": len(count.held_s), "longest_s": max(held)}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else ""))
