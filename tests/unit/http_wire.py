"""A connection without a socket: what a client sends is cut by the test, what it reads is kept, and it may not read."""

from __future__ import annotations

import asyncio
from typing import Any

from vedette.chassis.connections import Connection, Outbox
from vedette.chassis.http_server import HttpServer

HIGH_WATER = 64 * 1024


class Wire:
    """The transport of one connection, and the connection over it. Make it while the loop runs."""

    def __init__(self, app: Any, *, server: HttpServer | None = None) -> None:
        self.server = server or server_of(app)
        self.got = bytearray()
        self.reading = True
        self.closing = self.aborted = self.shut = False
        self.unread = -1
        """Bytes written that the client has not read; -1: it reads at once."""
        self.connection = Connection(self.server)
        self.connection.connection_made(self)  # type: ignore[arg-type]

    async def send(self, data: bytes, *, turns: int = 1) -> None:
        """The client's bytes, as soon as they are read; then some turns of the loop."""
        async with asyncio.timeout(10):
            while not self.reading and not self.closing:  # noqa: ASYNC110 - the connection's own state
                await asyncio.sleep(0)
        if not self.closing:
            # not from this task: the first step of a request runs in place, as it does below a socket's callback
            asyncio.get_running_loop().call_soon(self._receive, data)
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)

    async def end(self) -> bool:
        """The client sends no more; whether the connection stays open to answer it."""
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: ended.set_result(bool(self.connection.eof_received())))
        keeps = await ended
        if not keeps:
            self.close()
        return keeps

    async def until_closed(self) -> bytes:
        """All that the client got until the end of the connection."""
        async with asyncio.timeout(10):
            while not self.closing:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
        return bytes(self.got)

    def _receive(self, data: bytes) -> None:
        if not self.closing:
            self.connection.data_received(data)

    def read_all(self) -> None:
        """The client, which had stopped, reads."""
        self.unread = -1
        self.connection.resume_writing()

    # what a transport does

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1)

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        assert not self.shut, "written behind the end"
        assert not self.closing, "written after close"
        self.got += data
        if self.unread >= 0:
            before, self.unread = self.unread, self.unread + len(data)
            if before <= HIGH_WATER < self.unread:
                self.connection.pause_writing()

    def write_eof(self) -> None:
        self.shut = True

    def get_write_buffer_size(self) -> int:
        return max(0, self.unread)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()


def server_of(app: Any) -> HttpServer:
    """A server that has no socket."""
    server = HttpServer(app, None, idle_timeout_s=10)  # type: ignore[arg-type]
    server.loop = asyncio.get_running_loop()
    server.outbox = Outbox(server.loop)
    server.date = "date: now\r\n"
    return server
