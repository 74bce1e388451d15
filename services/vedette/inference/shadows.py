"""Copies of requests for shadow variants: bounded, thinned, run only when there is room, never answered.

Rule: offering a copy costs an append or a counted drop. One thread of the lowest priority runs copies one after
another, and only while no caller's request waits for a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vedette.codec.binary import byte_size
from vedette.core.errors import VedetteError
from vedette.core.tensors import InferRequest, Tensor
from vedette.inference.router import ServedVariant, Shadow
from vedette.inference.workers import Workers

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Copy:
    variant: ServedVariant
    inputs: list[Tensor]
    size: int


class ShadowLane:
    """The queue of copies of this process and the task that works on it."""

    def __init__(self, workers: Workers, *, max_copies: int = 64, max_bytes: int = 64 << 20) -> None:
        self._workers = workers
        self._max_copies = max_copies
        self._max_bytes = max_bytes
        self._bytes = 0
        self._queue: deque[_Copy] = deque()
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow", initializer=_yield_to_others)

    def offer(self, shadow: Shadow, request: InferRequest) -> None:
        """Copy the request to the shadow if it is in its share; count a drop when the queue is full."""
        if shadow.share < 1.0 and shadow.turns.next() >= shadow.share:
            return
        size = sum(map(byte_size, request.inputs))
        if len(self._queue) >= self._max_copies or self._bytes + size > self._max_bytes:
            shadow.variant.meters.count_shadow("dropped")
            return
        self._bytes += size
        shadow.variant.executor.hold()
        self._queue.append(_Copy(shadow.variant, request.inputs, size))
        self._wake.set()

    async def run(self) -> None:
        """Work on copies until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._workers.room()
                if self._queue:
                    await self._work(self._pop())

    def discard(self, variants: Collection[ServedVariant]) -> None:
        """Drop the copies that wait for these variants: they are being replaced."""
        for copy in [copy for copy in self._queue if copy.variant in variants]:
            self._queue.remove(copy)
            self._bytes -= copy.size
            copy.variant.meters.count_shadow("dropped")
            copy.variant.executor.release()

    def close(self) -> None:
        """Let the thread end with what it is running."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _pop(self) -> _Copy:
        copy = self._queue.popleft()
        self._bytes -= copy.size
        return copy

    async def _work(self, copy: _Copy) -> None:
        variant = copy.variant
        try:
            variant.meters.count_shadow(await self._outcome(copy))
        finally:
            variant.executor.release()

    async def _outcome(self, copy: _Copy) -> str:
        check, runtime = copy.variant.check, copy.variant.executor.runtime
        try:
            feeds, _ = check.feeds(copy.inputs)
            await asyncio.get_running_loop().run_in_executor(self._thread, runtime.run, feeds, check.outputs(()))
        except VedetteError as error:
            return error.code
        except Exception:
            log.exception("a shadow copy failed", extra={"endpoint": copy.variant.endpoint})
            return "internal"
        return "OK"


def _yield_to_others() -> None:
    """On Linux a thread has a priority of its own: copies take only the CPU time that is left over."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
