"""The monitor's store in memory. A transaction works on a copy, which takes the original's place at commit.

Rule: the values held are immutable, so that copying the dictionaries that hold them is a snapshot.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

from vedette.core.errors import AlreadyExists, NotFound, Unavailable
from vedette.core.events import Topic
from vedette.entities.monitors import Execution, ExecutionStatus, Monitor
from vedette.ports.alerts import AlertLedger
from vedette.ports.monitors import Label, NoteKind, PredictionBlock, WindowKey, WindowState
from vedette.storage.memory_alerts import MemoryAlertLedger
from vedette.storage.paging import Listing
from vedette.storage.records import document
from vedette.storage.window_records import place, read_place

_TURN_TIMEOUT_S = 30.0


@dataclass(slots=True)
class _State:
    """Everything a store knows."""

    monitors: dict[str, Monitor] = field(default_factory=dict)
    offsets: dict[Topic, int] = field(default_factory=dict)
    notes: dict[tuple[NoteKind, str], bytes] = field(default_factory=dict)
    windows: dict[WindowKey, WindowState] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    profiles: dict[str, bytes] = field(default_factory=dict)
    blocks: dict[tuple[WindowKey, int], PredictionBlock] = field(default_factory=dict)
    labels: dict[tuple[str, str], Label] = field(default_factory=dict)
    reopened: dict[WindowKey, float] = field(default_factory=dict)
    taken: dict[WindowKey, bool] = field(default_factory=dict)
    ledger: MemoryAlertLedger = field(default_factory=MemoryAlertLedger)

    def copy(self) -> _State:
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        copies: dict[str, Any] = {name: dict(value) for name, value in held.items() if isinstance(value, dict)}
        return replace(self, **copies, ledger=self.ledger.copy())


class MemoryMonitorSnapshot:
    """A `MonitorSnapshot` of one state."""

    def __init__(self, state: _State) -> None:
        self._state = state

    @property
    def alerts(self) -> AlertLedger:
        return self._state.ledger

    def monitor(self, name: str) -> Monitor:
        if name not in self._state.monitors:
            raise NotFound(f"monitor {name!r} does not exist")
        return self._state.monitors[name]

    def monitors(self, *, limit: int, after: str = "", endpoint: str = "") -> tuple[list[Monitor], str]:
        listing = Listing("monitors", limit=limit, filters=(endpoint,))
        start = listing.start(after, "")
        found = [m for name, m in sorted(self._state.monitors.items()) if name > start and endpoint in {"", m.endpoint}]
        return listing.page(found[: limit + 1], lambda monitor: monitor.name)

    def offset(self, topic: Topic) -> int:
        return self._state.offsets.get(topic, 0)

    def note(self, kind: NoteKind, key: str) -> bytes | None:
        return self._state.notes.get((kind, key))

    def notes(self, kind: NoteKind) -> dict[str, bytes]:
        return {key: value for (its_kind, key), value in self._state.notes.items() if its_kind == kind}

    def windows(self, *, monitor: str = "", profiles: bool = True) -> list[WindowState]:
        found = [state for state in self._state.windows.values() if not state.sealed]
        found = [state for state in found if monitor in {"", state.key.monitor}]
        found.sort(key=lambda state: _order(state.key))
        return found if profiles else [replace(state, profile=b"") for state in found]

    def sealed(self, limit: int) -> list[WindowState]:
        found = [state for state in self._state.windows.values() if state.sealed]
        return sorted(found, key=lambda state: (state.end, _order(state.key)))[:limit]

    def sealed_count(self) -> int:
        return sum(state.sealed for state in self._state.windows.values())

    def execution(self, execution_id: str) -> Execution:
        if execution_id not in self._state.executions:
            raise NotFound(f"execution {execution_id!r} does not exist")
        return self._state.executions[execution_id]

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
        start, identity = read_place(listing.start(after, ""))
        found = [
            each
            for each in self._state.executions.values()
            if monitor in {"", each.monitor}
            and endpoint in {"", each.endpoint}
            and status in {None, each.status}
            and each.end >= since
            and (-each.start, each.id) > (-start, identity)
        ]
        found.sort(key=lambda each: (-each.start, each.id))
        return listing.page(found[: limit + 1], lambda each: place(each.start, each.id))

    def profile(self, execution_id: str) -> bytes:
        if execution_id not in self._state.profiles:
            raise NotFound(f"the profile of execution {execution_id!r} is not kept (any more)")
        return self._state.profiles[execution_id]

    def blocks(self, key: WindowKey) -> list[PredictionBlock]:
        return [block for (window, _), block in sorted(self._state.blocks.items(), key=_block_order) if window == key]

    def prediction_windows(self, endpoint: str) -> list[tuple[WindowKey, int]]:
        totals: dict[WindowKey, int] = defaultdict(int)
        for (window, _), block in self._state.blocks.items():
            if block.endpoint == endpoint:
                totals[window] += block.rows
        return sorted(totals.items(), key=lambda item: (item[0].start, _order(item[0])))

    def labels(self, endpoint: str, ids: Collection[str]) -> dict[str, Label]:
        return {each: self._state.labels[endpoint, each] for each in ids if (endpoint, each) in self._state.labels}

    def labelled_endpoints(self) -> list[str]:
        return sorted({owner for owner, _ in self._state.labels})

    def waiting_labels(self, endpoint: str) -> dict[str, float]:
        mine = (label for (owner, _), label in self._state.labels.items() if owner == endpoint)
        return {label.id: label.at for label in mine if not label.joined}

    def label_count(self, endpoint: str) -> int:
        return sum(owner == endpoint for owner, _ in self._state.labels)

    def reopened(self, limit: int) -> list[WindowKey]:
        return sorted(self._state.reopened, key=lambda key: (self._state.reopened[key], _order(key)))[:limit]


def _order(key: WindowKey) -> tuple[str, str, str, str, float]:
    return key.monitor, key.variant, key.version, key.segment, key.start


def _block_order(item: tuple[tuple[WindowKey, int], PredictionBlock]) -> tuple[object, int]:
    return _order(item[0][0]), item[0][1]


class MemoryMonitorTransaction(MemoryMonitorSnapshot):
    """A `MonitorTransaction` on a copy of the state."""

    def insert_monitor(self, monitor: Monitor) -> None:
        document(monitor)
        if monitor.name in self._state.monitors:
            raise AlreadyExists(f"monitor {monitor.name!r} exists already")
        self._state.monitors[monitor.name] = monitor

    def update_monitor(self, monitor: Monitor) -> None:
        document(monitor)
        self.monitor(monitor.name)
        self._state.monitors[monitor.name] = monitor

    def delete_monitor(self, name: str) -> None:
        self.monitor(name)
        state = self._state
        del state.monitors[name]
        state.windows = {key: each for key, each in state.windows.items() if key.monitor != name}
        gone = {each.id for each in state.executions.values() if each.monitor == name}
        state.executions = {key: each for key, each in state.executions.items() if key not in gone}
        state.profiles = {key: each for key, each in state.profiles.items() if key not in gone}
        state.blocks = {key: each for key, each in state.blocks.items() if key[0].monitor != name}
        state.reopened = {key: at for key, at in state.reopened.items() if key.monitor != name}
        state.taken = {key: taken for key, taken in state.taken.items() if key.monitor != name}

    def set_offset(self, topic: Topic, offset: int) -> None:
        self._state.offsets[topic] = offset

    def put_note(self, kind: NoteKind, key: str, value: bytes) -> None:
        document(key)
        self._state.notes[kind, key] = value

    def drop_note(self, kind: NoteKind, key: str) -> None:
        self._state.notes.pop((kind, key), None)

    def put_windows(self, windows: Sequence[WindowState]) -> None:
        for state in windows:
            document(replace(state, profile=b""))
            if state.key.monitor in self._state.monitors:
                self._state.windows[state.key] = state

    def drop_windows(self, keys: Iterable[WindowKey]) -> None:
        for key in keys:
            self._state.windows.pop(key, None)

    def count_attempt(self, key: WindowKey) -> int:
        state = self._state.windows.get(key)
        if state is None or not state.sealed:
            return 0
        self._state.windows[key] = replace(state, attempts=state.attempts + 1)
        return state.attempts + 1

    def put_execution(self, execution: Execution) -> None:
        document(execution)
        self.monitor(execution.monitor)
        self._state.executions[execution.id] = execution

    def put_profile(self, execution_id: str, profile: bytes, *, keep: int) -> None:
        state = self._state
        owner = self.execution(execution_id).monitor
        state.profiles[execution_id] = profile
        mine = [each for each in map(self.execution, state.profiles) if each.monitor == owner]
        for old in sorted(mine, key=lambda each: (-each.start, each.id))[keep:]:
            del state.profiles[old.id]

    def put_blocks(self, blocks: Sequence[PredictionBlock], *, keep_rows: int) -> None:
        known = [block for block in blocks if block.window.monitor in self._state.monitors]
        for block in known:
            self._state.blocks[block.window, block.block] = block
        for endpoint in {block.endpoint for block in known}:
            self._trim_predictions(endpoint, keep_rows)

    def _trim_predictions(self, endpoint: str, keep_rows: int) -> None:
        kept = self.prediction_windows(endpoint)
        surplus = sum(count for _, count in kept) - keep_rows
        for key, count in kept:
            if surplus <= 0:
                return
            self._state.blocks = {place: block for place, block in self._state.blocks.items() if place[0] != key}
            surplus -= count

    def put_labels(self, endpoint: str, labels: Sequence[Label], *, keep: int) -> None:
        document([(label.id, label.value) for label in labels])
        for label in labels:
            self._state.labels[endpoint, label.id] = label
        mine = [label for (owner, _), label in self._state.labels.items() if owner == endpoint]
        for old in sorted(mine, key=lambda label: (label.at, label.id))[: max(0, len(mine) - keep)]:
            del self._state.labels[endpoint, old.id]

    def join_labels(self, endpoint: str, ids: Collection[str]) -> None:
        for each in ids:
            label = self._state.labels.get((endpoint, each))
            if label is not None:
                self._state.labels[endpoint, each] = replace(label, joined=True)

    def reopen(self, keys: Iterable[WindowKey], *, at: float) -> None:
        for key in keys:
            if key.monitor in self._state.monitors:
                self._state.reopened.setdefault(key, at)
                self._state.taken.pop(key, None)

    def take_again(self, key: WindowKey) -> None:
        if key in self._state.reopened:
            self._state.taken[key] = True

    def close_again(self, key: WindowKey) -> None:
        if self._state.taken.pop(key, False):
            del self._state.reopened[key]

    def forget(self, *, executions_before: float, predictions_before: float, labels_before: float) -> Mapping[str, int]:
        state = self._state
        old = {each.id for each in state.executions.values() if each.end < executions_before}
        kept = {key: block for key, block in state.blocks.items() if key[0].start >= predictions_before}
        labels = {key: label for key, label in state.labels.items() if label.at >= labels_before}
        counts = {
            "executions": len(old),
            "predictions": len(state.blocks) - len(kept),
            "labels": len(state.labels) - len(labels),
        }
        state.executions = {key: each for key, each in state.executions.items() if key not in old}
        state.profiles = {key: each for key, each in state.profiles.items() if key not in old}
        state.blocks, state.labels = kept, labels
        return counts


class MemoryMonitorStore:
    """A `MonitorStore` for one process, gone with it."""

    def __init__(self) -> None:
        self._state = _State()
        self._turn = threading.Lock()
        self._closed = False

    def migrate(self) -> None:
        self._check_open()

    @contextmanager
    def transaction(self) -> Iterator[MemoryMonitorTransaction]:
        self._check_open()
        if not self._turn.acquire(timeout=_TURN_TIMEOUT_S):
            raise Unavailable("the monitor's store is busy: another transaction has not ended")
        try:
            copy = self._state.copy()
            yield MemoryMonitorTransaction(copy)
            self._state = copy
        finally:
            self._turn.release()

    @contextmanager
    def read(self) -> Iterator[MemoryMonitorSnapshot]:
        self._check_open()
        yield MemoryMonitorSnapshot(self._state)

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the monitor's store is closed")
