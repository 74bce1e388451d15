"""Captures folded into windows: the monitor's state between two commits, in memory.

A `Fold` takes batches in the order of the stream and says what has changed since the last commit: open windows,
sealed ones, and the notes that it needs to go on from there. Rule: what it does depends on the batches and on what
was stored, never on when it commits; so batches that are folded again after a crash lead to the same windows. One
exception: messages do not say when they arrived, so a time that is further ahead than `max_skew_s` is told by the
clock at folding. Rows of such a clock that are read after a pause fall into other windows than without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from vedette.codec.captures import CaptureBatch
from vedette.core.errors import InvalidArgument
from vedette.core.models import NAME, Signature
from vedette.entities.monitors import Monitor
from vedette.monitor.traffic.lots import Kept, Lot, requests_by_code
from vedette.monitor.traffic.numbers import Numbers
from vedette.monitor.traffic.segments import Segments
from vedette.monitor.traffic.tabulation import Table, excluded_columns, tabulate
from vedette.monitor.traffic.windows import Due, Pace, Series, Tide, check_pace, tame
from vedette.ports.monitors import MonitorSnapshot, NoteKind, PredictionBlock, WindowKey, WindowState
from vedette.profiles import Layout

NO_REQUESTS = "no requests"
MAX_SERIES = 200
"""Variants and versions of one monitor that are told apart at once."""
MAX_PRODUCERS = 10_000
_NOTE = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class FoldLimits:
    """What the operator can tell the fold."""

    max_skew_s: float = 60.0
    """A clock that is further ahead than this is wrong."""
    idle_s: float = 5.0
    """Seconds without an event after which event time follows the clock."""
    max_empty: int = 3
    """Empty windows in a row that stand for themselves."""
    kept_per_window: int = 50_000
    """Predictions of one window that are kept for their ground truth."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One monitor as the fold needs it."""

    monitor: Monitor
    pace: Pace
    keeps: bool
    """Whether predictions are kept for ground truth."""

    @classmethod
    def of(cls, monitor: Monitor, *, keeps: bool) -> Watch:
        """The watch of a monitor. `InvalidArgument` when its settings are none."""
        return cls(monitor, check_pace(monitor.window_s, monitor.lateness_s, monitor.schedule), keeps)

    def same_windows(self, other: Watch) -> bool:
        """Whether windows folded for one are the other's too."""
        mine, theirs = self.monitor, other.monitor
        return (self.pace, mine.endpoint, mine.segments) == (other.pace, theirs.endpoint, theirs.segments)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model version behind an endpoint when a batch of it is folded."""

    signature: Signature
    model: str = ""
    baselines: Mapping[str, tuple[str, Layout]] = field(default_factory=dict)
    """Baseline name -> digest and layout."""


@dataclass(slots=True)
class _Course:
    """One series of windows with what waits to be told in the next one."""

    series: Series = field(default_factory=Series)
    counts: dict[str, int] = field(default_factory=dict)
    """Set aside since the last window was sealed."""
    segments: Segments = field(default_factory=Segments)

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to what waits to be told."""
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


CourseKey = tuple[str, str, str]
"""Monitor, variant, version."""


@dataclass(slots=True)
class Changes:
    """What has to be stored for the fold to go on from here."""

    windows: list[WindowState] = field(default_factory=list)
    blocks: list[PredictionBlock] = field(default_factory=list)
    notes: dict[tuple[NoteKind, str], bytes] = field(default_factory=dict)
    dropped_windows: list[WindowKey] = field(default_factory=list)
    dropped_notes: list[tuple[NoteKind, str]] = field(default_factory=list)
    sealed: int = 0
    """Windows among `windows` that are sealed."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the rows of one batch, for metrics."""

    endpoint: str
    rows: Counter[str]
    lost: Mapping[str, int] = field(default_factory=dict)
    """Captures given up as lost, by endpoint as `Fold.settle` tells them."""


class Fold:
    """The windows of all monitors. Not thread-safe."""

    def __init__(self, limits: FoldLimits) -> None:
        self._limits = limits
        self._watches: dict[str, Watch] = {}
        self._by_endpoint: dict[str, list[Watch]] = {}
        self._tides: dict[str, Tide] = {}
        self._courses: dict[CourseKey, _Course] = {}
        self._lots: dict[CourseKey, dict[tuple[str, float], Lot]] = {}
        self._producers: dict[str, Numbers] = {}
        self._endpoint_of: dict[str, str] = {}
        """Of each producer; empty where it has several, so that its losses are nobody's in particular."""
        self._touched: set[tuple[NoteKind, str]] = set()
        self._sealed: list[WindowState] = []
        self._dropped = Changes()

    # What is watched

    def watch(self, watches: Iterable[Watch]) -> None:
        """These are the monitors from now on. Windows of monitors that are gone or cut otherwise are dropped."""
        wanted = {each.monitor.name: each for each in watches}
        for name, old in self._watches.items():
            if name not in wanted or not old.same_windows(wanted[name]):
                self._drop(name)
        self._watches = wanted
        self._by_endpoint = {}
        for each in wanted.values():
            self._by_endpoint.setdefault(each.monitor.endpoint, []).append(each)

    def watched(self, endpoint: str) -> list[Watch]:
        """The monitors of an endpoint."""
        return self._by_endpoint.get(endpoint, [])

    @property
    def watched_endpoints(self) -> list[str]:
        """Those that have a monitor."""
        return list(self._by_endpoint)

    @property
    def endpoints(self) -> list[str]:
        """Those that had an event."""
        return list(self._tides)

    @property
    def has_sealed(self) -> bool:
        """Whether windows have become due since the last `changes`."""
        return bool(self._sealed)

    def tide(self, endpoint: str) -> float:
        """How far event time has come; -inf before the first event."""
        return self._tides[endpoint].time if endpoint in self._tides else float("-inf")

    def _drop(self, monitor: str) -> None:
        self._sealed = [state for state in self._sealed if state.key.monitor != monitor]
        for key in [key for key in self._courses if key[0] == monitor]:
            self._dropped.dropped_windows += [lot.key for lot in self._lots.pop(key, {}).values()]
            self._dropped.dropped_notes.append(("series", _course_name(key)))
            self._touched.discard(("series", _course_name(key)))
            del self._courses[key]

    # Folding

    def add(self, batch: CaptureBatch, facts: Facts, now: float) -> Tally:
        """Fold one batch.

        Raises:
            InvalidArgument: it cannot be of one of our producers; nothing was changed.
        """
        check_batch(batch)
        fresh, lost = self._see(batch)
        counts: Counter[str] = Counter()
        watches = self.watched(batch.endpoint)
        if watches:
            times, skewed = tame(batch.times, now, max_skew_s=self._limits.max_skew_s)
            table = tabulate(batch, facts.signature)
            excluded = excluded_columns(batch, facts.signature)
            piece = _Piece(batch, table, times, fresh, Counter(skewed=skewed) + table.counts, excluded)
            piece.counts["duplicate"] += int(np.count_nonzero(~fresh))
            folded = [self._add_to(each, piece, facts) for each in watches]
            counts = Counter(duplicate=int(np.count_nonzero(~fresh[table.requests])), late=max(folded))
            counts["folded"] = table.rows - counts["duplicate"] - counts["late"]
            counts["unreadable"] = table.counts["unreadable"] + table.counts["too_wide"]
            self._rise(batch.endpoint, times[fresh])
        return Tally(batch.endpoint, counts, {self._endpoint_of.get(batch.producer, ""): lost} if lost else {})

    def idle(self, endpoints: Iterable[str], now: float) -> None:
        """Nothing has arrived at these for `idle_s`, and the stream was read to its end."""
        for endpoint in endpoints:
            if endpoint in self._tides:
                self._tides[endpoint].idle(now, self._limits.idle_s)
                self._seal(endpoint)

    def expect(self, endpoint: str, variants: Iterable[tuple[str, str]], now: float) -> None:
        """The endpoint serves these variants and versions, and the stream was read to its end.

        One that has had no request begins its windows now, so that its silence is told like any other.
        """
        for watch in self.watched(endpoint):
            for variant, version in variants:
                key = (watch.monitor.name, variant, version)
                course = None if key in self._courses else self._course(key)
                if course is None:
                    continue
                tide = self._tides.setdefault(endpoint, Tide(now - self._limits.idle_s))
                course.series.next_start = max(
                    float(watch.pace.starts(np.array([now]))[0]), watch.pace.first_open(tide.time)
                )
                self._touched |= {("series", _course_name(key)), ("endpoint", endpoint)}

    def settle(self) -> dict[str, int]:
        """The stream was read to its end: lost captures by the endpoint of their producer, "" where it has several."""
        lost: Counter[str] = Counter()
        for producer, numbers in self._producers.items():
            mark = numbers.mark
            lost[self._endpoint_of.get(producer, "")] += numbers.settle()
            if numbers.mark != mark:
                self._touched.add(("producer", producer))
        return {endpoint: count for endpoint, count in lost.items() if count}

    def _see(self, batch: CaptureBatch) -> tuple[NDArray[np.bool_], int]:
        """Which requests are new, and how many of their producer were lost. Without a producer nothing is known."""
        name = batch.producer.replace("\0", "")[:200]
        if not name:
            return np.ones(len(batch), np.bool_), 0
        numbers = self._producers.pop(name, None) or Numbers()
        self._producers[name] = numbers  # the one seen last is last
        if self._endpoint_of.setdefault(name, batch.endpoint) != batch.endpoint:
            self._endpoint_of[name] = ""
        self._touched.add(("producer", name))
        if len(self._producers) > MAX_PRODUCERS:
            oldest = next(iter(self._producers))
            del self._producers[oldest]
            self._endpoint_of.pop(oldest, None)
            self._touched.discard(("producer", oldest))
            self._dropped.dropped_notes.append(("producer", oldest))
        return numbers.see(batch.sequences)

    def _add_to(self, watch: Watch, piece: _Piece, facts: Facts) -> int:
        """Fold a batch for one monitor; returns how many of its rows were late."""
        batch = piece.batch
        key = (watch.monitor.name, batch.variant, batch.version)
        course = self._course(key)
        if course is None:
            return 0
        self._touched.add(("series", _course_name(key)))
        starts = watch.pace.starts(piece.times)
        late = piece.fresh & (starts < watch.pace.first_open(self.tide(batch.endpoint)))
        good = piece.fresh & ~late
        windows = np.unique(starts[good]).tolist()
        told = +piece.counts
        course.count(Counter(late=int(np.count_nonzero(late))) + (Counter() if windows else told))
        for number, start in enumerate(windows):
            here = good & (starts == start) if len(windows) > 1 or not good.all() else None
            lot = self._lot(watch, key, "", start, facts)
            lot.count({} if number else told)
            self._fill(watch, lot, piece, here, facts)
        return int(np.count_nonzero(late[piece.table.requests]))

    def _fill(self, watch: Watch, lot: Lot, piece: _Piece, here: NDArray[np.bool_] | None, facts: Facts) -> None:
        """Add the requests `here` (None: all) of a batch to a window and to its segments."""
        lot.count(requests_by_code(piece.batch.codes, here))
        rows = None if here is None else np.flatnonzero(here[piece.table.requests])
        columns, keys = piece.rows(rows)
        lot.add(columns, keys)
        lot.exclude(piece.excluded)
        key = (lot.key.monitor, lot.key.variant, lot.key.version)
        if watch.keeps:
            lot.keep(piece.kept(rows), most=self._limits.kept_per_window)
        for feature in watch.monitor.segments:
            if feature not in columns:
                why = "excluded_segment" if feature in piece.excluded else "unknown_segment"
                lot.count(Counter({why: len(keys)}))
                continue
            known = self._known_values(watch, feature, facts)
            for value, chosen in self._courses[key].segments.split(feature, columns[feature], known):
                part = self._lot(watch, key, f"{feature}={value}", lot.key.start, facts)
                part.exclude(piece.excluded)
                part.add({name: column[chosen] for name, column in columns.items()}, [keys[i] for i in chosen.tolist()])

    def _known_values(self, watch: Watch, feature: str, facts: Facts) -> Sequence[str]:
        named = facts.signature.categories.get(feature)
        if named:
            return named
        layout = facts.baselines.get(watch.monitor.baseline, ("", None))[1]
        column = layout.columns.get(feature) if layout else None
        return column.categories if column else ()

    def _course(self, key: CourseKey) -> _Course | None:
        if key not in self._courses:
            if sum(1 for each in self._courses if each[0] == key[0]) >= MAX_SERIES:
                return None
            self._courses[key] = _Course()
        return self._courses[key]

    def _lot(self, watch: Watch, key: CourseKey, segment: str, start: float, facts: Facts) -> Lot:
        lots = self._lots.setdefault(key, {})
        lot = lots.get((segment, start))
        if lot is None:
            digest, layout = facts.baselines.get(watch.monitor.baseline, ("", None))
            name = WindowKey(*key, segment, start)
            end = start + watch.pace.window_s
            lot = lots[segment, start] = Lot(
                name, watch.monitor.endpoint, end, model=facts.model, baseline=digest, layout=layout
            )
        return lot

    # Sealing

    def _rise(self, endpoint: str, times: NDArray[np.float64]) -> None:
        tide = self._tides.setdefault(endpoint, Tide())
        before = tide.time
        tide.rise(times)
        if tide.time != before:
            self._seal(endpoint)

    def _seal(self, endpoint: str) -> None:
        """Seal every window of the endpoint that is due now."""
        self._touched.add(("endpoint", endpoint))
        for watch in self.watched(endpoint):
            first_open = watch.pace.first_open(self.tide(endpoint))
            for key, course in self._courses.items():
                if key[0] == watch.monitor.name:
                    self._advance(watch, key, course, first_open)

    def _advance(self, watch: Watch, key: CourseKey, course: _Course, first_open: float) -> None:
        lots = self._lots.get(key, {})
        starts = {start for segment, start in lots if not segment and start < first_open}
        due = course.series.advance(starts, first_open, window_s=watch.pace.window_s, max_empty=self._limits.max_empty)
        for span in due:
            told, course.counts = course.counts, {}
            if span.kind != "rows":
                self._sealed.append(_nothing(key, watch.monitor.endpoint, span, told))
                continue
            for segment in sorted(segment for segment, start in lots if start == span.start):
                lot = lots.pop((segment, span.start))
                lot.count({} if segment else told)
                self._dropped.blocks += lot.take_blocks()
                self._sealed.append(lot.state(sealed=True))
        if due:
            self._touched.add(("series", _course_name(key)))

    # Storing and going on

    def changes(self) -> Changes:
        """What has changed since the last call. The caller stores all of it, or ends."""
        found, self._dropped = self._dropped, Changes()
        found.windows, self._sealed = self._sealed, []
        found.sealed = len(found.windows)
        for lots in self._lots.values():
            for lot in lots.values():
                if lot.dirty:
                    found.blocks += lot.take_blocks()
                    found.windows.append(lot.state())
        for kind, name in self._touched:
            found.notes[kind, name] = self._note(kind, name)
        self._touched.clear()
        return found

    def _note(self, kind: NoteKind, name: str) -> bytes:
        if kind == "producer":
            return _NOTE.encode((self._producers[name], self._endpoint_of.get(name, "")))
        if kind == "endpoint":
            return _NOTE.encode(self._tides[name].time)
        return _NOTE.encode(self._courses[_course_key(name)])

    def restore(self, windows: Iterable[WindowState], notes: Callable[[NoteKind], Mapping[str, bytes]]) -> list[str]:
        """Go on from what was stored. Call it after `watch`; what is of no monitor any more is dropped.

        Returns what is damaged: such a note is as good as none, and such a window is going to fail.
        """
        damaged = []
        kinds: tuple[NoteKind, ...] = ("endpoint", "producer", "series")
        for kind, name, text in [(each, *note) for each in kinds for note in notes(each).items()]:
            try:
                self._restore_note(kind, name, text)
            except (msgspec.MsgspecError, ValueError):
                damaged.append(f"{kind} {name}")
        for state in windows:
            key = (state.key.monitor, state.key.variant, state.key.version)
            self._courses.setdefault(key, _Course())
            lot = self._lots.setdefault(key, {})[state.key.segment, state.key.start] = Lot.of(state)
            damaged += [f"window {state.key}"] if lot.damaged else []
        for name in {key[0] for key in self._courses} - set(self._watches):
            self._drop(name)
        return damaged

    def _restore_note(self, kind: NoteKind, name: str, text: bytes) -> None:
        if kind == "endpoint":
            self._tides[name] = Tide(msgspec.json.decode(text, type=float))
        elif kind == "producer":
            numbers, endpoint = msgspec.json.decode(text, type=tuple[Numbers, str])
            self._producers[name], self._endpoint_of[name] = numbers, endpoint
        else:
            self._courses[_course_key(name)] = msgspec.json.decode(text, type=_Course)


def segments_of(snapshot: MonitorSnapshot, key: WindowKey) -> Segments:
    """The segments that windows of this series are split into; none where it is not known (any more)."""
    note = snapshot.note("series", _course_name((key.monitor, key.variant, key.version)))
    try:
        return msgspec.json.decode(note, type=_Course).segments if note else Segments()
    except msgspec.MsgspecError:
        return Segments()


@dataclass(frozen=True, slots=True)
class _Piece:
    """One batch on its way into windows."""

    batch: CaptureBatch
    table: Table
    times: NDArray[np.float64]
    fresh: NDArray[np.bool_]
    counts: Counter[str]
    """To be told with the first window that takes of it."""
    excluded: frozenset[str]
    """Columns that were cut out of it."""

    def rows(self, chosen: NDArray[np.intp] | None) -> tuple[dict[str, NDArray[np.generic]], list[str]]:
        """The chosen rows (None: all) and a key for each: the event id, with the row's place where it has more."""
        requests = self.table.requests if chosen is None else self.table.requests[chosen]
        columns = self.table.columns
        if chosen is not None:
            columns = {name: column[chosen] for name, column in columns.items()}
        ids = self.batch.event_ids
        if len(self.table.requests) == len(ids):
            return columns, [ids[request] for request in requests.tolist()]
        places = self._places() if chosen is None else self._places()[chosen]
        return columns, [f"{ids[r]}/{p}" for r, p in zip(requests.tolist(), places.tolist())]

    def kept(self, chosen: NDArray[np.intp] | None) -> Kept:
        """The chosen rows with the ids that ground truth will name."""
        columns, _ = self.rows(chosen)
        requests = self.table.requests if chosen is None else self.table.requests[chosen]
        places = self._places() if chosen is None else self._places()[chosen]
        batch = self.batch
        ids = [batch.inference_ids[r] or batch.event_ids[r] for r in requests.tolist()]
        return Kept(ids, places.tolist(), columns)

    def _places(self) -> NDArray[np.intp]:
        """Of each row, its place within its request."""
        requests = self.table.requests
        first = np.searchsorted(requests, requests, side="left")
        return np.arange(len(requests)) - first


def check_batch(batch: CaptureBatch) -> None:
    """Refuse a batch whose endpoint, variant or version cannot be one of ours: they name rows of tables.

    Raises:
        InvalidArgument: which of them it is.
    """
    for what in ("endpoint", "variant", "version"):
        if NAME.fullmatch(getattr(batch, what)) is None:
            raise InvalidArgument(f"captures: the {what} is not a name")


def _nothing(key: CourseKey, endpoint: str, span: Due, told: Mapping[str, int]) -> WindowState:
    counts = dict(told) | ({"windows": span.windows} if span.windows > 1 else {})
    name = WindowKey(*key, "", span.start)
    return WindowState(name, endpoint, span.end, sealed=True, counts=counts, reason=NO_REQUESTS)


def _course_name(key: CourseKey) -> str:
    return "/".join(key)


def _course_key(name: str) -> CourseKey:
    monitor, variant, version = name.split("/")
    return monitor, variant, version
