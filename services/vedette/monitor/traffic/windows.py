"""Event time cut into windows: which one an event falls into, when it is due, and what silence looks like. Pure.

Rule: everything here is a function of event times alone, in the order of the stream. No clock is read, so that
folding the same messages again after a crash finds the same windows due at the same messages; only `tame` and
`Tide.idle` are told the time, for clocks that are wrong and for silence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vedette.core.errors import InvalidArgument

MIN_WINDOW_S = 5.0
MAX_WINDOW_S = 31 * 86_400.0
MAX_LATENESS_S = 7 * 86_400.0
HOUR_S = 3_600.0
DAY_S = 86_400.0
MAX_OPEN = 100
"""Windows of one series that may be open at once: each is a profile in memory."""

_CRON = re.compile(r"cron\(0 (?:(?P<every>\*)|(?P<hour>\d{1,2})(?:/(?P<step>\d{1,2}))?) \? \* \* \*\)")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The hours of the day (UTC) at which windows are evaluated."""

    hours: tuple[int, ...]

    @property
    def longest_gap_s(self) -> float:
        """The longest time between two of them."""
        following = [*self.hours[1:], self.hours[0] + 24]
        return HOUR_S * max(later - hour for hour, later in zip(self.hours, following))

    def last(self, time: float) -> float:
        """The last full scheduled hour at or before `time`, in seconds since the epoch."""
        day = time // DAY_S * DAY_S
        today = [hour for hour in self.hours if day + hour * HOUR_S <= time]
        return day + today[-1] * HOUR_S if today else day - DAY_S + self.hours[-1] * HOUR_S


def read_schedule(text: str) -> Schedule | None:
    """`continuous` (None), or SageMaker's cron expressions: every hour, daily, every N hours from an hour on.

    `cron(0 17/12 ? * * *)` is every 12 hours from 17:00 on, so 17:00 and 05:00 (SageMaker's own example).

    Raises:
        InvalidArgument: neither; minutes, days and months cannot be chosen.
    """
    if text == "continuous":
        return None
    match = _CRON.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidArgument(
            f"schedule {str(text)[:80]!r} is neither 'continuous' nor like 'cron(0 * ? * * *)', "
            "'cron(0 17 ? * * *)' or 'cron(0 0/6 ? * * *)'"
        )
    if match["every"]:
        return Schedule(tuple(range(24)))
    hour, step = int(match["hour"]), int(match["step"] or 24)
    if hour > 23 or not 1 <= step <= 24:
        raise InvalidArgument(f"schedule {text!r}: hours are 0 to 23, steps 1 to 24")
    return Schedule(tuple(sorted({later % 24 for later in range(hour, hour + 24, step)})))


@dataclass(frozen=True, slots=True)
class Pace:
    """How one monitor cuts time. A window [start, start + window_s) is aligned to the epoch."""

    window_s: float
    lateness_s: float
    schedule: Schedule | None = None

    def starts(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """The start of the window of each event. Floor division is exact, unlike dividing and rounding."""
        found: NDArray[np.float64] = times // self.window_s * self.window_s
        return found

    def first_open(self, tide: float) -> float:
        """Start of the oldest window that is not due when event time has come to `tide`.

        A window is due once its end and the lateness have passed, and with a schedule at the first scheduled
        hour after that. Every window that starts earlier is due; -inf before the first event.
        """
        if not math.isfinite(tide):
            return -math.inf
        reached = tide if self.schedule is None else self.schedule.last(tide)
        return (reached - self.lateness_s) // self.window_s * self.window_s


def check_pace(window_s: float, lateness_s: float, schedule: str) -> Pace:
    """The pace that a monitor's settings describe.

    Raises:
        InvalidArgument: naming what is out of range.
    """
    if not (_is_number(window_s) and MIN_WINDOW_S <= window_s <= MAX_WINDOW_S and window_s == int(window_s)):
        raise InvalidArgument("window_s must be a whole number of seconds from 5 to 2678400 (31 days)")
    if not (_is_number(lateness_s) and 0 <= lateness_s <= MAX_LATENESS_S):
        raise InvalidArgument("lateness_s must be from 0 to 604800 seconds (7 days)")
    pace = Pace(float(window_s), float(lateness_s), read_schedule(schedule))
    waiting = lateness_s + (pace.schedule.longest_gap_s if pace.schedule else 0)
    if waiting > MAX_OPEN * window_s:
        raise InvalidArgument(
            f"windows of {window_s:g} s would wait {waiting:g} s for lateness and schedule: at most {MAX_OPEN} windows "
            "may be open at once, so make them longer"
        )
    return pace


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(slots=True)
class Tide:
    """How far event time has come at one endpoint: the latest event seen, moved on by silence."""

    time: float = -math.inf

    def rise(self, times: NDArray[np.float64]) -> None:
        """Events were seen."""
        if times.size:
            self.time = max(self.time, float(times.max()))

    def idle(self, now: float, idle_s: float) -> None:
        """Nothing has arrived for `idle_s` although the stream was read to its end: event time is `now` less that."""
        if math.isfinite(self.time):
            self.time = max(self.time, now - idle_s)


def tame(times: NDArray[np.float64], now: float, *, max_skew_s: float) -> tuple[NDArray[np.float64], int]:
    """Event times with those that cannot be (no number, too far ahead of `now`) set to `now`, and how many were.

    A producer whose clock runs ahead would otherwise close the windows of all others.
    """
    wrong = ~(times <= now + max_skew_s) | (times < 0)
    count = int(np.count_nonzero(wrong))
    return (np.where(wrong, now, times) if count else times), count


@dataclass(frozen=True, slots=True)
class Due:
    """A span of event time that is due: one window with rows, one empty window, or a long silence as one."""

    start: float
    end: float
    kind: Literal["rows", "empty", "silence"]
    windows: int = 1


@dataclass(slots=True)
class Series:
    """The windows of one monitor, variant and version in order; every one of them becomes due exactly once.

    Of windows without traffic the first `max_empty` in a row stand for themselves; the rest of a silence becomes
    one span when traffic returns, so that a month without requests is not a million results.
    """

    next_start: float | None = None
    """Start of the oldest window that has not become due; None before the first."""
    quiet: int = 0
    """Empty windows that have become due since the last one with rows."""

    def advance(self, starts: Iterable[float], first_open: float, *, window_s: float, max_empty: int) -> list[Due]:
        """What becomes due, in order, when every window before `first_open` is; `starts` are those with rows."""
        found: list[Due] = []
        for start in sorted(start for start in starts if start < first_open):
            found += self._empty_until(start, window_s, max_empty)
            if self.next_start is not None and self.next_start < start:
                count = round((start - self.next_start) / window_s)
                found.append(Due(self.next_start, start, "silence", count))
            found.append(Due(start, start + window_s, "rows"))
            self.next_start, self.quiet = start + window_s, 0
        if self.next_start is not None:
            found += self._empty_until(first_open, window_s, max_empty)
        return found

    def _empty_until(self, end: float, window_s: float, max_empty: int) -> list[Due]:
        found: list[Due] = []
        while self.next_start is not None and self.next_start < end and self.quiet < max_empty:
            found.append(Due(self.next_start, self.next_start + window_s, "empty"))
            self.next_start += window_s
            self.quiet += 1
        return found
