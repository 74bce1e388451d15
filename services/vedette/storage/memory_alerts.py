"""Alerts, silences, webhooks and the outbox in memory.

Rule: the values held are immutable, so that `copy` is a snapshot: a transaction works on a copy, which takes the
original's place at commit. Each value is made a `document` of on its way in: what no database would keep is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from vedette.core.errors import AlreadyExists, NotFound
from vedette.entities.alerts import Alert, AlertState, DeliveryState, Notification, Silence, Webhook
from vedette.ports.alerts import AlertGroup, Bulletin, Outgoing, Secret
from vedette.storage.paging import Listing
from vedette.storage.records import document

_LAST = 2**62


@dataclass(frozen=True, slots=True)
class _Row:
    """A delivery with its place in the outbox and until when somebody has it."""

    sequence: int
    outgoing: Outgoing
    leased_until: float = 0.0

    @property
    def waits(self) -> bool:
        return self.outgoing.notification.state is DeliveryState.WAITING


@dataclass(slots=True)
class _Held:
    """Everything a ledger knows."""

    alerts: dict[str, tuple[str, Alert]] = field(default_factory=dict)
    """Id -> group and alert."""
    groups: dict[str, tuple[str, AlertGroup]] = field(default_factory=dict)
    """Id -> monitor and group."""
    silences: dict[str, Silence] = field(default_factory=dict)
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    secrets: dict[str, tuple[Secret, ...]] = field(default_factory=dict)
    outbox: dict[str, _Row] = field(default_factory=dict)
    posted: int = 0


class MemoryAlertLedger:
    """An `AlertLedger` in dictionaries. Not thread-safe: the store's transactions take turns."""

    def __init__(self) -> None:
        self._held = _Held()

    def copy(self) -> MemoryAlertLedger:
        """A ledger of the same content that goes its own way."""
        held = {f.name: getattr(self._held, f.name) for f in fields(self._held)}
        copies: dict[str, Any] = {name: dict(value) for name, value in held.items() if isinstance(value, dict)}
        twin = MemoryAlertLedger()
        twin._held = replace(self._held, **copies)
        return twin

    def alert(self, alert_id: str) -> Alert:
        if alert_id not in self._held.alerts:
            raise NotFound(f"alert {alert_id!r} does not exist")
        return self._held.alerts[alert_id][1]

    def alerts(
        self, *, limit: int, after: str = "", state: AlertState | None = None, monitor: str = ""
    ) -> tuple[list[Alert], str]:
        listing = Listing("alerts", limit=limit, filters=(state, monitor))
        start = listing.start(after, "")
        found = [
            alert
            for alert_id, (_, alert) in sorted(self._held.alerts.items())
            if alert_id > start
            and monitor in {"", alert.monitor}
            and (alert.state is state if state else alert.state is not AlertState.OK)
        ]
        return listing.page(found[: limit + 1], lambda alert: alert.id)

    def alerts_in(self, group: str) -> list[Alert]:
        return [alert for _, (its, alert) in sorted(self._held.alerts.items()) if its == group]

    def alert_counts(self) -> dict[tuple[str, AlertState], int]:
        return dict(Counter((alert.monitor, alert.state) for _, alert in self._held.alerts.values()))

    def put_alerts(self, group: str, members: Sequence[Alert]) -> None:
        for alert in members:
            document(alert)
        self._held.alerts.update({alert.id: (group, alert) for alert in members})

    def change_alert(self, alert: Alert) -> None:
        self.alert(alert.id)
        self.put_alerts(self._held.alerts[alert.id][0], [alert])

    def delete_alerts(self, ids: Collection[str]) -> None:
        for alert_id in ids:
            self._held.alerts.pop(alert_id, None)

    def group(self, group_id: str) -> AlertGroup:
        return self._held.groups[group_id][1] if group_id in self._held.groups else AlertGroup(group_id)

    def groups_of(self, monitor: str) -> list[AlertGroup]:
        return [group for _, (its, group) in sorted(self._held.groups.items()) if its == monitor]

    def put_group(self, monitor: str, group: AlertGroup) -> None:
        document(group)
        self._held.groups[group.id] = (monitor, group)

    def delete_group(self, group_id: str) -> None:
        self.delete_alerts([alert.id for alert in self.alerts_in(group_id)])
        self._held.groups.pop(group_id, None)

    def silences(self) -> list[Silence]:
        return [silence for _, silence in sorted(self._held.silences.items())]

    def insert_silence(self, silence: Silence) -> None:
        document(silence)
        if silence.id in self._held.silences:
            raise AlreadyExists(f"silence {silence.id!r} exists already")
        self._held.silences[silence.id] = silence

    def delete_silence(self, silence_id: str) -> None:
        if self._held.silences.pop(silence_id, None) is None:
            raise NotFound(f"silence {silence_id!r} does not exist")

    def webhook(self, name: str) -> Webhook:
        self._require(name)
        ids = tuple(secret.id for secret in self.secrets(name))
        return replace(self._held.webhooks[name], secret_ids=ids)

    def webhooks(self) -> list[Webhook]:
        return [self.webhook(name) for name in sorted(self._held.webhooks)]

    def insert_webhook(self, webhook: Webhook) -> None:
        document(webhook)
        if webhook.name in self._held.webhooks:
            raise AlreadyExists(f"webhook {webhook.name!r} exists already")
        self._held.webhooks[webhook.name] = webhook

    def update_webhook(self, webhook: Webhook) -> None:
        document(webhook)
        before = self.webhook(webhook.name)
        self._held.webhooks[webhook.name] = replace(webhook, created_at=before.created_at)

    def delete_webhook(self, name: str) -> None:
        self._require(name)
        del self._held.webhooks[name]
        self._held.secrets.pop(name, None)
        kept = {i: row for i, row in self._held.outbox.items() if row.outgoing.notification.webhook != name}
        self._held.outbox = kept

    def secrets(self, webhook: str) -> list[Secret]:
        return list(self._held.secrets.get(webhook, ()))

    def put_secrets(self, webhook: str, secrets: Sequence[Secret]) -> None:
        self._require(webhook)
        self._held.secrets[webhook] = tuple(secrets)

    def post(self, outgoing: Outgoing) -> bool:
        self._require(outgoing.notification.webhook)
        document(outgoing)
        if outgoing.notification.id in self._held.outbox:
            return False
        self._held.posted += 1
        self._held.outbox[outgoing.notification.id] = _Row(self._held.posted, outgoing)
        return True

    def unsent(self, webhook: str, topic: str, start: float) -> Outgoing | None:
        found = [
            row.outgoing
            for row in self._waiting(webhook)
            if not row.outgoing.notification.attempts
            and (row.outgoing.bulletin.topic, row.outgoing.bulletin.start) == (topic, start)
        ]
        return found[-1] if found else None

    def replace_bulletin(self, notification_id: str, bulletin: Bulletin) -> None:
        document(bulletin)
        row = self._held.outbox.get(notification_id)
        if row is None or not row.waits or row.outgoing.notification.attempts:
            raise NotFound(f"no delivery {notification_id!r} waits for its first attempt")
        self._held.outbox[notification_id] = replace(row, outgoing=replace(row.outgoing, bulletin=bulletin))

    def due(self, now: float) -> list[str]:
        return [name for name, hook in sorted(self._held.webhooks.items()) if hook.enabled and self._turn(name, now)]

    def claim(self, webhook: str, *, now: float, limit: int, lease_s: float) -> list[Outgoing]:
        if webhook not in self._held.webhooks or not self._held.webhooks[webhook].enabled:
            return []
        taken = []
        for row in self._turn(webhook, now)[:limit]:
            before = row.outgoing.notification
            outgoing = replace(row.outgoing, notification=replace(before, attempts=before.attempts + 1))
            self._held.outbox[before.id] = _Row(row.sequence, outgoing, now + lease_s)
            taken.append(outgoing)
        return taken

    def settle(self, notification: Notification) -> None:
        document(notification)
        row = self._held.outbox.get(notification.id)
        if row is not None:
            self._change(row, notification, leased_until=0.0)

    def hurry(self, webhook: str, now: float) -> None:
        for row in self._waiting(webhook):
            before = row.outgoing.notification
            if before.attempts and before.next_attempt_at > now:
                self._change(row, replace(before, next_attempt_at=now), leased_until=row.leased_until)

    def give_up(self, webhook: str, error: str) -> int:
        waiting = self._waiting(webhook)
        for row in waiting:
            dead = replace(row.outgoing.notification, state=DeliveryState.DEAD, last_error=error)
            self._change(row, dead, leased_until=0.0)
        return len(waiting)

    def delivery(self, notification_id: str) -> Outgoing:
        if notification_id not in self._held.outbox:
            raise NotFound(f"delivery {notification_id!r} does not exist")
        return self._held.outbox[notification_id].outgoing

    def deliveries(
        self, *, limit: int, after: str = "", webhook: str = "", state: DeliveryState | None = None
    ) -> tuple[list[Notification], str]:
        listing = Listing("deliveries", limit=limit, filters=(webhook, state))
        before = listing.start(after, _LAST)
        rows = [
            row
            for row in sorted(self._held.outbox.values(), key=lambda row: -row.sequence)
            if row.sequence < before
            and webhook in {"", row.outgoing.notification.webhook}
            and state in {None, row.outgoing.notification.state}
        ]
        page, token = listing.page(rows[: limit + 1], lambda row: row.sequence)
        return [row.outgoing.notification for row in page], token

    def forget(self, *, deliveries_before: float, alerts_before: float, silences_before: float) -> dict[str, int]:
        held = self._held
        calm = {AlertState.OK, AlertState.RESOLVED}
        deliveries = [
            key
            for key, row in held.outbox.items()
            if not row.waits and row.outgoing.notification.created_at < deliveries_before
        ]
        alerts = [i for i, (_, alert) in held.alerts.items() if alert.state in calm and alert.since < alerts_before]
        silences = [i for i, silence in held.silences.items() if silence.until < silences_before]
        return {
            "deliveries": _drop(held.outbox, deliveries),
            "alerts": _drop(held.alerts, alerts),
            "silences": _drop(held.silences, silences),
        }

    def _waiting(self, webhook: str) -> list[_Row]:
        """What waits for this receiver, first posted first."""
        rows = (row for row in self._held.outbox.values() if row.waits)
        mine = [row for row in rows if row.outgoing.notification.webhook == webhook]
        return sorted(mine, key=lambda row: row.sequence)

    def _turn(self, webhook: str, now: float) -> list[_Row]:
        """The deliveries whose turn it is: due, not claimed, and the first of their topic that waits."""
        first: dict[str, _Row] = {}
        for row in self._waiting(webhook):
            first.setdefault(row.outgoing.bulletin.topic, row)
        due = (row for row in first.values() if row.outgoing.notification.next_attempt_at <= now)
        return [row for row in due if row.leased_until <= now]

    def _change(self, row: _Row, notification: Notification, *, leased_until: float) -> None:
        outgoing = replace(row.outgoing, notification=notification)
        self._held.outbox[notification.id] = _Row(row.sequence, outgoing, leased_until)

    def _require(self, webhook: str) -> None:
        if webhook not in self._held.webhooks:
            raise NotFound(f"webhook {webhook!r} does not exist")


def _drop(held: dict[str, Any], keys: Iterable[str]) -> int:
    dropped = [held.pop(key) for key in list(keys)]
    return len(dropped)
