"""Granian inside our process: one listening socket, our event loop, and an orderly end.

Rule: the only importer of granian. HTTP/1.1 only: in this mode Granian's header timeout also closes silent and
idle connections (measured; with protocol detection on, it did not).
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from vedette.core.errors import Unavailable

_MAX_CONNECTIONS = 16_384
_SO_ATTACH_FILTER = 26
_TCP_INFO_UNACKED = 24
"""Offset of `tcpi_unacked` in `struct tcp_info`; on a listening socket, connections not yet accepted."""


class HttpServer:
    """Serves an RSGI application on a listening socket, which it does not own."""

    def __init__(self, app: Any, listener: socket.socket, *, idle_timeout_s: float) -> None:
        """`idle_timeout_s`: for the head of a request to arrive, and for a connection to stay without one."""
        self._listener = listener
        host, port = listener.getsockname()[:2]
        self._server = _Embedded(
            app,
            listener=listener,
            address=host,
            port=port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            websockets=False,
            backlog=_MAX_CONNECTIONS,
            http1_settings=HTTP1Settings(header_read_timeout=round(idle_timeout_s * 1000)),
            log_enabled=False,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept connections. Raises Unavailable when Granian does not start."""
        self._task = asyncio.create_task(self._server.serve())
        for _ in range(3):  # it starts in its first step, and an error shows at once
            await asyncio.sleep(0)
        if self._task.done():
            raise Unavailable("the HTTP server did not start") from self._task.exception()

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
        if self._task is None:
            return
        self._server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait([self._task], timeout=timeout_s)
        self._task.cancel()


class _Embedded(Server):
    """Granian's embedded server on a socket that someone else bound."""

    def __init__(self, app: Any, *, listener: socket.socket, **settings: Any) -> None:
        super().__init__(app, **settings)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        self._ssp = None
        # the holder closes its descriptor; Granian's stubs know neither constructor nor attribute
        holder: Any = SocketHolder
        self._shd = holder(os.dup(self._listener.fileno()), False, self.backlog)


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
