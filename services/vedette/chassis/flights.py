"""Requests between their first byte and their answer, and the sweep that ends the hopeless ones.

Rule: a request pays for its place in a set and nothing else. One sweep every quarter second, over what is in
flight, stands for a timer per request and for asking the server at once whether each client is still there
(measured: `loop.call_later` + cancel 0.5 us, a disconnect watcher 20 us a request; the place in the set 0.1 us).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from vedette.core.errors import Overloaded

SWEEP_S = 0.25
LARGE_BODY = 64 * 1024


class Flight:
    """One request. `reading` while its body is awaited; `received` bytes so far, for streamed bodies."""

    __slots__ = ("buffered", "expired", "gone", "protocol", "reading", "received", "seen", "streaming", "task", "watch")

    def __init__(self, protocol: Any, task: asyncio.Task[Any] | None) -> None:
        self.protocol = protocol
        self.task = task
        self.reading = False
        self.streaming = False
        self.received = 0
        self.buffered = 0
        self.seen = 0.0
        self.expired = False
        self.gone = False
        self.watch: asyncio.Task[None] | None = None


class Flights:
    """The set of flights. A flight is put in and taken out by its request; `sweep` runs until cancelled."""

    def __init__(self, *, receive_timeout_s: float, max_buffered_bytes: int, minimum_rate: int = 16 * 1024) -> None:
        """`minimum_rate`: bytes per second that a streamed upload must keep up, averaged, after the timeout."""
        self.open: set[Flight] = set()
        self.buffered = 0
        self._max_buffered_bytes = max_buffered_bytes
        self._receive_timeout_s = receive_timeout_s
        self._minimum_rate = minimum_rate

    async def sweep(self, monotonic: Callable[[], float]) -> None:
        """Look after the flights until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = monotonic()
            for flight in tuple(self.open):
                self.inspect(flight, now)

    def inspect(self, flight: Flight, now: float) -> None:
        """Give up a body that is late; begin to watch the client of a request that takes long."""
        if not flight.seen:  # the first sweep that meets it starts its time: exact to SWEEP_S
            flight.seen = now
            return
        if flight.reading:
            allowed = self._receive_timeout_s
            if flight.streaming:
                allowed += flight.received / self._minimum_rate
            if now - flight.seen > allowed and flight.task is not None and not flight.expired:
                flight.expired = True
                flight.task.cancel()
        elif flight.watch is None and not flight.streaming:
            flight.watch = asyncio.create_task(_watch(flight))

    def hold(self, flight: Flight, size: int) -> None:
        """Account for a large body of `size` bytes until the flight leaves. Small ones are not worth the time.

        Raises:
            Overloaded: with it, the bodies in memory would be over the limit.
        """
        if self.buffered - flight.buffered + size > self._max_buffered_bytes:
            raise Overloaded("too many large requests are being received; send again later")
        self.buffered += size - flight.buffered
        flight.buffered = size

    def leave(self, flight: Flight) -> None:
        """The request is answered or given up."""
        self.open.discard(flight)
        self.buffered -= flight.buffered
        if flight.watch is not None:
            flight.watch.cancel()


async def _watch(flight: Flight) -> None:
    await flight.protocol.client_disconnect()
    if flight.task is not None and not flight.task.done():
        flight.gone = True
        flight.task.cancel()
