"""Metrics of a service: instruments that are cells in shared memory, and the page that sums all workers'.

Rule: an observation is a few stores into this process's own region, without a lock: `cells[i] += v` cannot be
interrupted by another thread of the interpreter, which switches only at calls and backward jumps.
docs/adr/0004-metrics-cells.md has the reasons and the measurements.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from vedette.chassis.cells import DISCARD, Region, RegionFull, Series, create_region
from vedette.chassis.metrics import METRICS, Metric
from vedette.chassis.processes import process_families

MAX_SERIES = 5_000
OVERFLOW = "_overflow"
_DROPPED = "vedette_metric_series_dropped_total"
_RESTARTS = "vedette_worker_restarts_total"


class _CellCounter:
    __slots__ = ("base", "cells")

    def __init__(self, cells: memoryview[float], base: int) -> None:
        self.cells, self.base = cells, base

    def inc(self, amount: float = 1.0) -> None:
        if amount < 0:
            raise ValueError("a counter only grows")
        self.cells[self.base] += amount


class _CellGauge:
    __slots__ = ("base", "cells")

    def __init__(self, cells: memoryview[float], base: int) -> None:
        self.cells, self.base = cells, base

    def set(self, value: float) -> None:
        self.cells[self.base] = value

    def inc(self, amount: float = 1.0) -> None:
        self.cells[self.base] += amount

    def dec(self, amount: float = 1.0) -> None:
        self.cells[self.base] -= amount


class _CellHistogram:
    """Cells: one per bucket, one for values above the last bound, then the sum of the values."""

    __slots__ = ("base", "bounds", "cells", "total")

    def __init__(self, cells: memoryview[float], base: int, bounds: tuple[float, ...]) -> None:
        self.cells, self.bounds = cells, bounds
        self.base, self.total = base, base + len(bounds) + 1

    def observe(self, value: float) -> None:
        cells = self.cells
        cells[self.base + bisect_left(self.bounds, value)] += 1.0
        cells[self.total] += value


_Instrument = _CellCounter | _CellGauge | _CellHistogram


def _size(metric: Metric) -> int:
    return len(metric.buckets) + 2 if metric.kind == "histogram" else 1


class CellMetrics:
    """`core.metrics.Metrics` over the regions of a service's workers; `own` is this worker's."""

    def __init__(self, regions: Sequence[Region], *, own: int, max_series: int = MAX_SERIES) -> None:
        self.regions = tuple(regions)
        self._region = self.regions[own]
        self._max_series = max_series
        sizes = {name: _size(metric) for name, metric in METRICS.items()}
        kept = self._region.take_over(os.getpid(), time.time(), sizes=sizes)
        self._instruments = {series: self._bind(METRICS[series[0]], base) for series, base in kept.items()}
        for instrument in self._instruments.values():
            if isinstance(instrument, _CellGauge):
                instrument.set(0.0)  # what it gauged died with the process before
        self._dropped = self.counter(_DROPPED)

    @classmethod
    def alone(cls) -> CellMetrics:
        """Metrics of a process without a supervisor: one region of its own."""
        fd = create_region("alone")
        try:
            return cls([Region(fd)], own=0)
        finally:
            os.close(fd)

    def counter(self, name: str, **labels: str) -> _CellCounter:
        found = self._instrument(name, labels)
        if not isinstance(found, _CellCounter):
            raise KeyError(f"{name} is not a counter")
        return found

    def gauge(self, name: str, **labels: str) -> _CellGauge:
        found = self._instrument(name, labels)
        if not isinstance(found, _CellGauge):
            raise KeyError(f"{name} is not a gauge")
        return found

    def histogram(self, name: str, **labels: str) -> _CellHistogram:
        found = self._instrument(name, labels)
        if not isinstance(found, _CellHistogram):
            raise KeyError(f"{name} is not a histogram")
        return found

    def forget(self, **labels: str) -> None:
        gone = [series for series in self._instruments if _matches(series, labels)]
        for series in gone:
            instrument = self._instruments.pop(series)
            instrument.base = DISCARD  # a request in flight may still hold it
            if isinstance(instrument, _CellHistogram):
                instrument.total = DISCARD
        if gone:
            self._region.release(gone)

    def _instrument(self, name: str, labels: dict[str, str]) -> _Instrument:
        metric = METRICS[name]
        if labels.keys() != set(metric.labels):
            raise KeyError(f"{name} has the labels {metric.labels}, not {tuple(labels)}")
        series = (name, tuple(labels[label] for label in metric.labels))
        found = self._instruments.get(series)
        return found if found is not None else self._create(metric, series)

    def _create(self, metric: Metric, series: Series) -> _Instrument:
        overflow = (metric.name, (OVERFLOW,) * len(metric.labels))
        if len(self._instruments) >= self._max_series and series != overflow and metric.labels:
            return self._overflowed(metric, overflow)
        try:
            base = self._region.allocate(series, _size(metric))
        except RegionFull:
            if series == overflow:
                return self._bind(metric, DISCARD)
            return self._overflowed(metric, overflow)
        instrument = self._instruments[series] = self._bind(metric, base)
        return instrument

    def _overflowed(self, metric: Metric, overflow: Series) -> _Instrument:
        self._dropped.inc()
        found = self._instruments.get(overflow)
        return found if found is not None else self._create(metric, overflow)

    def _bind(self, metric: Metric, base: int) -> _Instrument:
        cells = self._region.cells
        if metric.kind == "histogram":
            return _CellHistogram(cells, base, metric.buckets)
        return _CellCounter(cells, base) if metric.kind == "counter" else _CellGauge(cells, base)


class Exposition:
    """The `/metrics` page: the sum of all workers' regions, as Prometheus text or OpenMetrics."""

    def __init__(self, regions: Sequence[Region], *, service: str) -> None:
        self._regions = tuple(regions)
        self._service = service
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type for an Accept header. Costs about 10 us a series."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type

    def collect(self) -> Iterator[Family]:
        """Called by prometheus_client."""
        directories = [region.directory() for region in self._regions]
        for metric in METRICS.values():
            if metric.name == _RESTARTS:
                restarts = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
                restarts.add_metric([self._service], sum(region.restarts for region in self._regions))
                yield restarts
                continue
            family = self._family(metric, directories)
            if family.samples:  # other services' metrics would be headings without a line
                yield family
        yield from process_families(self._regions)

    def _family(self, metric: Metric, directories: list[dict[Series, int]]) -> Family:
        if metric.kind == "gauge":
            return self._gauge(metric, directories)
        sums = _sum(metric, list(zip(self._regions, directories, strict=True)))
        if metric.kind == "counter":
            counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
            for values, cells in sums.items():
                counter.add_metric(values, cells[0])
            return counter
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for values, cells in sums.items():
            histogram.add_metric(values, list(_cumulative(metric.buckets, cells)), cells[-1])
        return histogram

    def _gauge(self, metric: Metric, directories: list[dict[Series, int]]) -> Family:
        """Dead workers gauge nothing. `across` says how the live ones' values come together."""
        each = metric.across == "each"
        family = GaugeMetricFamily(
            metric.name, metric.help, labels=(*metric.labels, "worker") if each else metric.labels
        )
        found: dict[tuple[str, ...], float] = {}
        for index, (region, directory) in enumerate(zip(self._regions, directories, strict=True)):
            if not region.pid:
                continue
            for (name, values), base in directory.items():
                if name != metric.name:
                    continue
                labels = (*values, str(index)) if each else values
                value = region.cells[base]
                if labels in found:
                    value = max(found[labels], value) if metric.across == "max" else found[labels] + value
                found[labels] = value
        for labels, value in found.items():
            family.add_metric(labels, value)
        return family


def _sum(metric: Metric, regions: Iterable[tuple[Region, dict[Series, int]]]) -> dict[tuple[str, ...], list[float]]:
    size = _size(metric)
    sums: dict[tuple[str, ...], list[float]] = {}
    for region, directory in regions:
        for (name, values), base in directory.items():
            if name == metric.name:
                cells: list[float] = list(region.cells[base : base + size])
                before = sums.get(values)
                sums[values] = cells if before is None else [a + b for a, b in zip(before, cells, strict=True)]
    return sums


def _cumulative(bounds: tuple[float, ...], cells: list[float]) -> Iterator[tuple[str, float]]:
    running = 0.0
    for bound, count in zip((*map(str, map(float, bounds)), "+Inf"), cells, strict=False):
        running += count
        yield bound, running


def _matches(series: Series, labels: dict[str, str]) -> bool:
    bound = dict(zip(METRICS[series[0]].labels, series[1], strict=True))
    return bool(labels) and labels.items() <= bound.items()
