"""Connections: how long one may keep the server waiting before it is ended.

uvicorn waits without end for a head that was begun, or never was, and for a client that does not read its answers. How
long a body may take is for the gate to say.
"""

from asyncio import TimerHandle, Transport
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

PATIENCE_S = 10.0  # for the next head, and for a client to read
LONGEST_HEAD = 64 * 1024  # bytes that are kept of a head that does not end; the gate looks at those that do
LEAST_READ = 16 * 1024  # bytes that a client must read of what waits for it, in PATIENCE_S
MOST_AHEAD = 32  # requests of one connection that may come before an earlier one is answered


class Connection(HttpToolsProtocol):
    """A connection of uvicorn's that is ended where its client is too slow, or sends too much ahead."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._late: TimerHandle | None = None  # runs while a head is awaited
        self._stuck: TimerHandle | None = None  # runs while the client must read
        self._answering: Any = None  # what came first of what is not answered yet; `cycle` is what came last
        self._head = self._unread = 0  # bytes of the head so far, and those that waited when `_stuck` was set

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        self._stop_looking()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; end the connection where a head grows too long."""
        super().data_received(data)
        if self._late is not None:
            self._head += len(data)
            if self._head > LONGEST_HEAD:
                self.transport.abort()
        elif self not in self.connections:
            self._stop_waiting()  # it is a WebSocket's from now on, whose own protocol looks after it
        elif self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()  # what came was the beginning of nothing, such as an empty line

    def on_message_begin(self) -> None:
        """Begin to read a head."""
        if len(self.pipeline) >= MOST_AHEAD:
            raise httptools.HttpParserError("too many requests ahead")
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Hand on a request."""
        self._stop_waiting()
        self._head = 0
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with the next request; where there is none to be, what was said must still be read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reading()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, and end the connection: what was asked before it is answered no more."""
        for cycle in filter(None, [self._answering, self.cycle, *(one for one, _ in self.pipeline)]):
            cycle.disconnected = True
            cycle.message_event.set()
        super().send_400_response(msg)

    def timeout_keep_alive_handler(self) -> None:
        """End a connection at rest."""
        super().timeout_keep_alive_handler()
        self._await_reading()

    def pause_writing(self) -> None:
        """Stop writing until the client has read."""
        super().pause_writing()
        self._await_reading()

    def resume_writing(self) -> None:
        """Write on."""
        if not self.transport.is_closing():
            self._stop_looking()
        super().resume_writing()

    def _await_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(PATIENCE_S, self._end)

    def _await_reading(self) -> None:
        if self._stuck is None:
            self._unread = self.transport.get_write_buffer_size()
            self._stuck = self.loop.call_later(PATIENCE_S, self._look)

    def _look(self) -> None:
        """End the connection, unless its client reads, however slowly."""
        self._stuck = None
        if self._unread - self.transport.get_write_buffer_size() < LEAST_READ:
            self.transport.abort()
        else:
            self._await_reading()

    def _end(self) -> None:
        """End a connection whose head did not come."""
        self._late = None
        self.transport.close()
        self._await_reading()

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _stop_looking(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
