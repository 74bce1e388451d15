"""Every metric name of vedette in one table, and the instruments as a port.

Rule: a name that is not in `METRICS` does not exist; labels are bound once, when a model loads, and
the bound instrument is kept. Label values come only from things that an operator registered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

LATENCY_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds in seconds: from a tabular model inline to a request at its limit."""

ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name on the wire, kind, help line, label names and histogram bounds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    across: Literal["sum", "max", "each"] = "sum"
    """For gauges: how the values of several worker processes come together; `each` adds the label `worker`."""


_SERVED = ("endpoint", "variant", "version")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("vedette_requests_total", "counter", "Inference requests by outcome; code is OK or an error code.",
               (*_SERVED, "protocol", "code")),
        Metric("vedette_request_duration_seconds", "histogram", "Whole request: from the body read to the answer built.",
               _SERVED, LATENCY_BUCKETS_S),
        Metric("vedette_queue_duration_seconds", "histogram", "Time between acceptance and the start of execution.",
               _SERVED, LATENCY_BUCKETS_S),
        Metric("vedette_compute_duration_seconds", "histogram", "Time inside the model.", _SERVED, LATENCY_BUCKETS_S),
        Metric("vedette_batch_rows", "histogram", "Rows in one execution.", _SERVED, ROW_BUCKETS),
        Metric("vedette_requests_in_flight", "gauge", "Requests that wait for a model thread or run in one.", ("endpoint",)),
        Metric("vedette_shadow_requests_total", "counter", "Copies sent to shadow variants; code is OK, an error code or dropped.",
               (*_SERVED, "code")),
        Metric("vedette_models_loaded", "gauge", "Model versions held in memory.", across="each"),
        Metric("vedette_model_memory_bytes", "gauge", "Resident memory that loading the version took.", ("model", "version")),
        Metric("vedette_model_load_seconds", "histogram", "Time to fetch, verify, load and warm up a version.", ("model",),
               (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)),
        Metric("vedette_model_load_failures_total", "counter", "Loads that failed; the old version went on serving.", ("endpoint",)),
        Metric("vedette_registry_connected", "gauge", "1 while the watch on the registry stands, else 0.", across="each"),
        Metric("vedette_captures_total", "counter", "Captures by outcome: captured, dropped, failed.", ("endpoint", "outcome")),
        Metric("vedette_http_responses_total", "counter", "HTTP answers of the service by status class.", ("service", "status")),
        Metric("vedette_rpcs_total", "counter", "gRPC answers of the service by status code.", ("service", "code")),
        Metric("vedette_registry_models", "gauge", "Models in the registry.", across="max"),
        Metric("vedette_registry_endpoints", "gauge", "Endpoints in the registry by status.", ("status",), across="max"),
        Metric("vedette_registry_watchers", "gauge", "Open watches on desired state."),
        Metric("vedette_admissions_total", "counter", "Uploaded models by outcome: admitted, or the step that refused them.", ("outcome",)),
        Metric("vedette_worker_restarts_total", "counter", "Worker processes replaced after they died.", ("service",)),
        Metric("vedette_metric_series_dropped_total", "counter", "Label sets over the limit of series; they count as _overflow."),
    )
}  # fmt: skip


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
        KeyError: the name is not in `METRICS`, or the labels are not exactly the metric's.
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
