"""Our HTTP/1.1 server on the worker's own event loop: accepts, sweeps, and an orderly end.

Rule: the connections' own work is in `connections`; here is what concerns all of them. HTTP/1.1 only.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import socket
import struct
import time
from email.utils import formatdate
from typing import Any

from vedette.chassis.connections import App, Connection, Outbox
from vedette.chassis.heads import Heads
from vedette.core.errors import Unavailable

log = logging.getLogger(__name__)
_MAX_CONNECTIONS = 16_384
_ACCEPT_AGAIN_S = 0.1
_SO_ATTACH_FILTER = 26
_TCP_INFO_UNACKED = 24
"""Offset of `tcpi_unacked` in `struct tcp_info`; on a listening socket, connections not yet accepted."""


class HttpServer:
    """Serves an RSGI application on a listening socket, which it does not own."""

    def __init__(
        self, app: Any, listener: socket.socket, *, idle_timeout_s: float, keep_alive_timeout_s: float = 75.0
    ) -> None:
        """`idle_timeout_s`: for the head of a request to arrive, for a connection to stay without one, and for a
        client that has stopped reading its answer."""
        self.app: App = getattr(app, "__rsgi__", app)
        self.heads = Heads()
        self.date = ""
        self.stopping = False
        self.open: set[Connection] = set()
        self.loop: asyncio.AbstractEventLoop
        self.outbox: Outbox
        self._listener = listener
        self._socket: socket.socket | None = None
        self._idle_timeout_s = idle_timeout_s
        self._keep_alive_timeout_s = keep_alive_timeout_s
        self._accepting = False
        self._arrivals: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._empty: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Accept connections. Raises Unavailable when the socket does not listen."""
        self.loop = asyncio.get_running_loop()
        self.outbox = Outbox(self.loop)
        try:
            self._socket = self._listener.dup()
            self._socket.setblocking(False)
            self._accept_on()
        except OSError as error:
            raise Unavailable("the HTTP server did not start") from error
        self._tell_time()
        self._sweeper = asyncio.create_task(self._sweep())

    @property
    def waiting(self) -> int:
        """Connections that the kernel has established and nobody has accepted."""
        info = self._listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        return int(struct.unpack_from("I", info, _TCP_INFO_UNACKED)[0])

    def close_door(self) -> None:
        """Let no new connection begin, while those in the accept queue are still served."""
        refuse_connections(self._listener)

    async def stop(self, timeout_s: float) -> None:
        """End idle connections, and those in flight when they are answered or the time is over."""
        if self._sweeper is None:
            return
        self.stopping = True
        self.outbox.flush()
        self._sweeper.cancel()
        self._accept_off()
        if self._socket is not None:
            self._socket.close()
        for connection in tuple(self.open):
            if connection.exchange is None:
                connection.transport.close()
        if self.open:
            self._empty = self.loop.create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty, timeout_s)
        for connection in tuple(self.open):
            connection.transport.abort()

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""
        self.open.discard(connection)
        if not self.open and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)
        if not self._accepting and not self.stopping:
            self._accept_on()

    def _accept_on(self) -> None:
        if self._socket is not None and not self._accepting and not self.stopping:
            self._accepting = True
            self.loop.add_reader(self._socket.fileno(), self._accept)

    def _accept_off(self) -> None:
        if self._socket is not None and self._accepting:
            self._accepting = False
            self.loop.remove_reader(self._socket.fileno())

    def _accept(self) -> None:
        """Take one: the worker beside us, which accepts from the same queue, has its turn in between."""
        if len(self.open) + len(self._arrivals) >= _MAX_CONNECTIONS:
            self._accept_off()
            return
        assert self._socket is not None  # noqa: S101 - it is what has called
        try:
            client, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # out of descriptors: those who wait are served when others have gone
            log.warning("cannot accept a connection", extra={"reason": str(error)})
            self._accept_off()
            self.loop.call_later(_ACCEPT_AGAIN_S, self._accept_on)
            return
        client.setblocking(False)
        arrival = self.loop.create_task(self._arrived(client))
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrivals.discard)

    async def _arrived(self, client: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self), client)
        except OSError:  # it has left already
            client.close()

    async def _sweep(self) -> None:
        """Renew the time, and close who is silent, slow with a head, or does not read."""
        pause = min(0.5, self._idle_timeout_s / 4, self._keep_alive_timeout_s / 4)
        while True:
            await asyncio.sleep(pause)
            self._tell_time()
            now = time.monotonic()
            for connection in tuple(self.open):
                self._inspect(connection, now)

    def _inspect(self, connection: Connection, now: float) -> None:
        unread = connection.transport.get_write_buffer_size() if connection.writable is not None else -1
        if unread != connection.stuck_at or (connection.exchange is not None and unread < 0):
            connection.stuck_at, connection.quiet_since = unread, 0.0
        if connection.exchange is not None and unread < 0:
            return
        kept = unread < 0 and connection.kept
        if not connection.quiet_since:  # the first sweep that meets it begins its time
            connection.quiet_since = now
        elif now - connection.quiet_since > (self._keep_alive_timeout_s if kept else self._idle_timeout_s):
            if kept:
                connection.transport.close()
            else:
                connection.transport.abort()

    def _tell_time(self) -> None:
        self.date = f"date: {formatdate(usegmt=True)}\r\n"


def refuse_connections(listener: socket.socket) -> None:
    """Drop SYNs at a listening socket: a closing server then resets nobody who has already connected.

    Without this, connections that arrive between the last accept and the close are reset after they have
    sent their request. A dropped SYN is sent again and then meets a closed port: a refused connection.
    Five instructions of classic BPF over the TCP header: flags & (SYN|ACK) == SYN -> drop, else keep.
    """
    program = array.array("Q")
    for code, jump_true, jump_false, value in (
        (0x30, 0, 0, 13),  # load byte 13: the flags
        (0x54, 0, 0, 0x12),  # keep SYN and ACK
        (0x15, 0, 1, 0x02),  # only SYN?
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # keep
    ):
        program.frombytes(struct.pack("HBBI", code, jump_true, jump_false, value))
    address, length = program.buffer_info()
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", length, address))
