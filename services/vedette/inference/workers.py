"""How much runs at once: the threads that all models share, and how many requests an endpoint may have waiting.

Rule: used on the event loop only; in a thread there is nothing but `Batch.run`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from vedette.core.metrics import Gauge


class Gate:
    """How many requests of one endpoint may wait or run in threads; shared by its variants."""

    __slots__ = ("_gauge", "count", "limit")

    def __init__(self, limit: int, gauge: Gauge) -> None:
        self.limit = limit
        self.count = 0
        self._gauge = gauge

    def enter(self) -> None:
        """One more."""
        self.count += 1
        self._gauge.inc()

    def leave(self) -> None:
        """One less."""
        self.count -= 1
        self._gauge.dec()


class Batch(Protocol):
    """What a thread runs."""

    @property
    def width(self) -> int:
        """Threads that it takes."""

    def run(self) -> Any:
        """In the thread."""

    def finish(self, done: asyncio.Future[Any]) -> None:
        """On the event loop, when `run` has returned or raised, or was never begun."""


class Line(Protocol):
    """A model whose work may wait for threads."""

    in_turn: bool
    """The workers' own note."""

    @property
    def width(self) -> int:
        """Threads that its next batch takes."""

    @property
    def waits(self) -> bool:
        """Whether there may be a next batch."""

    def take(self) -> Batch | None:
        """The next batch, or None when there is none after all."""


class Workers:
    """A fixed number of threads that all models share; models with waiting work take turns.

    A run that ONNX Runtime spreads over several threads of its own takes as many of ours, or all, so that together
    they never want more processors than there are.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._free = threads
        self._turns: deque[Line] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")

    def has_room(self, width: int) -> bool:
        """Whether a run of so many threads may begin now; never while a model waits for its turn."""
        return self._free >= min(width, self.threads) and not self._turns

    async def room(self) -> None:
        """Wait until a thread is free and nothing waits: then a shadow copy may use the machine."""
        await self._room.wait()

    def offer(self, line: Line) -> None:
        """This model has work waiting."""
        if not line.in_turn:
            line.in_turn = True
            self._turns.append(line)
        self._dispatch()

    def start(self, batch: Batch) -> None:
        """Run this batch in a thread that is free."""
        self._free -= min(batch.width, self.threads)
        running = asyncio.get_running_loop().run_in_executor(self._pool, batch.run)
        running.add_done_callback(lambda done: self._finished(batch, done))
        if not self._free:
            self._room.clear()

    def close(self) -> None:
        """Wait for no one: threads end with what they are running."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _dispatch(self) -> None:
        while self._free and self._turns:
            line = self._turns[0]
            if line.waits and self._free < min(line.width, self.threads):
                break
            self._turns.popleft()
            batch = line.take()
            if batch is None:
                line.in_turn = False
                continue
            self._turns.append(line)
            self.start(batch)
        if self._free and not self._turns:
            self._room.set()
        else:
            self._room.clear()

    def _finished(self, batch: Batch, done: asyncio.Future[Any]) -> None:
        self._free += min(batch.width, self.threads)
        self._dispatch()
        batch.finish(done)
