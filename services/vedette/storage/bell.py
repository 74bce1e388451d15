"""How a waiting watcher hears of changes: at once from its own process, by polling from others.

Rule: the bell carries no data; whoever it wakes looks for itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vedette.core.errors import Unavailable


class ChangeBell:
    """Rings for every committed change of this process. Thread-safe."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rings = 0
        self._closed = threading.Event()

    def ring(self) -> None:
        """Wake every waiter."""
        with self._condition:
            self._rings += 1
            self._condition.notify_all()

    def close(self) -> None:
        """Wake every waiter for good."""
        with self._condition:
            self._closed.set()
            self._condition.notify_all()

    def wait_for(self, newest: Callable[[], int], after: int, *, timeout_s: float, poll_s: float) -> int:
        """Wait until `newest()` is not `after`, the bell is closed or the time is over; return the last reading.

        Counting the rings before each reading means that a change between reading and sleeping is not slept over.
        """
        end = time.monotonic() + timeout_s
        revision = after
        while not self._closed.is_set():
            rings = self._rings
            try:
                revision = newest()
            except Unavailable:
                if self._closed.is_set():  # the store went away first, as it may at the end
                    break
                raise
            remaining = end - time.monotonic()
            if revision != after or remaining <= 0:
                break
            self._sleep(rings, min(poll_s, remaining))
        return revision

    def _sleep(self, rings: int, seconds: float) -> None:
        """Sleep unless the bell has rung since it had rung `rings` times."""
        with self._condition:
            self._condition.wait_for(lambda: self._rings != rings or self._closed.is_set(), seconds)
