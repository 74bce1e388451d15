"""What alerts need unasked: their numbers for Prometheus, and an end to what is long over.

Rule: nothing that waits to be told is ever dropped here.
"""

from __future__ import annotations

from vedette.core.clock import Clock, SystemClock
from vedette.core.metrics import Metrics, NoMetrics
from vedette.entities.alerts import AlertState
from vedette.ports.alerts import AlertStore

KEPT_S = 30 * 86_400.0
"""How long finished deliveries, ended silences and calm alerts are kept."""
_SHOWN = (AlertState.PENDING, AlertState.FIRING, AlertState.RESOLVED)


class AlertUpkeep:
    """One per process; call `round` every few seconds."""

    def __init__(
        self,
        store: AlertStore,
        *,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        kept_s: float = KEPT_S,
        sweep_s: float = 600.0,
    ) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._metrics = metrics or NoMetrics()
        self._kept_s = kept_s
        self._sweep_s = sweep_s
        self._swept_at: float | None = None
        self._monitors: set[str] = set()

    def round(self) -> None:
        """Set the gauges, and every `sweep_s` drop what is over. Blocks."""
        with self._store.read() as snapshot:
            counts = snapshot.alerts.alert_counts()
        monitors = {monitor for monitor, _ in counts}
        for monitor in monitors | self._monitors:  # one whose alerts are gone has none: zero, not its last number
            for state in _SHOWN:
                gauge = self._metrics.gauge("vedette_alerts", monitor=monitor, state=state.value)
                gauge.set(counts.get((monitor, state), 0))
        self._monitors = monitors
        now = self._clock.time()
        if self._swept_at is None or now - self._swept_at >= self._sweep_s:
            self._swept_at = now
            self._sweep(now - self._kept_s)

    def _sweep(self, before: float) -> None:
        with self._store.transaction() as tx:
            tx.alerts.forget(deliveries_before=before, alerts_before=before, silences_before=before)
