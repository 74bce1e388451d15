"""The metrics of one served variant, bound when it loads.

Rule: a request looks up nothing but its protocol and code, both from closed sets.
"""

from __future__ import annotations

from vedette.core.metrics import Counter, Metrics


class Meters:
    """Instruments with endpoint, variant and version bound."""

    def __init__(self, metrics: Metrics, *, endpoint: str, variant: str, version: str) -> None:
        self._metrics = metrics
        self._labels = {"endpoint": endpoint, "variant": variant, "version": version}
        self._requests: dict[tuple[str, str], Counter] = {}
        self._shadows: dict[str, Counter] = {}
        self.request = metrics.histogram("vedette_request_duration_seconds", **self._labels).observe
        self.queue = metrics.histogram("vedette_queue_duration_seconds", **self._labels).observe
        self.compute = metrics.histogram("vedette_compute_duration_seconds", **self._labels).observe
        self.rows = metrics.histogram("vedette_batch_rows", **self._labels).observe

    def count(self, protocol: str, code: str) -> None:
        """Count one request by outcome; `code` is OK or an error code."""
        counter = self._requests.get((protocol, code))
        if counter is None:
            counter = self._metrics.counter("vedette_requests_total", **self._labels, protocol=protocol, code=code)
            self._requests[protocol, code] = counter
        counter.inc()

    def count_shadow(self, code: str) -> None:
        """Count one shadow copy by outcome; `code` is OK, an error code or dropped."""
        counter = self._shadows.get(code)
        if counter is None:
            counter = self._metrics.counter("vedette_shadow_requests_total", **self._labels, code=code)
            self._shadows[code] = counter
        counter.inc()
