"""Results as gauges: the last value and outcome of each check and feature, within bounds.

Rule: label values come from what operators have registered. Features of a window are names that its baseline or
signature has; there is a bound on them all the same: what is beyond has no gauge.
"""

from __future__ import annotations

from vedette.core.metrics import Metrics
from vedette.entities.monitors import Execution
from vedette.monitor.subjects import subject

MAX_FEATURES = 200
"""Features of one monitor and check that have gauges of their own."""
_STATES = {"ok": 0.0, "violated": 1.0, "skipped": -1.0}


class Scores:
    """The gauges of all monitors. Segments have none: the whole window stands for them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._features: dict[tuple[str, str], set[str]] = {}

    def show(self, execution: Execution) -> None:
        """Set the gauges of an execution's results."""
        if execution.segment:
            return
        for result in execution.results:
            check = subject(result)
            known = self._features.setdefault((execution.monitor, check), set())
            if result.feature not in known:
                if len(known) >= MAX_FEATURES:
                    continue
                known.add(result.feature)
            labels = {
                "monitor": execution.monitor,
                "endpoint": execution.endpoint,
                "variant": execution.variant,
                "check": check,
                "feature": result.feature,
            }
            self._metrics.gauge("vedette_monitor_state", **labels).set(_STATES[result.outcome])
            if result.value is not None:
                self._metrics.gauge("vedette_monitor_score", **labels).set(result.value)

    def forget(self, monitor: str) -> None:
        """The monitor is gone."""
        for key in [key for key in self._features if key[0] == monitor]:
            del self._features[key]
        self._metrics.forget(monitor=monitor)
