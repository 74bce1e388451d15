"""Alerts, silences, webhooks and the outbox in the tables of the monitor's store.

Rule: it works on the connection of the store's transaction and neither begins nor ends one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, func, insert, select, update

from vedette.core.errors import AlreadyExists, NotFound
from vedette.entities.alerts import Alert, AlertState, DeliveryState, Notification, Silence, Webhook
from vedette.ports.alerts import AlertGroup, Bulletin, Outgoing, Secret
from vedette.storage.alert_tables import alert_groups, alerts, outbox, silences, webhook_secrets, webhooks
from vedette.storage.paging import Listing
from vedette.storage.records import Row, document, parse

_AT_ONCE = 500
"""Values in one IN list."""
_LAST = 2**62
_WAITING = DeliveryState.WAITING.value


def _notification(row: Row) -> Notification:
    values = {name: getattr(row, name) for name in Notification.__dataclass_fields__}
    return Notification(**values | {"state": DeliveryState(row.state)})


def _notification_values(notification: Notification) -> dict[str, Any]:
    document(notification)
    values = {name: getattr(notification, name) for name in Notification.__dataclass_fields__}
    return values | {"state": notification.state.value}


def _outgoing(row: Row) -> Outgoing:
    return Outgoing(_notification(row), parse(row.bulletin, Bulletin))


def _turn(now: float) -> ColumnElement[bool]:
    """Deliveries whose turn it is: due, not claimed, and the first of their topic that waits."""
    earlier = outbox.alias("earlier")
    same = and_(earlier.c.webhook == outbox.c.webhook, earlier.c.topic == outbox.c.topic)
    waits_before = and_(same, earlier.c.state == _WAITING, earlier.c.sequence < outbox.c.sequence)
    due = and_(outbox.c.state == _WAITING, outbox.c.next_attempt_at <= now, outbox.c.leased_until <= now)
    return and_(due, ~exists().where(waits_before).correlate(outbox))


class SqlAlertLedger:
    """An `AlertLedger` on a connection in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def alert(self, alert_id: str) -> Alert:
        return parse(self._document(alerts, alerts.c.id == alert_id, f"alert {alert_id!r}"), Alert)

    def alerts(
        self, *, limit: int, after: str = "", state: AlertState | None = None, monitor: str = ""
    ) -> tuple[list[Alert], str]:
        listing = Listing("alerts", limit=limit, filters=(state, monitor))
        wanted = [alerts.c.id > listing.start(after, "")]
        wanted.append(alerts.c.state == state.value if state else alerts.c.state != AlertState.OK.value)
        if monitor:
            wanted.append(alerts.c.monitor == monitor)
        query = select(alerts.c.document).where(*wanted).order_by(alerts.c.id).limit(limit + 1)
        return listing.page(self._parsed(query, Alert), lambda alert: alert.id)

    def alerts_in(self, group: str) -> list[Alert]:
        return self._parsed(select(alerts.c.document).where(alerts.c.group == group).order_by(alerts.c.id), Alert)

    def alert_counts(self) -> dict[tuple[str, AlertState], int]:
        query = select(alerts.c.monitor, alerts.c.state, func.count().label("n"))
        found = self._connection.execute(query.group_by(alerts.c.monitor, alerts.c.state))
        return {(row.monitor, AlertState(row.state)): row.n for row in found}

    def put_alerts(self, group: str, members: Sequence[Alert]) -> None:
        rows = [
            {
                "id": alert.id,
                "group": group,
                "monitor": alert.monitor,
                "state": alert.state.value,
                "since": alert.since,
                "document": document(alert),
            }
            for alert in members
        ]
        self.delete_alerts([alert.id for alert in members])
        if rows:
            self._connection.execute(insert(alerts), rows)

    def change_alert(self, alert: Alert) -> None:
        values = {"state": alert.state.value, "since": alert.since, "document": document(alert)}
        if not self._change(update(alerts).where(alerts.c.id == alert.id).values(values)):
            raise NotFound(f"alert {alert.id!r} does not exist")

    def delete_alerts(self, ids: Collection[str]) -> None:
        wanted = list(ids)
        for first in range(0, len(wanted), _AT_ONCE):
            self._connection.execute(delete(alerts).where(alerts.c.id.in_(wanted[first : first + _AT_ONCE])))

    def group(self, group_id: str) -> AlertGroup:
        found = self._connection.execute(select(alert_groups.c.document).where(alert_groups.c.id == group_id)).scalar()
        return AlertGroup(group_id) if found is None else parse(found, AlertGroup)

    def groups_of(self, monitor: str) -> list[AlertGroup]:
        query = select(alert_groups.c.document).where(alert_groups.c.monitor == monitor).order_by(alert_groups.c.id)
        return self._parsed(query, AlertGroup)

    def put_group(self, monitor: str, group: AlertGroup) -> None:
        values = {"monitor": monitor, "document": document(group)}
        if not self._change(update(alert_groups).where(alert_groups.c.id == group.id).values(values)):
            self._connection.execute(insert(alert_groups).values(id=group.id, **values))

    def delete_group(self, group_id: str) -> None:
        self._connection.execute(delete(alerts).where(alerts.c.group == group_id))
        self._connection.execute(delete(alert_groups).where(alert_groups.c.id == group_id))

    def silences(self) -> list[Silence]:
        return self._parsed(select(silences.c.document).order_by(silences.c.id), Silence)

    def insert_silence(self, silence: Silence) -> None:
        text = document(silence)
        if self._exists(silences, silences.c.id == silence.id):
            raise AlreadyExists(f"silence {silence.id!r} exists already")
        self._connection.execute(insert(silences).values(id=silence.id, until=silence.until, document=text))

    def delete_silence(self, silence_id: str) -> None:
        if not self._change(delete(silences).where(silences.c.id == silence_id)):
            raise NotFound(f"silence {silence_id!r} does not exist")

    def webhook(self, name: str) -> Webhook:
        query = select(webhooks).where(webhooks.c.name == name)
        found = self._with_secrets(self._connection.execute(query).all())
        if not found:
            raise NotFound(f"webhook {name!r} does not exist")
        return found[0]

    def webhooks(self) -> list[Webhook]:
        return self._with_secrets(self._connection.execute(select(webhooks).order_by(webhooks.c.name)).all())

    def _with_secrets(self, rows: Sequence[Row]) -> list[Webhook]:
        names = [row.name for row in rows]
        query = select(webhook_secrets.c.webhook, webhook_secrets.c.id).where(webhook_secrets.c.webhook.in_(names))
        ids: dict[str, list[str]] = {name: [] for name in names}
        for row in self._connection.execute(query.order_by(webhook_secrets.c.place)) if names else ():
            ids[row.webhook].append(row.id)
        return [
            replace(parse(row.document, Webhook), enabled=row.enabled, secret_ids=tuple(ids[row.name])) for row in rows
        ]

    def insert_webhook(self, webhook: Webhook) -> None:
        text = document(replace(webhook, secret_ids=()))
        if self._exists(webhooks, webhooks.c.name == webhook.name):
            raise AlreadyExists(f"webhook {webhook.name!r} exists already")
        self._connection.execute(insert(webhooks).values(name=webhook.name, enabled=webhook.enabled, document=text))

    def update_webhook(self, webhook: Webhook) -> None:
        before = self.webhook(webhook.name)
        text = document(replace(webhook, secret_ids=(), created_at=before.created_at))
        same = webhooks.c.name == webhook.name
        self._connection.execute(update(webhooks).where(same).values(enabled=webhook.enabled, document=text))

    def delete_webhook(self, name: str) -> None:
        if not self._change(delete(webhooks).where(webhooks.c.name == name)):
            raise NotFound(f"webhook {name!r} does not exist")

    def secrets(self, webhook: str) -> list[Secret]:
        query = select(webhook_secrets).where(webhook_secrets.c.webhook == webhook).order_by(webhook_secrets.c.place)
        return [Secret(row.id, row.value, row.created_at, row.expires_at) for row in self._connection.execute(query)]

    def put_secrets(self, webhook: str, secrets: Sequence[Secret]) -> None:
        self._require(webhook)
        self._connection.execute(delete(webhook_secrets).where(webhook_secrets.c.webhook == webhook))
        for place, secret in enumerate(secrets):
            values = {name: getattr(secret, name) for name in Secret.__dataclass_fields__}
            self._connection.execute(insert(webhook_secrets).values(webhook=webhook, place=place, **values))

    def post(self, outgoing: Outgoing) -> bool:
        self._require(outgoing.notification.webhook)
        values = _notification_values(outgoing.notification)
        if self._exists(outbox, outbox.c.id == outgoing.notification.id):
            return False
        topic, start = outgoing.bulletin.topic, outgoing.bulletin.start
        rest = {"topic": topic, "start": start, "leased_until": 0.0, "bulletin": document(outgoing.bulletin)}
        self._connection.execute(insert(outbox).values(**values, **rest))
        return True

    def unsent(self, webhook: str, topic: str, start: float) -> Outgoing | None:
        same = (outbox.c.webhook == webhook, outbox.c.topic == topic, outbox.c.start == start)
        query = select(outbox).where(*same, outbox.c.state == _WAITING, outbox.c.attempts == 0)
        row = self._connection.execute(query.order_by(outbox.c.sequence.desc()).limit(1)).first()
        return None if row is None else _outgoing(row)

    def replace_bulletin(self, notification_id: str, bulletin: Bulletin) -> None:
        same = (outbox.c.id == notification_id, outbox.c.state == _WAITING, outbox.c.attempts == 0)
        if not self._change(update(outbox).where(*same).values(bulletin=document(bulletin))):
            raise NotFound(f"no delivery {notification_id!r} waits for its first attempt")

    def due(self, now: float) -> list[str]:
        enabled = select(webhooks.c.name).where(webhooks.c.enabled.is_(True))
        query = select(outbox.c.webhook).where(_turn(now), outbox.c.webhook.in_(enabled)).distinct()
        return list(self._connection.execute(query.order_by(outbox.c.webhook)).scalars())

    def claim(self, webhook: str, *, now: float, limit: int, lease_s: float) -> list[Outgoing]:
        if not self._exists(webhooks, webhooks.c.name == webhook, webhooks.c.enabled.is_(True)):
            return []
        query = select(outbox).where(_turn(now), outbox.c.webhook == webhook).order_by(outbox.c.sequence).limit(limit)
        rows = self._connection.execute(query).all()
        taken = update(outbox).where(outbox.c.id.in_([row.id for row in rows]))
        if rows:
            self._connection.execute(taken.values(attempts=outbox.c.attempts + 1, leased_until=now + lease_s))
        found = [_outgoing(row) for row in rows]
        return [replace(each, notification=_attempted(each.notification)) for each in found]

    def settle(self, notification: Notification) -> None:
        values = _notification_values(notification)
        same = outbox.c.id == notification.id
        self._connection.execute(update(outbox).where(same).values(**values, leased_until=0.0))

    def hurry(self, webhook: str, now: float) -> None:
        later = (outbox.c.webhook == webhook, outbox.c.state == _WAITING, outbox.c.next_attempt_at > now)
        self._connection.execute(update(outbox).where(*later, outbox.c.attempts > 0).values(next_attempt_at=now))

    def give_up(self, webhook: str, error: str) -> int:
        waiting = (outbox.c.webhook == webhook, outbox.c.state == _WAITING)
        dead = {"state": DeliveryState.DEAD.value, "last_error": error, "leased_until": 0.0}
        return self._change(update(outbox).where(*waiting).values(dead))

    def delivery(self, notification_id: str) -> Outgoing:
        row = self._connection.execute(select(outbox).where(outbox.c.id == notification_id)).first()
        if row is None:
            raise NotFound(f"delivery {notification_id!r} does not exist")
        return _outgoing(row)

    def deliveries(
        self, *, limit: int, after: str = "", webhook: str = "", state: DeliveryState | None = None
    ) -> tuple[list[Notification], str]:
        listing = Listing("deliveries", limit=limit, filters=(webhook, state))
        wanted = [outbox.c.sequence < listing.start(after, _LAST)]
        wanted += [outbox.c.webhook == webhook] if webhook else []
        wanted += [outbox.c.state == state.value] if state else []
        query = select(outbox).where(*wanted).order_by(outbox.c.sequence.desc()).limit(limit + 1)
        rows, token = listing.page(list(self._connection.execute(query)), lambda row: int(row.sequence))
        return [_notification(row) for row in rows], token

    def forget(self, *, deliveries_before: float, alerts_before: float, silences_before: float) -> dict[str, int]:
        over = outbox.c.state != _WAITING
        calm = alerts.c.state.in_([AlertState.OK.value, AlertState.RESOLVED.value])
        return {
            "deliveries": self._change(delete(outbox).where(over, outbox.c.created_at < deliveries_before)),
            "alerts": self._change(delete(alerts).where(calm, alerts.c.since < alerts_before)),
            "silences": self._change(delete(silences).where(silences.c.until < silences_before)),
        }

    def _document(self, table: Table, same: ColumnElement[bool], what: str) -> str:
        found: str | None = self._connection.execute(select(table.c.document).where(same)).scalar()
        if found is None:
            raise NotFound(f"{what} does not exist")
        return found

    def _parsed(self, query: Any, kind: Any) -> list[Any]:
        return [parse(text, kind) for text in self._connection.execute(query).scalars()]

    def _exists(self, table: Table, *wanted: ColumnElement[bool]) -> bool:
        return bool(self._connection.execute(select(exists(select(table).where(*wanted)))).scalar())

    def _require(self, webhook: str) -> None:
        if not self._exists(webhooks, webhooks.c.name == webhook):
            raise NotFound(f"webhook {webhook!r} does not exist")

    def _change(self, statement: Any) -> int:
        """Run an update or delete and say how many rows it met."""
        return int(self._connection.execute(statement).rowcount)


def _attempted(notification: Notification) -> Notification:
    return replace(notification, attempts=notification.attempts + 1)
