"""Alerts that nothing moves any more: their variant has left, their windows have stopped, or their monitor is paused.

Rule: an alert that no window can resolve is resolved here with the reason, and receivers are told like of any end.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from vedette.entities.alerts import Alert, AlertState, Notification
from vedette.entities.monitors import Monitor, MonitorStatus
from vedette.monitor.alerting.grouping import Occasion, tell
from vedette.ports.alerts import AlertGroup, AlertLedger

PATIENCE = 3
"""Times `resolve_after` windows without any of the series after which it is taken to be over."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a monitor's endpoint has come."""

    variants: Collection[str] | None
    """Those that are deployed; None: nobody knows, or there is no such endpoint: its windows will stop."""
    first_open: float
    """Every window that starts before has been evaluated."""


def lapse(ledger: AlertLedger, monitor: Monitor, standing: Standing, now: float) -> list[Notification]:
    """Resolve the monitor's alerts that nothing will move; returns what was put into the outbox."""
    notifications: list[Notification] = []
    for group in ledger.groups_of(monitor.name):
        alerts = ledger.alerts_in(group.id)
        open_ones = [alert for alert in alerts if alert.state in {AlertState.FIRING, AlertState.PENDING}]
        reason = _reason(open_ones[0], group, monitor, standing) if open_ones else ""
        if not reason:
            continue
        ended = {alert.id: _ended(alert, reason, now) for alert in open_ones}
        ledger.put_alerts(group.id, list(ended.values()))
        topic = f"{monitor.name}/{open_ones[0].endpoint}/{open_ones[0].variant}"
        occasion = Occasion(topic=topic, cause=f"{group.id}/lapsed/{now}", webhooks=monitor.webhooks)
        told, posted = tell(ledger, group, [ended.get(alert.id, alert) for alert in alerts], occasion, now=now)
        ledger.put_group(monitor.name, told)
        notifications += posted
    return notifications


def _reason(alert: Alert, group: AlertGroup, monitor: Monitor, standing: Standing) -> str:
    if monitor.status is MonitorStatus.STOPPED:
        return "the monitor is paused"
    if standing.variants is not None and alert.variant not in standing.variants:
        return f"variant {alert.variant!r} is no longer deployed"
    windows = PATIENCE * monitor.alert.resolve_after
    last = group.datapoints[-1].start if group.datapoints else standing.first_open
    if last + (windows + 1) * monitor.window_s <= standing.first_open:
        return f"there has been no window for {windows} windows"
    return ""


def _ended(alert: Alert, reason: str, now: float) -> Alert:
    after = AlertState.RESOLVED if alert.state is AlertState.FIRING else AlertState.OK
    history = alert.history.replace("x", "o")
    return replace(alert, state=after, since=now, updated_at=now, history=history, description=f"Ended: {reason}.")
