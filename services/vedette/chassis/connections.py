"""HTTP/1.1 on the event loop: one connection, its requests one after another, and their answers.

Rule: a request that arrives whole is read and run inside the call in which its bytes came, and its answer leaves
with the others of that turn of the loop; whatever is rare (parts, chunks, pipelining, slow readers) is behind a
branch. No thread stands between the socket and the handler: each hop cost a wake-up (docs/design/performance.md).

A request and its answer are `exchanges`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from vedette.chassis.eager import start_eagerly
from vedette.chassis.exchanges import HIGH_WATER, STATUS_LINES, Exchange
from vedette.chassis.heads import MAX_HEAD_BYTES, Heads, RefusedHead

log = logging.getLogger(__name__)
POLL_S = 0.0001
_MISSES = 2
"""Looked in vain so often, one answer in `_TRY_AFTER` is followed by a look."""
_TRY_AFTER = 32
_LINGER_S = 1.0
_LINGER_BYTES = 4 * 1024 * 1024
_CR = 13
_FOREIGN = re.compile(rb"[\r\n]*+[^\r\n!-~]")
"""TLS, or nonsense: a request begins with a printable character."""

App = Callable[[Any, Any], Awaitable[None]]


class Outbox:
    """Answers of one turn of the loop, written together at its end.

    A write wakes its reader, on another CPU, and that costs more than the write (an interrupt; in a virtual
    machine an exit to the host). Written together, the first wakes it and the others find it awake. Measured with
    32 connections, bare handler with the model: 33 us a request when each writes for itself, 15 us together; with
    one connection the same within 2 us.

    After an answer that left alone, the loop looks for the next request for `POLL_S` before it sleeps, as long as
    that finds one: a caller with one connection asks again at once, and being woken costs a quarter of what it
    waits for. Measured at one connection: p50 153 us without, 115 us with; at 32 connections no difference.
    """

    __slots__ = ("_loop", "_missed", "_now", "_until", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, now: Callable[[], float] = time.perf_counter) -> None:
        self._loop = loop
        self._now = now
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []
        self._until = 0.0
        """When looking ends; 0: nobody looks."""
        self._missed = 0

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write soon."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((transport, data))

    def flush(self) -> None:
        """Write now."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            try:
                if not transport.is_closing():
                    transport.write(data)
            except Exception as error:  # noqa: BLE001 - the others' answers do not depend on it
                log.warning("cannot answer a client", extra={"reason": str(error)})
                transport.abort()
        if len(waiting) == 1:
            self._look()

    def _look(self) -> None:
        """Begin to look for the next request, or go on, unless that was in vain lately."""
        looking = self._until > 0.0
        if looking:
            self._missed = 0
        elif self._missed >= _MISSES:
            self._missed += 1
            if self._missed < _TRY_AFTER:
                return
            self._missed = _MISSES - 1
        self._until = self._now() + POLL_S
        if not looking:
            self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        """Keep the loop from sleeping for one more turn."""
        if self._now() < self._until:
            self._loop.call_soon(self._poll)
        else:
            self._until = 0.0
            self._missed += 1


class Server(Protocol):
    """What a connection needs of the server it belongs to."""

    app: App
    heads: Heads
    date: str
    """The header line of the time, renewed about every second."""
    stopping: bool
    loop: asyncio.AbstractEventLoop
    open: set[Connection]
    outbox: Outbox

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""


class Connection(asyncio.Protocol):
    """One client. `exchange` is its request in work; `quiet_since` is the sweep's."""

    __slots__ = ("_ahead", "_answered", "_ends", "_lingered", "_paused", "client", "ended", "exchange", "local",
                 "quiet_since", "server", "stuck_at", "transport", "writable")  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.exchange: Exchange | None = None
        self.quiet_since = 0.0
        self.stuck_at = -1
        self.writable: asyncio.Future[None] | None = None
        """Set while the client reads slower than we write."""
        self.client = self.local = ""
        self.ended = False
        """The client sends no more."""
        self._ahead = bytearray()
        """What came before its time: an unfinished head, or requests behind the one in work."""
        self._answered = False
        self._ends = False
        self._lingered = -1
        self._paused = False

    @property
    def kept(self) -> bool:
        """Whether it has been answered and may ask again: a client's, or a proxy's, for later."""
        return self._answered and self.exchange is None and not self._ahead and not self._ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has been accepted."""
        self.transport = transport  # type: ignore[assignment]
        self.client, self.local = _name(transport, "peername"), _name(transport, "sockname")
        self.server.open.add(self)
        if self.server.stopping:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        if self.exchange is not None:
            data = self.exchange.feed(data)
            if not data:
                return
        if self.exchange is not None or self._ends or self._ahead or self.writable is not None:
            self._later(data)
            return
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or data[0] == _CR:
            self._later(data)
            return
        self._begin(data[:end], data[end:])

    def eof_received(self) -> bool:
        """The client sends no more. Most have left, some wait: what came whole is answered, unless it takes so long
        that somebody asks whether the client is still there."""
        self.ended = True
        self.server.outbox.flush()
        if self.exchange is None:
            return bool(self._ahead) and not self._ends and self._waits()
        if self.exchange.whole:
            self.exchange.unwatch()
            return True
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        self.server.closed(self)
        if self.exchange is not None:
            self.exchange.abandon()
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)

    def pause_writing(self) -> None:
        """The client reads slower than we write: take no more from it."""
        self.writable = self.server.loop.create_future()
        self._pause()

    def resume_writing(self) -> None:
        """The client has read."""
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable, self.stuck_at = None, -1
        self.resume()
        self._soon()

    def _begin(self, raw: bytes, rest: bytes) -> None:
        """One whole head, and what came behind it; or `rest` is empty, and that is in `_ahead`."""
        self.quiet_since = 0.0
        try:
            head = self.server.heads.read(raw)
        except RefusedHead as refusal:
            self.refuse(refusal.status)
            return
        exchange = self.exchange = Exchange(self, head)
        if head.length and self._ahead:
            size = head.length if head.length > 0 else len(self._ahead)
            rest = bytes(self._ahead[:size])
            del self._ahead[:size]
        if rest or head.length:
            rest = exchange.feed(rest)
            if rest:
                self._ahead += rest
        if self.ended and not exchange.whole:
            self.transport.close()
            return
        start_eagerly(self.server.loop, exchange.run())

    def _later(self, data: bytes) -> None:
        """Bytes that cannot be used yet."""
        if self._ends:
            self._linger(len(data))
            return
        self._ahead += data
        if self.exchange is None and self.writable is None:
            self._look(len(data))
        if len(self._ahead) > HIGH_WATER and not self._ends:
            self._pause()

    def _look(self, came: int) -> None:
        """Begin a request if its head is whole now; `came`: so many bytes at the end are new."""
        start = max(0, len(self._ahead) - came - 3)
        if self._ahead.find(b"\r\n\r\n", start) >= 0 or len(self._ahead) > MAX_HEAD_BYTES:
            self._next()
        elif start == 0 and _FOREIGN.match(self._ahead):
            self.refuse(400)

    def _next(self) -> None:
        """The next request of those that wait, if its head is whole. Costs what it takes, not what waits."""
        ahead = self._ahead
        while ahead and ahead[0] in b"\r\n":  # an empty line before a request is allowed
            del ahead[: max(1, len(ahead) - len(ahead.lstrip(b"\r\n")))]
        end = ahead.find(b"\r\n\r\n") + 4
        if end >= 4:
            raw = bytes(ahead[:end])
            del ahead[:end]
            self._begin(raw, b"")
        elif len(ahead) > MAX_HEAD_BYTES:
            self.refuse(431)
        elif self.ended:
            self.transport.close()

    def _waits(self) -> bool:
        """Whether the head of a request waits."""
        return self._ahead.find(b"\r\n\r\n") >= 0

    def refuse(self, status: int) -> None:
        """Answer what is no request, and end."""
        lines = f"{STATUS_LINES[status]}{self.server.date}connection: close\r\ncontent-length: 0\r\n\r\n"
        self.send(lines.encode())
        self._end(whole=False)

    def send(self, data: bytes) -> None:
        """Write to the client now, after what it is still to get; dropped when it is gone."""
        self.server.outbox.flush()
        if not self.transport.is_closing():
            self.transport.write(data)

    def answered(self, exchange: Exchange, *, ends: bool) -> None:
        """The request in work is done with: take the next, or end."""
        if self.exchange is not exchange:
            return
        self.exchange = None
        self._answered = True
        exchange.unwatch()
        if ends or self.server.stopping or (self.ended and not self._ahead):
            self._end(whole=exchange.whole)
            return
        if self._paused:
            self.resume()
        self._soon()

    def _soon(self) -> None:
        """Take the next request of those that wait in a turn of its own: others have theirs in between, and it does
        not begin inside this one's task or context, whose ids would be its own."""
        if self._ahead and self.writable is None:
            self.server.loop.call_soon(self._continue, context=contextvars.Context())

    def _continue(self) -> None:
        """Take the next request of those that wait, if it is time for it."""
        idle = self.exchange is None and self.writable is None and not self._ends
        if idle and self._ahead and not self.transport.is_closing():
            self._next()

    def _end(self, *, whole: bool) -> None:
        """Close; with a body still on its way, only after a moment: a reset would take the answer with it."""
        self._ends, self._lingered = True, 0
        self._ahead.clear()
        self.server.outbox.flush()
        self.resume()
        if whole or self.ended:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write_eof()  # the client need not wait for us to stop listening
            self.server.loop.call_later(_LINGER_S, self.transport.close)

    def _linger(self, size: int) -> None:
        self._lingered += size
        if self._lingered > _LINGER_BYTES:
            self.transport.close()

    def _pause(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read from the client again, unless it does not read from us, enough waits already, or there is no more."""
        if self._paused and self.writable is None and len(self._ahead) <= HIGH_WATER:
            if self.ended or self.transport.is_closing():
                return
            self._paused = False
            self.transport.resume_reading()

    def hold_back(self) -> None:
        """Read no more until `resume`: enough waits for the application."""
        self._pause()


def _name(transport: asyncio.BaseTransport, which: str) -> str:
    address = transport.get_extra_info(which)
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else ""
