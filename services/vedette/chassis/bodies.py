"""Request bodies as the server gives them: whole, in parts, broken or without end.

Rule: a part is counted before it is kept; nothing here holds more than the cap.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from vedette.chassis.flights import LARGE_BODY, Flight, Flights
from vedette.core.errors import TooLarge


class Transport(Protocol):
    """RSGI's protocol object, which the server hands in beside the scope; the part of it that is used here."""

    client: str
    """host:port of the peer, and of what it has connected to."""
    server: str

    async def __call__(self) -> bytes: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def client_disconnect(self) -> None: ...

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...

    def response_file(self, status: int, headers: list[tuple[str, str]], file: str) -> None: ...

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Any: ...


async def read_chunks(protocol: Transport, flights: Flights, flight: Flight, *, max_bytes: int) -> bytes:
    """A body of unknown length, counted while it comes.

    Raises:
        TooLarge: over the cap. Overloaded: as `Flights.hold`. InvalidArgument: the framing is broken, or the
            client left half-way.
    """
    chunks: list[bytes] = []
    total = 0
    flight.reading = True
    async for chunk in protocol:
        total += len(chunk)
        if total > max_bytes:
            raise too_large(max_bytes)
        if total > LARGE_BODY:
            flights.hold(flight, total)
        chunks.append(chunk)
    flight.reading = False
    return b"".join(chunks)


def check_length(length: str, max_bytes: int) -> int:
    """The number in a Content-Length, held to the cap. Raises TooLarge; the server has checked that it is one."""
    size = int(length)
    if size > max_bytes:
        raise too_large(max_bytes)
    return size


async def discard(protocol: Transport, flight: Flight, *, max_bytes: int) -> None:
    """Take in and drop the rest of a refused body, up to the cap again and the receive deadline.

    A connection closed on a client that is still sending is reset, and the client then sees a broken pipe
    in place of the answer that explains it.
    """
    dropped = 0
    flight.reading = True
    try:
        async for chunk in protocol:
            dropped += len(chunk)
            if dropped > max_bytes:
                return
    except Exception:  # noqa: BLE001, S110 - the client is gone, which is as good
        pass


def too_large(max_bytes: int) -> TooLarge:
    """The error for a body over the cap."""
    return TooLarge(f"the request body is over the limit of {max_bytes} bytes")
