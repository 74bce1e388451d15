"""Numbers of producers: what is new, what comes again, what never came."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.monitor.traffic.numbers import MAX_RUNS, Numbers


def see(numbers: Numbers, *values: int) -> list[bool]:
    """Which of the values were new."""
    return numbers.see(np.array(values, np.uint64))[0].tolist()


@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=30))
def test_every_number_is_new_exactly_once(batches: list[list[int]]) -> None:
    """In whatever order and grouping they come; the runs say what was seen."""
    numbers, seen = Numbers(), set()
    for batch in batches:
        for value, new in zip(batch, see(numbers, *batch)):
            assert new == (value not in seen)
            seen.add(value)
    held = {value for start, end in zip(numbers.starts, numbers.ends) for value in range(start, end)}
    assert held == seen
    assert all(end < start for end, start in zip(numbers.ends, numbers.starts[1:]))


def test_a_message_that_comes_again_is_known() -> None:
    """As a whole or in part."""
    numbers = Numbers()
    assert see(numbers, *range(10)) == [True] * 10
    assert see(numbers, *range(5, 15)) == [False] * 5 + [True] * 5
    assert see(numbers, *range(15)) == [False] * 15


def test_a_hole_is_a_loss_once_the_stream_was_read_twice_to_its_end() -> None:
    """What fills it before is no loss, what comes after is a duplicate."""
    numbers = Numbers()
    see(numbers, *range(1_000, 1_010))
    see(numbers, *range(1_020, 1_030))
    assert numbers.settle() == 0
    see(numbers, *range(1_010, 1_015))
    see(numbers, *range(1_040, 1_050))
    assert numbers.settle() == 5
    assert see(numbers, 1_017) == [False]
    assert numbers.settle() == 10
    assert numbers.settle() == 0


def test_what_was_before_the_first_message_is_no_loss() -> None:
    """A monitor that begins late has not lost what was before it."""
    numbers = Numbers()
    see(numbers, 10**18)
    assert (numbers.settle(), numbers.settle()) == (0, 0)


def test_memory_is_bounded_whatever_numbers_come() -> None:
    """The lowest holes are given up, and counted."""
    numbers = Numbers()
    fresh, lost = numbers.see(np.arange(0, 20_000, 2, dtype=np.uint64))
    assert fresh.all()
    assert len(numbers.starts) == MAX_RUNS
    assert lost == 10_000 - MAX_RUNS


def test_the_largest_number_is_a_number() -> None:
    """64 bits without a sign."""
    numbers = Numbers()
    assert see(numbers, 2**64 - 1, 0, 2**64 - 1) == [True, True, False]
