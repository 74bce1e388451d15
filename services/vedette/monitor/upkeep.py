"""What the monitor does unasked: the true status of monitors, and an end to what is old.

Rule: every round may fail and is made again; nothing waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from vedette.core.clock import Clock
from vedette.core.errors import VedetteError
from vedette.core.metrics import Metrics
from vedette.core.ports import EventStream
from vedette.entities.alerts import AlertState
from vedette.entities.monitors import Monitor, MonitorStatus
from vedette.monitor.alerting.alert_upkeep import AlertUpkeep
from vedette.monitor.alerting.lapses import Standing, lapse
from vedette.monitor.desk import Monitors
from vedette.monitor.references import References
from vedette.monitor.traffic.intake import GROUP, TOPIC, all_monitors
from vedette.monitor.traffic.labels import Labels, PredictionIndex
from vedette.monitor.traffic.windows import check_pace
from vedette.ports.monitors import MonitorStore, MonitorTransaction

log = logging.getLogger(__name__)

DAY_S = 86_400.0
_SWEEP_S = 600.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept."""

    executions_s: float = 90 * DAY_S
    labels_s: float = 14 * DAY_S
    """Ground truth, and predictions that wait for it."""


class Upkeep:
    """Goes round every `interval_s`."""

    def __init__(
        self,
        store: MonitorStore,
        stream: EventStream,
        references: References,
        monitors: Monitors,
        index: PredictionIndex,
        labels: Labels,
        alerts: AlertUpkeep,
        *,
        clock: Clock,
        metrics: Metrics,
        retention: Retention,
        interval_s: float = 5.0,
        files: tuple[Callable[[], object], ...] = (),
    ) -> None:
        self._store = store
        self._stream = stream
        self._references = references
        self._monitors = monitors
        self._index = index
        self._labels = labels
        self._alerts = alerts
        self._clock = clock
        self._metrics = metrics
        self._retention = retention
        self._interval_s = interval_s
        self._files = files
        self._sweep_at = 0.0

    async def run(self) -> None:
        """Go round until cancelled."""
        while True:
            try:
                await self.round()
            except VedetteError as error:
                log.warning("upkeep failed and is tried again", extra={"reason": error.message})
            await asyncio.sleep(self._interval_s)

    async def round(self) -> None:
        """One round: statuses and numbers, and once in a while what is old."""
        with self._store.read() as snapshot:
            monitors = all_monitors(snapshot)
        for monitor in monitors:
            await self._references.look_for(monitor.endpoint, monitor.baseline)
        await asyncio.to_thread(self._judge)
        await asyncio.to_thread(self._lapse)
        await asyncio.to_thread(self._alerts.round)
        lag = await self._stream.end(TOPIC) - await self._stream.committed(TOPIC, GROUP)
        self._metrics.gauge("vedette_stream_lag_messages", topic=TOPIC, group=GROUP).set(max(0, lag))
        if self._clock.monotonic() >= self._sweep_at:
            self._sweep_at = self._clock.monotonic() + _SWEEP_S
            await asyncio.to_thread(self._sweep)

    def _judge(self) -> None:
        """Write down the statuses that have changed."""
        with self._store.read() as snapshot:
            before = all_monitors(snapshot)
            stale = [each.name for each in before if self._monitors.judged(each) != each]
        if not stale:
            return
        with self._store.transaction() as tx:
            for monitor in all_monitors(tx):
                after = self._monitors.judged(monitor)
                if monitor.name in stale and after != monitor:
                    tx.update_monitor(after)

    def _lapse(self) -> None:
        """End alerts that no window will move any more, once nothing waits to be evaluated."""
        with self._store.read() as snapshot:
            counts = snapshot.alerts.alert_counts()
        names = {name for name, state in counts if state in {AlertState.FIRING, AlertState.PENDING}}
        if not names:
            return
        with self._store.transaction() as tx:
            waits = bool(tx.sealed_count())
            for monitor in all_monitors(tx):
                if monitor.name in names and (not waits or monitor.status is MonitorStatus.STOPPED):
                    lapse(tx.alerts, monitor, self._standing(tx, monitor), self._clock.time())

    def _standing(self, tx: MonitorTransaction, monitor: Monitor) -> Standing:
        note = tx.note("endpoint", monitor.endpoint)
        pace = check_pace(monitor.window_s, monitor.lateness_s, monitor.schedule)
        first_open = pace.first_open(float(note)) if note else -math.inf
        return Standing(self._references.variants(monitor.endpoint), first_open)

    def _sweep(self) -> None:
        now, kept = self._clock.time(), self._retention
        self._labels.settle(now - kept.labels_s)
        with self._store.transaction() as tx:
            gone = tx.forget(
                executions_before=now - kept.executions_s,
                predictions_before=now - kept.labels_s,
                labels_before=now - kept.labels_s,
            )
            for endpoint in self._index.endpoints():
                self._index.keep_only(endpoint, [key for key, _ in tx.prediction_windows(endpoint)])
        for sweep in self._files:
            sweep()
        if any(gone.values()):
            log.info("old results were dropped", extra={"gone": dict(gone)})
