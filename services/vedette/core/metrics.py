"""The instruments of metrics as a port.

Rule: labels are bound once, when a model loads, and the bound instrument is kept. Label values come only from
things that an operator registered. Every name stands in the chassis' table of metrics.
"""

from __future__ import annotations

from typing import Protocol


class Counter(Protocol):
    """Only ever grows."""

    def inc(self, amount: float = 1.0) -> None: ...


class Gauge(Protocol):
    """Goes up and down."""

    def set(self, value: float) -> None: ...

    def inc(self, amount: float = 1.0) -> None: ...

    def dec(self, amount: float = 1.0) -> None: ...


class Histogram(Protocol):
    """Counts values into fixed buckets."""

    def observe(self, value: float) -> None: ...


class Metrics(Protocol):
    """Hands out instruments with their labels bound. Asking again for the same ones gives the same series.

    Raises:
        KeyError: the name is not in the table, or the labels are not exactly the metric's.
    """

    def counter(self, name: str, **labels: str) -> Counter: ...

    def gauge(self, name: str, **labels: str) -> Gauge: ...

    def histogram(self, name: str, **labels: str) -> Histogram: ...

    def forget(self, **labels: str) -> None:
        """Drop every series that has all of these label values (an endpoint was deleted)."""
        ...


class _Silent:
    """All three instruments, doing nothing."""

    def inc(self, amount: float = 1.0) -> None: ...

    def dec(self, amount: float = 1.0) -> None: ...

    def set(self, value: float) -> None: ...

    def observe(self, value: float) -> None: ...


class NoMetrics:
    """Metrics that go nowhere: the default, so that libraries cost nothing unless wired."""

    def counter(self, name: str, **labels: str) -> Counter:
        return _Silent()

    def gauge(self, name: str, **labels: str) -> Gauge:
        return _Silent()

    def histogram(self, name: str, **labels: str) -> Histogram:
        return _Silent()

    def forget(self, **labels: str) -> None: ...
