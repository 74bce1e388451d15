"""Every metric name of vedette in one table: what it counts, its labels and buckets.

Rule: a name that is not in `METRICS` does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        Metric("vedette_batching", "gauge", "1 where requests to the variant may share a run of the model, else 0.", _SERVED,
               across="max"),
        Metric("vedette_requests_in_flight", "gauge", "Requests that wait for their run, or run in a thread.", ("endpoint",)),
        Metric("vedette_shadow_requests_total", "counter", "Copies sent to shadow variants; code is OK, an error code or dropped.",
               (*_SERVED, "code")),
        Metric("vedette_models_loaded", "gauge", "Model versions held in memory.", across="each"),
        Metric("vedette_model_memory_bytes", "gauge", "Resident memory that loading the version took.", ("model", "version")),
        Metric("vedette_model_load_seconds", "histogram", "Time to fetch, verify, load and warm up a version.", ("model",),
               (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)),
        Metric("vedette_model_load_failures_total", "counter", "Loads that failed; the old version went on serving.", ("endpoint",)),
        Metric("vedette_registry_connected", "gauge", "1 while the watch on the registry stands, else 0.", across="each"),
        Metric("vedette_captures_total", "counter",
               "Sampled requests by outcome (captured, dropped, failed) and reason; what a process that is killed had not "
               "published is in none of them.",
               ("endpoint", "outcome", "reason")),
        Metric("vedette_stream_lag_messages", "gauge", "Messages of a topic that a consumer group has not handled.", ("topic", "group"), across="max"),
        Metric("vedette_stream_damaged_messages_total", "counter", "Messages that could not be read back as written.", ("topic",)),
        Metric("vedette_stream_dead_letters_total", "counter", "Messages set aside after too many failures.", ("topic", "group")),
        Metric("vedette_monitor_score", "gauge", "Last value of a check.", ("monitor", "endpoint", "variant", "check", "feature"), across="max"),
        Metric("vedette_monitor_state", "gauge", "Last outcome of a check: 0 ok, 1 violated, -1 skipped.",
               ("monitor", "endpoint", "variant", "check", "feature"), across="max"),
        Metric("vedette_monitor_windows_total", "counter", "Windows by what became of them: due, evaluated, empty, small, failed.",
               ("monitor", "outcome")),
        Metric("vedette_monitor_rows_total", "counter", "Rows by what became of them: folded, late, duplicate, unreadable.", ("endpoint", "outcome")),
        Metric("vedette_monitor_lost_captures_total", "counter",
               "Captures missing from the stream, by gaps in their producers' numbers: what vedette_captures_total counts as "
               "dropped or failed, and after a kill what was not published, with about 0.1 s of traffic too many. endpoint is "
               "empty where the producer served several.", ("endpoint",)),
        Metric("vedette_monitor_labels_total", "counter", "Ground truth by what became of it: joined, waiting, unknown, late, refused.",
               ("endpoint", "outcome")),
        Metric("vedette_alerts", "gauge", "Alerts by state.", ("monitor", "state"), across="max"),
        Metric("vedette_deliveries_total", "counter", "Webhook deliveries by outcome: delivered, retried, dead.", ("webhook", "outcome")),
        Metric("vedette_reports_total", "counter", "Evidently reports by outcome: drawn, failed, refused.", ("outcome",)),
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
