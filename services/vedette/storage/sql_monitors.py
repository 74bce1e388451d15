"""The monitor's store on SQLite and PostgreSQL.

Rule: one transaction holds the stream's offset, windows, results, alerts and outbox; existence is looked up before
writing instead of caught afterwards, which is no race because writers take turns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, func, insert, or_, select, update

from vedette.core.errors import AlreadyExists, NotFound
from vedette.core.events import Topic
from vedette.entities.monitors import Execution, ExecutionStatus, Monitor
from vedette.ports.monitors import Label, NoteKind, PredictionBlock, WindowKey, WindowState
from vedette.storage import window_records as rows
from vedette.storage.database import BUSY_TIMEOUT_S, Database
from vedette.storage.monitor_migrations import upgrade
from vedette.storage.monitor_tables import (
    executions,
    labels,
    monitors,
    notes,
    offsets,
    predictions,
    profiles,
    reopened,
    windows,
)
from vedette.storage.paging import Listing
from vedette.storage.records import document, parse
from vedette.storage.sql_alerts import SqlAlertLedger

_TURN = 0x7665_6465_7474_6D
"""Key of the PostgreSQL advisory lock that is the turn to write ("vedettm")."""
_AT_ONCE = 500
"""Values in one IN list."""


class SqlMonitorSnapshot:
    """A `MonitorSnapshot` on a connection in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.alerts = SqlAlertLedger(connection)

    def monitor(self, name: str) -> Monitor:
        found = self._connection.execute(select(monitors.c.document).where(monitors.c.name == name)).scalar()
        if found is None:
            raise NotFound(f"monitor {name!r} does not exist")
        return parse(found, Monitor)

    def monitors(self, *, limit: int, after: str = "", endpoint: str = "") -> tuple[list[Monitor], str]:
        listing = Listing("monitors", limit=limit, filters=(endpoint,))
        query = select(monitors.c.document).where(monitors.c.name > listing.start(after, ""))
        if endpoint:
            query = query.where(monitors.c.endpoint == endpoint)
        found = self._connection.execute(query.order_by(monitors.c.name).limit(limit + 1)).scalars()
        return listing.page([parse(text, Monitor) for text in found], lambda monitor: monitor.name)

    def offset(self, topic: Topic) -> int:
        found = self._connection.execute(select(offsets.c.offset).where(offsets.c.topic == topic)).scalar()
        return int(found or 0)

    def note(self, kind: NoteKind, key: str) -> bytes | None:
        query = select(notes.c.value).where(notes.c.kind == kind, notes.c.key == key)
        found: bytes | None = self._connection.execute(query).scalar()
        return found

    def notes(self, kind: NoteKind) -> dict[str, bytes]:
        query = select(notes.c.key, notes.c.value).where(notes.c.kind == kind)
        return {row.key: row.value for row in self._connection.execute(query)}

    def windows(self, *, monitor: str = "", profiles: bool = True) -> list[WindowState]:
        columns = [column for column in windows.c if profiles or column.name != "profile"]
        query = select(*columns).where(windows.c.sealed.is_(False)).order_by(*(windows.c[name] for name in _WINDOW))
        if monitor:
            query = query.where(windows.c.monitor == monitor)
        return [rows.window_of(row, row.profile if profiles else b"") for row in self._connection.execute(query)]

    def sealed(self, limit: int) -> list[WindowState]:
        order = (windows.c.end, *(windows.c[name] for name in _WINDOW))
        query = select(windows).where(windows.c.sealed.is_(True)).order_by(*order).limit(limit)
        return [rows.window_of(row, row.profile) for row in self._connection.execute(query)]

    def sealed_count(self) -> int:
        return self._count(windows, windows.c.sealed.is_(True))

    def execution(self, execution_id: str) -> Execution:
        query = select(executions.c.document).where(executions.c.id == execution_id)
        found = self._connection.execute(query).scalar()
        if found is None:
            raise NotFound(f"execution {execution_id!r} does not exist")
        return parse(found, Execution)

    def executions(
        self,
        *,
        limit: int,
        after: str = "",
        monitor: str = "",
        endpoint: str = "",
        status: ExecutionStatus | None = None,
        since: float = 0.0,
    ) -> tuple[list[Execution], str]:
        listing = Listing("executions", limit=limit, filters=(monitor, endpoint, status, since))
        start, identity = rows.read_place(listing.start(after, ""))
        table = executions.c
        wanted = [table.end >= since]
        wanted += [column == value for column, value in ((table.monitor, monitor), (table.endpoint, endpoint)) if value]
        wanted += [table.status == status.value] if status else []
        if after:
            wanted.append(or_(table.start < start, and_(table.start == start, table.id > identity)))
        query = select(table.document).where(*wanted).order_by(table.start.desc(), table.id).limit(limit + 1)
        found = [parse(text, Execution) for text in self._connection.execute(query).scalars()]
        return listing.page(found, lambda execution: rows.place(execution.start, execution.id))

    def profile(self, execution_id: str) -> bytes:
        query = select(profiles.c.profile).where(profiles.c.execution == execution_id)
        found: bytes | None = self._connection.execute(query).scalar()
        if found is None:
            raise NotFound(f"the profile of execution {execution_id!r} is not kept (any more)")
        return found

    def blocks(self, key: WindowKey) -> list[PredictionBlock]:
        query = select(predictions).where(*_same(predictions, key)).order_by(predictions.c.block)
        return [
            PredictionBlock(row.endpoint, rows.key_of(row), row.block, row.rows, row.payload)
            for row in self._connection.execute(query)
        ]

    def prediction_windows(self, endpoint: str) -> list[tuple[WindowKey, int]]:
        columns = [predictions.c[name] for name in _WINDOW]
        query = select(*columns, func.sum(predictions.c.rows).label("total")).where(predictions.c.endpoint == endpoint)
        query = query.group_by(*columns).order_by(predictions.c.start, *columns)
        return [(rows.key_of(row), int(row.total)) for row in self._connection.execute(query)]

    def labels(self, endpoint: str, ids: Collection[str]) -> dict[str, Label]:
        wanted, found = list(ids), {}
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            query = select(labels).where(labels.c.endpoint == endpoint, labels.c.id.in_(some))
            for row in self._connection.execute(query):
                found[row.id] = Label(row.id, row.value, row.at, row.joined)
        return found

    def labelled_endpoints(self) -> list[str]:
        return list(
            self._connection.execute(select(labels.c.endpoint).distinct().order_by(labels.c.endpoint)).scalars()
        )

    def waiting_labels(self, endpoint: str) -> dict[str, float]:
        query = select(labels.c.id, labels.c.at).where(labels.c.endpoint == endpoint, labels.c.joined.is_(False))
        return {row.id: row.at for row in self._connection.execute(query)}

    def label_count(self, endpoint: str) -> int:
        return self._count(labels, labels.c.endpoint == endpoint)

    def reopened(self, limit: int) -> list[WindowKey]:
        order = (reopened.c.at, *(reopened.c[name] for name in _WINDOW))
        return [rows.key_of(row) for row in self._connection.execute(select(reopened).order_by(*order).limit(limit))]

    def _count(self, table: Table, *where: ColumnElement[bool]) -> int:
        return int(self._connection.execute(select(func.count()).select_from(table).where(*where)).scalar() or 0)

    def _has(self, table: Table, *where: ColumnElement[bool]) -> bool:
        return bool(self._connection.execute(select(exists(select(1).select_from(table).where(*where)))).scalar())


_WINDOW = tuple(WindowKey.__dataclass_fields__)


def _same(table: Table, key: WindowKey) -> list[ColumnElement[bool]]:
    return [table.c[name] == value for name, value in rows.key_values(key).items()]


class SqlMonitorTransaction(SqlMonitorSnapshot):
    """A `MonitorTransaction` on a connection that holds the turn to write."""

    def insert_monitor(self, monitor: Monitor) -> None:
        text = document(monitor)
        if self._has(monitors, monitors.c.name == monitor.name):
            raise AlreadyExists(f"monitor {monitor.name!r} exists already")
        self._insert(monitors, [{"name": monitor.name, "endpoint": monitor.endpoint, "document": text}])

    def update_monitor(self, monitor: Monitor) -> None:
        values = {"endpoint": monitor.endpoint, "document": document(monitor)}
        changed = self._connection.execute(update(monitors).where(monitors.c.name == monitor.name).values(values))
        if not changed.rowcount:
            raise NotFound(f"monitor {monitor.name!r} does not exist")

    def delete_monitor(self, name: str) -> None:
        if not self._delete(monitors, monitors.c.name == name):
            raise NotFound(f"monitor {name!r} does not exist")

    def set_offset(self, topic: Topic, offset: int) -> None:
        self._delete(offsets, offsets.c.topic == topic)
        self._insert(offsets, [{"topic": topic, "offset": offset}])

    def put_note(self, kind: NoteKind, key: str, value: bytes) -> None:
        document(key)
        self.drop_note(kind, key)
        self._insert(notes, [{"kind": kind, "key": key, "value": value}])

    def drop_note(self, kind: NoteKind, key: str) -> None:
        self._delete(notes, notes.c.kind == kind, notes.c.key == key)

    def put_windows(self, states: Sequence[WindowState]) -> None:
        known = self._watched(states, lambda state: state.key.monitor)
        self.drop_windows(state.key for state in known)
        self._insert(windows, [rows.window_values(state) for state in known])

    def drop_windows(self, keys: Iterable[WindowKey]) -> None:
        for key in keys:
            self._delete(windows, *_same(windows, key))

    def count_attempt(self, key: WindowKey) -> int:
        same = [*_same(windows, key), windows.c.sealed.is_(True)]
        self._connection.execute(update(windows).where(*same).values(attempts=windows.c.attempts + 1))
        return int(self._connection.execute(select(windows.c.attempts).where(*same)).scalar() or 0)

    def put_execution(self, execution: Execution) -> None:
        values = rows.execution_values(execution)
        if not self._has(monitors, monitors.c.name == execution.monitor):
            raise NotFound(f"monitor {execution.monitor!r} does not exist")
        changed = self._connection.execute(update(executions).where(executions.c.id == execution.id).values(values))
        if not changed.rowcount:
            self._insert(executions, [values])

    def put_profile(self, execution_id: str, profile: bytes, *, keep: int) -> None:
        query = select(executions.c.monitor, executions.c.start).where(executions.c.id == execution_id)
        owner = self._connection.execute(query).one_or_none()
        if owner is None:
            raise NotFound(f"execution {execution_id!r} does not exist")
        self._delete(profiles, profiles.c.execution == execution_id)
        value = {"execution": execution_id, "monitor": owner.monitor, "start": owner.start, "profile": profile}
        self._insert(profiles, [value])
        order = (profiles.c.start.desc(), profiles.c.execution)
        of_monitor = select(profiles.c.execution).where(profiles.c.monitor == owner.monitor)
        old = list(self._connection.execute(of_monitor.order_by(*order).offset(keep)).scalars())
        if old:
            self._delete(profiles, profiles.c.execution.in_(old))

    def put_blocks(self, blocks: Sequence[PredictionBlock], *, keep_rows: int) -> None:
        known = self._watched(blocks, lambda block: block.window.monitor)
        for block in known:
            self._delete(predictions, *_same(predictions, block.window), predictions.c.block == block.block)
        self._insert(predictions, [rows.block_values(block) for block in known])
        for endpoint in {block.endpoint for block in known}:
            self._trim_predictions(endpoint, keep_rows)

    def _trim_predictions(self, endpoint: str, keep_rows: int) -> None:
        kept = self.prediction_windows(endpoint)
        surplus = sum(count for _, count in kept) - keep_rows
        for key, count in kept:
            if surplus <= 0:
                return
            self._delete(predictions, *_same(predictions, key))
            surplus -= count

    def put_labels(self, endpoint: str, new: Sequence[Label], *, keep: int) -> None:
        latest = {label.id: label for label in new}
        values = [{"endpoint": endpoint, **asdict(each)} for each in latest.values()]
        document([(value["id"], value["value"]) for value in values])
        ids = list(latest)
        for first in range(0, len(ids), _AT_ONCE):
            self._delete(labels, labels.c.endpoint == endpoint, labels.c.id.in_(ids[first : first + _AT_ONCE]))
        self._insert(labels, values)
        surplus = self.label_count(endpoint) - keep
        if surplus > 0:
            of_endpoint = select(labels.c.id).where(labels.c.endpoint == endpoint)
            oldest = of_endpoint.order_by(labels.c.at, labels.c.id).limit(surplus)
            self._delete(labels, labels.c.endpoint == endpoint, labels.c.id.in_(oldest))

    def join_labels(self, endpoint: str, ids: Collection[str]) -> None:
        wanted = list(ids)
        for first in range(0, len(wanted), _AT_ONCE):
            some = labels.c.id.in_(wanted[first : first + _AT_ONCE])
            self._connection.execute(update(labels).where(labels.c.endpoint == endpoint, some).values(joined=True))

    def reopen(self, keys: Iterable[WindowKey], *, at: float) -> None:
        new = [key for key in dict.fromkeys(keys) if not self._mark(key, taken=False)]
        known = self._watched(new, lambda key: key.monitor)
        self._insert(reopened, [rows.key_values(key) | {"at": at} for key in known])

    def take_again(self, key: WindowKey) -> None:
        self._mark(key, taken=True)

    def close_again(self, key: WindowKey) -> None:
        self._delete(reopened, *_same(reopened, key), reopened.c.taken)

    def _mark(self, key: WindowKey, *, taken: bool) -> bool:
        """Change a mark; False: there is none."""
        query = update(reopened).where(*_same(reopened, key)).values(taken=taken)
        return bool(self._connection.execute(query).rowcount)

    def forget(self, *, executions_before: float, predictions_before: float, labels_before: float) -> Mapping[str, int]:
        return {
            "executions": self._delete(executions, executions.c.end < executions_before),
            "predictions": self._delete(predictions, predictions.c.start < predictions_before),
            "labels": self._delete(labels, labels.c.at < labels_before),
        }

    def _watched(self, items: Sequence[Any], monitor_of: Any) -> list[Any]:
        """Those whose monitor exists."""
        names = set(self._connection.execute(select(monitors.c.name)).scalars()) if items else set()
        return [item for item in items if monitor_of(item) in names]

    def _insert(self, table: Table, values: list[dict[str, Any]]) -> None:
        if values:
            self._connection.execute(insert(table), values)

    def _delete(self, table: Table, *where: ColumnElement[bool]) -> int:
        return int(self._connection.execute(delete(table).where(*where)).rowcount)


class SqlMonitorStore:
    """A `MonitorStore` in a database: `sqlite:///<file>` or `postgresql+psycopg://...`; arguments as `Database`."""

    def __init__(self, url: str, *, password: str = "", busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._database = Database(
            url, noun="monitor's store", turn=_TURN, password=password, busy_timeout_s=busy_timeout_s
        )

    def migrate(self) -> None:
        self._database.migrate(upgrade)

    @contextmanager
    def transaction(self) -> Iterator[SqlMonitorTransaction]:
        with self._database.writing() as connection:
            yield SqlMonitorTransaction(connection)

    @contextmanager
    def read(self) -> Iterator[SqlMonitorSnapshot]:
        with self._database.reading() as connection:
            yield SqlMonitorSnapshot(connection)

    def close(self) -> None:
        self._database.close()
