"""Ground truth: labels by id come in by HTTP and by the stream, wait for their predictions or re-open their window.

Rule: a label is kept once, by its id, before anything is told of it; which windows it belongs to is found from the
predictions that are kept. Labels may come before the prediction, days after it, twice, or for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from vedette.core.clock import Clock
from vedette.core.errors import DataLoss, InvalidArgument, NotFound, VedetteError
from vedette.core.events import Topic
from vedette.core.metrics import Metrics
from vedette.core.models import check_name
from vedette.core.ports import EventStream
from vedette.core.tensors import Array
from vedette.entities.monitors import Monitor
from vedette.monitor.quality.outcomes import Outcomes, value_text
from vedette.monitor.traffic.folding import segments_of
from vedette.monitor.traffic.label_lines import read_labels
from vedette.monitor.traffic.lots import Kept
from vedette.monitor.traffic.segments import rows_in
from vedette.ports.monitors import Label, MonitorSnapshot, MonitorStore, PredictionBlock, WindowKey
from vedette.profiles.hashing import text_hashes

log = logging.getLogger(__name__)

TOPIC: Topic = "ground-truth"
GROUP = "monitor"
_READ = 16
_WAIT_S = 5.0
_AGAIN_S = 2.0
_MOST_MONITORS = 1_000
_NAMED = 8
"""Classes that a reason lists."""
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class _Requests:
    """The requests of one block by the hash of their id."""

    hashes: Hashes
    rows: NDArray[np.int32]
    """Rows of each; 0: not known."""


class Found(NamedTuple):
    """What is kept of the requests that somebody asks for."""

    here: NDArray[np.bool_]
    windows: list[WindowKey]
    rows: NDArray[np.int32]
    """Rows of each request; 0: nobody knows."""


class PredictionIndex:
    """Which windows have kept predictions of an id, by hash: a chance in 2^64 re-opens one window for nothing.

    Thread-safe. Filled from the store at the first question, and kept up to date by whoever stores blocks inside the
    transaction that does: so no label and its prediction miss each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, dict[WindowKey, list[_Requests]]] = {}

    def add(self, blocks: Iterable[PredictionBlock]) -> None:
        """Blocks are being stored. Endpoints that nobody asked for are left alone."""
        with self._lock:
            for block in blocks:
                if block.endpoint in self._windows:
                    _add_ids(self._windows[block.endpoint], block)

    def find(self, tx: MonitorSnapshot, endpoint: str, ids: Sequence[str]) -> Found:
        """Which of the ids have a kept prediction, and the windows of those. Blocks."""
        found = Found(np.zeros(len(ids), np.bool_), [], np.zeros(len(ids), np.int32))
        if not len(ids):
            return found
        wanted = text_hashes(ids)
        with self._lock:
            if endpoint not in self._windows:
                self._fill(tx, endpoint)
            for key, parts in self._windows[endpoint].items():
                hashes = np.concatenate([part.hashes for part in parts])
                known = np.isin(wanted, hashes)
                if known.any():
                    found.windows.append(key)
                    found.here[known] = True
                    rows = np.concatenate([part.rows for part in parts])
                    found.rows[known] = np.maximum(found.rows[known], _looked_up(wanted[known], hashes, rows))
        return found

    def keep_only(self, endpoint: str, keys: Iterable[WindowKey]) -> None:
        """The store has let go of all windows but these."""
        wanted = set(keys)
        with self._lock:
            if endpoint in self._windows:
                self._windows[endpoint] = {k: v for k, v in self._windows[endpoint].items() if k in wanted}

    def endpoints(self) -> list[str]:
        """Those that somebody has asked for."""
        with self._lock:
            return list(self._windows)

    def _fill(self, tx: MonitorSnapshot, endpoint: str) -> None:
        found: dict[WindowKey, list[_Requests]] = {}
        for key, _ in tx.prediction_windows(endpoint):
            for block in tx.blocks(key):
                _add_ids(found, block)
        self._windows[endpoint] = found


def _add_ids(windows: dict[WindowKey, list[_Requests]], block: PredictionBlock) -> None:
    try:
        kept = Kept.decode(block.payload)
    except DataLoss as error:
        log.error("labels will not find some predictions", extra={"window": block.window, "reason": error.message})
        return
    windows.setdefault(block.window, []).append(_requests_of(kept))


def _requests_of(kept: Kept) -> _Requests:
    """How many rows each request has; 0 for the last, of which rows may have been left out."""
    hashes, inverse = np.unique(text_hashes(kept.ids), return_inverse=True)
    rows = np.zeros(hashes.size, np.int32)
    np.maximum.at(rows, inverse, np.array(kept.places, np.int32) + 1)
    if inverse.size and rows[inverse[-1]] > 1:
        rows[inverse[-1]] = 0
    return _Requests(hashes, rows)


def _looked_up(wanted: Hashes, hashes: Hashes, rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """The rows of the wanted requests, each of which is among the hashes."""
    order = np.argsort(hashes, kind="stable")
    return rows[order[np.searchsorted(hashes, wanted, sorter=order)]]


@dataclass(frozen=True, slots=True)
class LabelLimits:
    """What may be kept."""

    labels: int = 1_000_000
    """Labels of one endpoint."""


class Served(Protocol):
    """What is known of endpoints."""

    def knows(self, endpoint: str) -> bool:
        """Whether there is such an endpoint, or was; True as long as nobody can say."""

    def classes(self, endpoint: str, baselines: Iterable[str]) -> tuple[str, ...]:
        """The classes of the endpoint's model, by its own names or those of its baselines; none: nobody knows."""


class Labels:
    """Takes ground truth in. `served` says which labels nobody can use; without it all are taken."""

    def __init__(
        self,
        store: MonitorStore,
        index: PredictionIndex,
        *,
        clock: Clock,
        metrics: Metrics,
        limits: LabelLimits = LabelLimits(),
        served: Served | None = None,
        reopened: Callable[[], None] = lambda: None,
    ) -> None:
        self._served = served
        self._store = store
        self._index = index
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._reopened = reopened

    async def accept(self, endpoint: str, lines: bytes) -> dict[str, int]:
        """`take`, without the reasons."""
        return (await self.take(endpoint, lines))[0]

    async def take(self, endpoint: str, lines: bytes) -> tuple[dict[str, int], list[str]]:
        """Keep the labels of JSON Lines, and tell how many were `joined`, `waiting`, `unknown` and `refused`.

        With that, number and reason of the first lines that were refused.

        Joined: the prediction is kept, and its window will be evaluated again. Waiting: it is not here (yet).
        Unknown: no monitor of this endpoint keeps predictions. Refused: the line is no label, its class is none of
        the model's, or it has another number of labels than the request has rows.

        Raises:
            InvalidArgument: no line is a label, or the endpoint is no name. NotFound: there is no such endpoint and no
                monitor of it. Unavailable: nothing was kept.
        """
        check_name(endpoint, "endpoint name")
        counts, refused = await asyncio.to_thread(self._accept, endpoint, lines)
        if counts["joined"]:
            self._reopened()
        self._count(endpoint, counts)
        return counts, refused

    def _count(self, endpoint: str, counts: Mapping[str, int]) -> None:
        for outcome, count in counts.items():
            if count:
                self._metrics.counter("vedette_monitor_labels_total", endpoint=endpoint, outcome=outcome).inc(count)

    def _accept(self, endpoint: str, lines: bytes) -> tuple[dict[str, int], list[str]]:
        now = self._clock.time()
        read = read_labels(lines, at=now)
        if read.refused and not read.labels:
            raise InvalidArgument(f"no line is a label: {read.why[0]}")
        with self._store.transaction() as tx:
            monitors = tx.monitors(limit=_MOST_MONITORS, endpoint=endpoint)[0]
            self._check_endpoint(endpoint, monitors)
            read.sift(self._strange(endpoint, monitors))
            rows = self._index.find(tx, endpoint, [label.id for label in read.labels]).rows.tolist()
            wanted = {label.id: count for label, count in zip(read.labels, rows)}
            read.sift(lambda label: _misfit(label, wanted[label.id]))
            labels = read.labels
            known = tx.labels(endpoint, {label.id for label in labels})
            news = [label for label in labels if label.id not in known or known[label.id].value != label.value]
            here = self._index.find(tx, endpoint, [label.id for label in labels]).here
            joined = {label.id for label, found in zip(labels, here.tolist()) if found}
            joined |= {each for each, label in known.items() if label.joined}
            news = [replace(label, joined=label.id in joined) for label in news]
            tx.put_labels(endpoint, news, keep=self._limits.labels)
            tx.join_labels(endpoint, joined - {label.id for label in news})
            tx.reopen(self._index.find(tx, endpoint, [label.id for label in news]).windows, at=now)
        counts = dict.fromkeys(("joined", "waiting", "unknown"), 0) | {"refused": read.refused}
        counts["joined"] = int(np.count_nonzero(here))
        counts["waiting" if monitors else "unknown"] = len(labels) - counts["joined"]
        return counts, read.why

    def _check_endpoint(self, endpoint: str, monitors: Sequence[Monitor]) -> None:
        if not monitors and self._served is not None and not self._served.knows(endpoint):
            raise NotFound(f"there is no endpoint {endpoint!r}, and no monitor of one of that name")

    def _strange(self, endpoint: str, monitors: Sequence[Monitor]) -> Callable[[Label], str]:
        """Says of a label why its class is none of the model's; empty: it is one, or nobody knows."""
        if self._served is None or any(_asks_for_values(monitor) for monitor in monitors):
            return lambda _: ""
        classes = self._served.classes(endpoint, {monitor.baseline for monitor in monitors})
        known = frozenset(map(value_text, classes)) | {str(index) for index in range(len(classes))}
        return (lambda label: _strange_class(label, classes, known)) if classes else (lambda _: "")

    def settle(self, before: float) -> None:
        """Look again at labels that wait: some have met their prediction; others came `before`, and never will. Blocks.

        Call it just before those are dropped from the store: each is counted once.
        """
        with self._store.read() as snapshot:
            endpoints = snapshot.labelled_endpoints()
        for endpoint in endpoints:
            with self._store.transaction() as tx:
                waiting = tx.waiting_labels(endpoint)
                found = self._index.find(tx, endpoint, list(waiting)).here
                joined = {each for each, here in zip(waiting, found.tolist()) if here}
                lost = {each for each, at in waiting.items() if at < before} - joined
                tx.join_labels(endpoint, joined | lost)  # so that none is told of again
            self._count(endpoint, {"joined": len(joined), "unknown": len(lost)})

    async def follow(self, stream: EventStream) -> None:
        """Take what comes by the stream, until cancelled: the message's key is the endpoint, its value the lines."""
        while True:
            try:
                offset = await stream.committed(TOPIC, GROUP)
                while True:
                    offset = await self.step(stream, offset)
            except VedetteError as error:
                log.warning("ground truth cannot be read", extra={"reason": error.message})
            await asyncio.sleep(_AGAIN_S)

    async def step(self, stream: EventStream, offset: int, *, wait_s: float = _WAIT_S) -> int:
        """Take what is there from `offset` on, wait for more, and return where to go on."""
        for delivery in await stream.read(TOPIC, offset, _READ):
            try:
                await self.accept(delivery.message.key, delivery.message.value)
            except (InvalidArgument, NotFound) as error:  # it will be as wrong the next time
                await stream.bury(delivery, GROUP, error.message)
            offset = delivery.offset + 1
            await stream.commit(TOPIC, GROUP, offset)
        await stream.wait(TOPIC, offset, wait_s)
        return offset


def _asks_for_values(monitor: Monitor) -> bool:
    """Whether a check takes the labels for values, whatever classes the model has."""
    return any(settings.parameters.get("problem_type") == "Regression" for settings in monitor.checks)


def _strange_class(label: Label, classes: Sequence[str], known: frozenset[str]) -> str:
    value = msgspec.json.decode(label.value)
    for each in value if isinstance(value, list) else [value]:
        if each is not None and value_text(each) not in known:
            said = ", ".join(classes[:_NAMED]) + (", ..." if len(classes) > _NAMED else "")
            return f"{_shown(each)} is no class of the model, which has {said}"
    return ""


def _shown(value: object) -> str:
    return repr(value[:80]) if isinstance(value, str) else str(value)


def _misfit(label: Label, rows: int) -> str:
    """Why the label has not one value for each row of its request; 0 rows: nobody knows how many."""
    value = msgspec.json.decode(label.value)
    count = len(value) if isinstance(value, list) else 1
    if not rows or count == rows:
        return ""
    said = f"a list of {count} labels" if isinstance(value, list) else "one label"
    return f"{said} for a request of {rows} rows" if rows > 1 else f"{said} for a request of one row"


def outcomes_of(snapshot: MonitorSnapshot, endpoint: str, key: WindowKey) -> Outcomes | None:
    """The kept predictions of a window beside their labels; None when none are kept. Blocks.

    Raises:
        DataLoss: what was kept cannot be read.
    """
    whole = WindowKey(key.monitor, key.variant, key.version, "", key.start)
    parts = [Kept.decode(block.payload) for block in snapshot.blocks(whole)]
    if not parts:
        return None
    labels = snapshot.labels(endpoint, {each for part in parts for each in part.ids})
    values = [_value(labels.get(each), place) for part in parts for each, place in zip(part.ids, part.places)]
    outcomes = Outcomes.joined(_columns(parts), values)
    if not key.segment:
        return outcomes
    feature, _, value = key.segment.partition("=")
    column = outcomes.columns.get(feature)
    known = segments_of(snapshot, key).values.get(feature, [])
    return None if column is None else outcomes.take(rows_in(known, value, column))


def _columns(parts: Sequence[Kept]) -> dict[str, Array]:
    """The columns that all parts have."""
    shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    return {name: np.concatenate([part.columns[name] for part in parts]) for name in shared}


def _value(label: Label | None, place: int) -> object:
    """The label of one row: of the request's only or first row, or from a list with one for each."""
    if label is None:
        return None
    try:
        value = msgspec.json.decode(label.value)
    except msgspec.MsgspecError as error:
        raise DataLoss("a kept label cannot be read") from error
    if isinstance(value, list):
        return value[place] if place < len(value) else None
    return value if place == 0 else None
