"""Windows of event time: every event in exactly one, every window due exactly once, in any order of arrival."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import InvalidArgument
from vedette.monitor.traffic.windows import DAY_S, Due, Pace, Schedule, Series, Tide, check_pace, read_schedule, tame

TIMES = st.floats(0, 4e9, allow_nan=False)
WIDTHS = st.integers(5, 31 * 86_400)
SCHEDULES = ["continuous", "cron(0 * ? * * *)", "cron(0 17 ? * * *)", "cron(0 17/12 ? * * *)", "cron(0 1/5 ? * * *)"]


@given(time=TIMES, width=WIDTHS)
def test_every_event_lies_in_its_window(time: float, width: int) -> None:
    """The window begins at or before it, ends after it, and begins at a multiple of its length."""
    start = float(Pace(width, 0).starts(np.array([time]))[0])
    assert start <= time < start + width
    assert start % width == 0


@given(number=st.integers(1, 10**8), width=WIDTHS)
def test_an_event_just_before_a_window_is_not_in_it(number: int, width: int) -> None:
    """Also by the smallest step that a float can be away, where dividing would round up."""
    edge = float(number * width)
    before = math.nextafter(edge, 0)
    assert Pace(width, 0).starts(np.array([before, edge])).tolist() == [edge - width, edge]


@given(tide=TIMES, width=WIDTHS, lateness=st.floats(0, 600), schedule=st.sampled_from(SCHEDULES))
def test_a_window_is_due_only_after_its_end_and_lateness(
    tide: float, width: int, lateness: float, schedule: str
) -> None:
    """And the next one is not; with a schedule, not before a scheduled hour."""
    pace = Pace(width, lateness, read_schedule(schedule))
    first_open = pace.first_open(tide)
    assert first_open + lateness <= tide * (1 + 1e-15)
    if pace.schedule is None:
        assert first_open + width + lateness > tide
    assert pace.first_open(tide + width) >= first_open


def test_nothing_is_due_before_the_first_event() -> None:
    """Without event time there is no window."""
    assert Pace(5, 0, read_schedule("cron(0 * ? * * *)")).first_open(-math.inf) == -math.inf


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("cron(0 * ? * * *)", tuple(range(24))),
        ("cron(0 17 ? * * *)", (17,)),
        ("cron(0 00 ? * * *)", (0,)),
        ("cron(0 0/6 ? * * *)", (0, 6, 12, 18)),
        ("cron(0 17/12 ? * * *)", (5, 17)),
        ("cron(0 3/24 ? * * *)", (3,)),
    ],
)
def test_sagemakers_schedules_are_read(text: str, hours: tuple[int, ...]) -> None:
    """Hourly, daily, every N hours."""
    assert read_schedule(text) == Schedule(hours)


@pytest.mark.parametrize(
    "text",
    ["", "hourly", "cron(5 * ? * * *)", "cron(0 24 ? * * *)", "cron(0 1/25 ? * * *)", "cron(0 1/0 ? * * *)",
     "cron(0 * * * * *)", "cron(0 * ? * * *) ", "cron(0 1-3 ? * * *)", "CONTINUOUS", "cron(0 ١ ? * * *)x"],
)  # fmt: skip
def test_other_schedules_are_refused(text: str) -> None:
    """With a message that shows what would do."""
    with pytest.raises(InvalidArgument, match="schedule"):
        read_schedule(text)


def test_a_schedule_remembers_yesterday() -> None:
    """Before the day's first scheduled hour, the last one was yesterday's."""
    schedule = Schedule((5, 17))
    day = 100 * DAY_S
    assert schedule.last(day + 4.9 * 3600) == day - DAY_S + 17 * 3600
    assert schedule.last(day + 5 * 3600) == day + 5 * 3600
    assert schedule.last(day + 23 * 3600) == day + 17 * 3600


@pytest.mark.parametrize("width", [4, 4.999, 5.5, 0, -5, math.nan, math.inf, 31 * 86_400 + 1, True, "60"])
def test_windows_of_impossible_length_are_refused(width: float) -> None:
    """Whole seconds from five seconds to 31 days."""
    with pytest.raises(InvalidArgument, match="window_s"):
        check_pace(width, 0, "continuous")


@pytest.mark.parametrize("lateness", [-1, math.nan, 8 * 86_400.0, "1"])
def test_impossible_lateness_is_refused(lateness: float) -> None:
    """From nothing to a week."""
    with pytest.raises(InvalidArgument, match="lateness_s"):
        check_pace(60, lateness, "continuous")


@pytest.mark.parametrize(
    ("width", "lateness", "schedule"),
    [(5, 501, "continuous"), (5, 0, "cron(0 * ? * * *)"), (300, 0, "cron(0 17 ? * * *)")],
)
def test_too_many_windows_would_be_open(width: float, lateness: float, schedule: str) -> None:
    """Each is a profile in memory until it is due."""
    with pytest.raises(InvalidArgument, match="longer"):
        check_pace(width, lateness, schedule)


def test_silence_moves_event_time_on_but_never_back() -> None:
    """And an endpoint that never had an event has no event time."""
    tide = Tide()
    tide.idle(1_000.0, 5)
    assert tide.time == -math.inf
    tide.rise(np.array([100.0, 90.0]))
    tide.rise(np.array([]))
    tide.idle(104.0, 5)
    assert tide.time == 100.0
    tide.idle(200.0, 5)
    assert tide.time == 195.0


def test_impossible_times_become_now_and_are_counted() -> None:
    """A clock that runs ahead, no number, before the epoch; a clock behind is lateness, not skew."""
    times = np.array([100.0, 160.0, 160.1, math.nan, math.inf, -math.inf, -1.0, 5.0])
    tamed, count = tame(times, 100.0, max_skew_s=60)
    assert tamed.tolist() == [100.0, 160.0, 100.0, 100.0, 100.0, 100.0, 100.0, 5.0]
    assert count == 5


@given(
    numbers=st.lists(st.integers(0, 200), max_size=40),
    tides=st.lists(st.integers(0, 3_000), max_size=40),
    width=st.sampled_from([5, 10]),
    max_empty=st.integers(0, 3),
)
def test_every_window_becomes_due_exactly_once_and_in_order(
    numbers: list[int], tides: list[int], width: int, max_empty: int
) -> None:
    """From the first with rows on the spans touch each other, whatever the tide does in between."""
    series, held, found = Series(), {float(n * width) for n in numbers}, []
    with_rows = sorted(held)
    for tide in [*sorted(tides), 10_000]:
        first_open = Pace(width, 0).first_open(tide)
        due = series.advance(held, first_open, window_s=width, max_empty=max_empty)
        held = {start for start in held if start >= first_open}
        found += due
    assert [span.start for span in found if span.kind == "rows"] == with_rows
    for earlier, later in pairwise(found):
        assert earlier.end == later.start
    assert all(span.end - span.start == span.windows * width for span in found)
    if with_rows:
        assert found[0].start == with_rows[0]
        tail = [span for span in found if span.start > with_rows[-1]]
        assert [span.kind for span in tail] == ["empty"] * max_empty
    else:
        assert found == []


def test_a_month_of_silence_is_a_handful_of_results() -> None:
    """Three empty windows stand for themselves, the rest is one span, told when traffic returns."""
    series = Series()
    month = 30 * 86_400.0
    spans = series.advance([0.0], 5.0, window_s=5, max_empty=3)
    spans += series.advance([], month, window_s=5, max_empty=3)
    spans += series.advance([month], month + 5, window_s=5, max_empty=3)
    assert spans == [
        Due(0, 5, "rows"),
        *(Due(start, start + 5, "empty") for start in (5.0, 10.0, 15.0)),
        Due(20, month, "silence", round((month - 20) / 5)),
        Due(month, month + 5, "rows"),
    ]
