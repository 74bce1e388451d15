"""What receivers are told of a group of alerts: one notification for all that changed, nothing while nothing does.

Rule: each receiver is told the difference between what fires and what it believes to fire. So what a silence or a
switched-off webhook held back is told once when it is over, if it is still true, and nothing is told twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vedette.entities.alerts import Alert, AlertState, DeliveryState, Notification, Silence
from vedette.ports.alerts import AlertGroup, AlertLedger, Bulletin, Outgoing, Told

GROUP_WAIT_S = 1.0
"""A notification waits this long for the other segments of its window, to say everything at once."""
MAX_ALERTS = 500
"""Alerts in one notification; more are told in several."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why something may be told now."""

    topic: str
    cause: str
    """Unique text: notifications of the same cause, receiver and part have the same id."""
    start: float = 0.0
    end: float = 0.0
    """The window; both 0 where there is none."""
    webhooks: tuple[str, ...] = ()
    """Names of the receivers; empty: all."""
    repeat_s: float = 0.0
    """Tell again what fires after this time; 0: never."""


def silenced(alert: Alert, silences: Iterable[Silence], now: float) -> bool:
    """Whether some silence in force covers the alert."""
    return any(
        silence.until > now
        and silence.monitor in {"", alert.monitor}
        and silence.endpoint in {"", alert.endpoint}
        and silence.feature in {"", alert.feature}
        for silence in silences
    )


def tell(
    ledger: AlertLedger, group: AlertGroup, alerts: Sequence[Alert], occasion: Occasion, *, now: float
) -> tuple[AlertGroup, list[Notification]]:
    """Put into the outbox what the receivers do not know yet; returns the group as they know it then.

    `alerts` are all of the group. A receiver that is switched off or not asked for keeps what it believes.
    """
    names = set(occasion.webhooks)
    receivers = [hook.name for hook in ledger.webhooks() if hook.enabled and (not names or hook.name in names)]
    if not receivers:
        return group, []
    silences = ledger.silences()
    heard = {alert.id: alert for alert in alerts if not silenced(alert, silences, now)}
    known = {alert.id for alert in alerts}
    told = {entry.webhook: entry for entry in group.told}
    notifications: list[Notification] = []
    for name in receivers:
        entry = told.get(name, Told(name, (), 0.0))
        believed = set(entry.firing) & known
        news = _news(heard, believed, repeat=_is_due(entry, occasion, now))
        if news:
            notifications += _post(ledger, name, news, occasion, now)
            fires = {alert.id for alert in news if alert.state is AlertState.FIRING}
            ended = {alert.id for alert in news} - fires
            entry = Told(name, tuple(sorted((believed - ended) | fires)), now)
        if entry.firing or news:
            told[name] = entry
    kept = tuple(entry for _, entry in sorted(told.items()) if entry.firing)
    return replace(group, told=kept), notifications


def _news(heard: dict[str, Alert], believed: set[str], *, repeat: bool) -> list[Alert]:
    """What a receiver should be told: everything that fires and what has ended, or nothing.

    What somebody has acknowledged is no reason to tell anything, except its end.
    """
    firing = [alert for alert in heard.values() if alert.state is AlertState.FIRING]
    ended = [heard[one] for one in sorted(believed) if one in heard and heard[one].state is not AlertState.FIRING]
    awake = [alert for alert in firing if not alert.acknowledged_by]
    begun = [alert for alert in awake if alert.id not in believed]
    if not begun and not ended and not (repeat and awake):
        return []
    shown = [alert for alert in firing if alert.id in believed or not alert.acknowledged_by]
    return [*shown, *(replace(alert, state=AlertState.RESOLVED) for alert in ended)]


def _is_due(entry: Told, occasion: Occasion, now: float) -> bool:
    return bool(entry.firing) and occasion.repeat_s > 0 and now - entry.at >= occasion.repeat_s


def _post(ledger: AlertLedger, webhook: str, news: list[Alert], occasion: Occasion, now: float) -> list[Notification]:
    """Add to the notification of the same window that has not left yet, else post new ones."""
    waiting = ledger.unsent(webhook, occasion.topic, occasion.start)
    if waiting is not None:
        merged = {alert.id: alert for alert in (*waiting.bulletin.alerts, *news)}
        if len(merged) <= MAX_ALERTS:
            bulletin = replace(waiting.bulletin, alerts=tuple(merged.values()))
            ledger.replace_bulletin(waiting.notification.id, bulletin)
            return [waiting.notification]
    posted = []
    for part, first in enumerate(range(0, len(news), MAX_ALERTS)):
        some = tuple(news[first : first + MAX_ALERTS])
        bulletin = Bulletin("alerts", occasion.topic, some, occasion.start, occasion.end)
        notification = Notification(
            id=message_id(occasion.cause, webhook, str(part)),
            webhook=webhook,
            state=DeliveryState.WAITING,
            attempts=0,
            created_at=now,
            next_attempt_at=now + GROUP_WAIT_S,
            subject=occasion.topic,
        )
        if ledger.post(Outgoing(notification, bulletin)):
            posted.append(notification)
    return posted


def message_id(*parts: str) -> str:
    """The webhook-id of what these parts name."""
    return "msg_" + hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]
