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

import msgspec
import numpy as np
from numpy.typing import NDArray

from vedette.core.clock import Clock
from vedette.core.errors import DataLoss, InvalidArgument, VedetteError
from vedette.core.events import Topic
from vedette.core.metrics import Metrics
from vedette.core.models import check_name
from vedette.core.ports import EventStream
from vedette.core.tensors import Array
from vedette.monitor.quality.outcomes import Outcomes
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
Hashes = NDArray[np.uint64]


class PredictionIndex:
    """Which windows have kept predictions of an id, by hash: a chance in 2^64 re-opens one window for nothing.

    Thread-safe. Filled from the store at the first question, and kept up to date by whoever stores blocks inside the
    transaction that does: so no label and its prediction miss each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, dict[WindowKey, list[Hashes]]] = {}

    def add(self, blocks: Iterable[PredictionBlock]) -> None:
        """Blocks are being stored. Endpoints that nobody asked for are left alone."""
        with self._lock:
            for block in blocks:
                if block.endpoint in self._windows:
                    _add_ids(self._windows[block.endpoint], block)

    def find(self, tx: MonitorSnapshot, endpoint: str, ids: Sequence[str]) -> tuple[NDArray[np.bool_], list[WindowKey]]:
        """Which of the ids have a kept prediction, and the windows of those. Blocks."""
        found = np.zeros(len(ids), np.bool_)
        windows: list[WindowKey] = []
        if not len(ids):
            return found, windows
        wanted = text_hashes(ids)
        with self._lock:
            if endpoint not in self._windows:
                self._fill(tx, endpoint)
            for key, hashes in self._windows[endpoint].items():
                known = np.isin(wanted, np.concatenate(hashes))
                if known.any():
                    windows.append(key)
                    found |= known
        return found, windows

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
        found: dict[WindowKey, list[Hashes]] = {}
        for key, _ in tx.prediction_windows(endpoint):
            for block in tx.blocks(key):
                _add_ids(found, block)
        self._windows[endpoint] = found


def _add_ids(windows: dict[WindowKey, list[Hashes]], block: PredictionBlock) -> None:
    try:
        hashes = text_hashes(Kept.decode(block.payload).ids)
    except DataLoss as error:
        log.error("labels will not find some predictions", extra={"window": block.window, "reason": error.message})
        return
    windows.setdefault(block.window, []).append(hashes)


@dataclass(frozen=True, slots=True)
class LabelLimits:
    """What may be kept."""

    labels: int = 1_000_000
    """Labels of one endpoint."""


class Labels:
    """Takes ground truth in."""

    def __init__(
        self,
        store: MonitorStore,
        index: PredictionIndex,
        *,
        clock: Clock,
        metrics: Metrics,
        limits: LabelLimits = LabelLimits(),
        reopened: Callable[[], None] = lambda: None,
    ) -> None:
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
        Unknown: no monitor of this endpoint keeps predictions.

        Raises:
            InvalidArgument: no line is a label, or the endpoint is no name. Unavailable: nothing was kept.
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
        labels, refused, why = read_labels(lines, at=now)
        if refused and not labels:
            raise InvalidArgument(f"no line is a label: {why[0]}")
        counts = dict.fromkeys(("joined", "waiting", "unknown"), 0) | {"refused": refused}
        if not labels:
            return counts, why
        with self._store.transaction() as tx:
            watched = bool(tx.monitors(limit=1, endpoint=endpoint)[0])
            known = tx.labels(endpoint, {label.id for label in labels})
            news = [label for label in labels if label.id not in known or known[label.id].value != label.value]
            found, _ = self._index.find(tx, endpoint, [label.id for label in labels])
            joined = {label.id for label, here in zip(labels, found.tolist()) if here}
            joined |= {each for each, label in known.items() if label.joined}
            news = [replace(label, joined=label.id in joined) for label in news]
            tx.put_labels(endpoint, news, keep=self._limits.labels)
            tx.join_labels(endpoint, joined - {label.id for label in news})
            tx.reopen(self._index.find(tx, endpoint, [label.id for label in news])[1], at=now)
        counts["joined"] = int(np.count_nonzero(found))
        counts["waiting" if watched else "unknown"] = len(labels) - counts["joined"]
        return counts, why

    def settle(self, before: float) -> None:
        """Look again at labels that wait: some have met their prediction; others came `before`, and never will. Blocks.

        Call it just before those are dropped from the store: each is counted once.
        """
        with self._store.read() as snapshot:
            endpoints = snapshot.labelled_endpoints()
        for endpoint in endpoints:
            with self._store.transaction() as tx:
                waiting = tx.waiting_labels(endpoint)
                found, _ = self._index.find(tx, endpoint, list(waiting))
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
            except InvalidArgument as error:  # it will be as wrong the next time
                await stream.bury(delivery, GROUP, error.message)
            offset = delivery.offset + 1
            await stream.commit(TOPIC, GROUP, offset)
        await stream.wait(TOPIC, offset, wait_s)
        return offset


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
