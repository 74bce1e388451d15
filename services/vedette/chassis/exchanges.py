"""One HTTP request in work and its answer: the protocol object that RSGI hands to an application.

Rule: what an answer looks like on the wire is decided here and nowhere else; no header value can begin another line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.chassis.chunks import ChunkDecoder, malformed
from vedette.chassis.heads import Head
from vedette.chassis.logs import log_unexpected
from vedette.core.errors import VedetteError

if TYPE_CHECKING:
    from vedette.chassis.connections import Connection

HIGH_WATER = 256 * 1024
"""Bytes of a body, or of later requests, that wait for the application before the socket is left alone."""
_FILE_PART = 256 * 1024
_BODILESS = (204, 304)
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}

FieldLines = Sequence[tuple[str, str]]


class Exchange:
    """One request and its answer: the protocol object of RSGI."""

    __slots__ = (
        "_asked", "_body", "_decoder", "_error", "_gathers", "_left", "_more", "_parts", "_size", "_status", "_stream",
        "_wanted", "connection", "gone", "head",
    )  # fmt: skip

    def __init__(self, connection: Connection, head: Head) -> None:
        self.connection = connection
        self.head = head
        self.gone = False
        self._body = b""
        self._left = head.length
        """Bytes of the body that are still to come; -1: nobody knows."""
        self._parts: list[bytes] | None = None
        self._size = 0
        self._asked = False
        self._gathers = False
        self._decoder = ChunkDecoder() if head.length < 0 else None
        self._error: VedetteError | None = None
        self._more: asyncio.Future[None] | None = None
        self._wanted: asyncio.Future[None] | None = None
        self._status = 0
        self._stream: Stream | None = None

    @property
    def client(self) -> str:
        """host:port of the peer."""
        return self.connection.client

    @property
    def server(self) -> str:
        """host:port that the client has connected to."""
        return self.connection.local

    @property
    def whole(self) -> bool:
        """Whether all of the body has come."""
        return self._left == 0

    async def run(self) -> None:
        """The application's answer, and what has to be done when it gave none or only a part."""
        try:
            await self.connection.server.app(self.head, self)
        except asyncio.CancelledError:
            if self._status == 0 or self._stream is not None:  # the process ends, or the client has left
                self.connection.transport.abort()
            raise
        except Exception as error:  # noqa: BLE001 - the front answers what it foresees
            log_unexpected(error, "")
        if self._stream is not None:
            await self._stream.finish()
        elif self._status == 0 and self.connection.ended:  # given up, because the client has shut its side
            self.connection.transport.abort()
        elif self._status == 0:
            self.response_empty(500, [("connection", "close")])
        self.connection.answered(self, ends=True)  # nothing to do where the answer was the end

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to this request's body; the rest is another's."""
        left = self._left
        if left == 0:
            return data
        rest = b""
        if left > 0:
            if len(data) > left:
                data, rest = data[:left], data[left:]
            self._left = left - len(data)
        else:
            data, rest = self._unchunked(data)
        if self._left == 0 and self._parts is None:
            self._body = data
        elif data and (self._status == 0 or self._asked):
            self._keep(data)
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
        return rest

    def _keep(self, data: bytes) -> None:
        if self._parts is None:
            self._parts = []
        self._parts.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._gathers:
            self.connection.hold_back()

    def _unchunked(self, data: bytes) -> tuple[bytes, bytes]:
        decoder = self._decoder
        assert decoder is not None  # noqa: S101 - the length is unknown only with one
        if self._error is not None:
            return b"", b""
        try:
            data = decoder.feed(data)
        except VedetteError as error:
            self._error, data = error, b""
        if self._error is None and decoder.done:
            self._left = 0
        return data, decoder.rest if decoder.done else b""

    def abandon(self) -> None:
        """The connection is gone."""
        self.gone = True
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
        self.unwatch()

    def unwatch(self) -> None:
        """Nothing more is to be heard from the client: who waits for that need not wait on."""
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def __call__(self) -> bytes:
        """The whole body. Raises InvalidArgument when it is broken or the client left half-way."""
        if self._left:
            self._gathers = True
            self._ask()
            while self._left:
                await self._news()
        return self._take()

    def __aiter__(self) -> Exchange:
        return self

    async def __anext__(self) -> bytes:
        while not self._body and not self._parts:
            if not self._left:
                raise StopAsyncIteration
            self._ask()
            await self._news()
        return self._take()

    def _ask(self) -> None:
        """The application wants the body, or more of it: let it come."""
        if not self._asked:
            self._asked = True
            if self.head.expects_continue and self._left and not self._size and self._status == 0:
                self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.connection.resume()

    def _take(self) -> bytes:
        """What has come and was not taken yet."""
        if self._parts is None:
            body, self._body = self._body, b""
            return body
        parts, self._parts, self._size = self._parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _news(self) -> None:
        if self._error is not None:
            raise self._error
        if self.gone:
            raise malformed()
        self._more = self.connection.server.loop.create_future()
        await self._more

    async def client_disconnect(self) -> None:
        """Return when the client is gone, has shut its sending side, or has its answer."""
        connection = self.connection
        if self.gone or connection.ended or connection.exchange is not self:
            return
        if self._wanted is None:
            self._wanted = connection.server.loop.create_future()
        await asyncio.shield(self._wanted)  # others may wait for it, too

    def response_bytes(self, status: int, headers: FieldLines, body: bytes) -> None:
        """Answer with a whole body, whose length is told from it."""
        if self._status:
            return
        if status in _BODILESS:
            self.response_empty(status, headers)
            return
        lines, ends = self._begin(status, headers)
        shown = b"" if self.head.method == "HEAD" else body
        connection = self.connection
        connection.server.outbox.put(
            connection.transport, b"%bcontent-length: %d\r\n\r\n%b" % (lines, len(body), shown)
        )
        self._end(ends=ends)

    def response_empty(self, status: int, headers: FieldLines) -> None:
        """Answer without a body; a `content-length` among the headers is what GET would have had, and for HEAD only."""
        if self._status:
            return
        told = any(name == "content-length" for name, _ in headers)
        if told and self.head.method != "HEAD" and status != HTTPStatus.NOT_MODIFIED:
            headers, told = [(name, value) for name, value in headers if name != "content-length"], False
        lines, ends = self._begin(status, headers)
        told = told or status in _BODILESS
        self.connection.send(lines + (b"\r\n" if told else b"content-length: 0\r\n\r\n"))
        self._end(ends=ends)

    def response_stream(self, status: int, headers: FieldLines) -> Stream:
        """Begin an answer in parts; it ends with the application's call. Raises RuntimeError after another answer."""
        if self._status:
            raise RuntimeError("the request is answered already")
        told = next((int(value) for name, value in headers if name == "content-length"), None)
        bodiless = self.head.method == "HEAD" or status in _BODILESS
        chunked = told is None and not bodiless and self.head.http_version == "1.1"
        lines, ends = self._begin(status, headers, bounded=told is not None or chunked or bodiless)
        self.connection.send(lines + (b"transfer-encoding: chunked\r\n\r\n" if chunked else b"\r\n"))
        self._stream = Stream(self, chunked=chunked, bodiless=bodiless, told=told, ends=ends)
        return self._stream

    def response_file(self, status: int, headers: FieldLines, file: str) -> None:
        """Answer with a file, read in a thread, in parts."""
        if not any(name == "content-length" for name, _ in headers):
            headers = [*headers, ("content-length", str(Path(file).stat().st_size))]
        self.response_stream(status, headers).file = file

    def _begin(self, status: int, headers: FieldLines, *, bounded: bool = True) -> tuple[bytes, bool]:
        """The status line and the headers, and whether the connection ends with this answer: it does when nothing
        else bounds it."""
        self._status = status
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
        if fields.count("\n") != len(headers) or fields.count("\r") != len(headers) or "\0" in fields:
            fields = "".join([f"{name}: {value}\r\n" for name, value in headers if _one_line(name, value)])
        ends = "connection: close\r\n" in fields
        if not ends:
            head = self.head
            if not head.keep_alive or self._left or self.connection.server.stopping or not bounded:
                ends = True
                fields += "connection: close\r\n"
            elif head.http_version == "1.0":
                fields += "connection: keep-alive\r\n"
        reason = STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
        return f"{reason}{self.connection.server.date}{fields}".encode("latin-1", "replace"), ends

    def _end(self, *, ends: bool) -> None:
        """The answer is out. A body that is still coming may be read on until the application returns."""
        if self._left == 0:
            self.connection.answered(self, ends=ends)


class Stream:
    """An answer in parts."""

    __slots__ = ("_bodiless", "_chunked", "_ends", "_exchange", "_left", "broken", "file")

    def __init__(self, exchange: Exchange, *, chunked: bool, bodiless: bool, told: int | None, ends: bool) -> None:
        self._exchange = exchange
        self._chunked = chunked
        self._bodiless = bodiless
        self._ends = ends
        self._left = told
        """Bytes of the length that was told and are still to go; None: none was told."""
        self.broken = False
        """Set by who cannot finish: the client must not take what it has for the whole."""
        self.file = ""

    async def send_bytes(self, data: bytes) -> None:
        """Send a part, and wait while the client reads slowly. Raises ConnectionError when it is gone."""
        exchange = self._exchange
        if exchange.gone:
            raise ConnectionError("the client is gone")
        if self._bodiless or not data:
            return
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:  # what is over would be read as the next answer
                self.broken = True
                return
        exchange.connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        if exchange.connection.writable is not None:
            await asyncio.shield(exchange.connection.writable)

    async def finish(self) -> None:
        """The application has returned: end the answer, or break it off."""
        exchange = self._exchange
        if self.file and not self._bodiless:
            await self._send_file()
        if self.broken or (self._left and not self._bodiless):
            exchange.connection.transport.abort()
            return
        if self._chunked:
            exchange.connection.send(b"0\r\n\r\n")
        exchange.connection.answered(exchange, ends=self._ends or not exchange.whole)

    async def _send_file(self) -> None:
        try:
            file = await asyncio.to_thread(open, self.file, "rb")
            with file:
                while part := await asyncio.to_thread(file.read, _FILE_PART):
                    await self.send_bytes(part)
        except OSError:
            self.broken = True


def _one_line(name: str, value: str) -> bool:
    return not any(mark in text for mark in "\r\n\0" for text in (name, value))
