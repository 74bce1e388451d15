"""The bell that wakes watchers: no ring is slept over, and the end wakes everybody."""

from __future__ import annotations

import threading

import pytest

from vedette.core.errors import Unavailable
from vedette.storage.bell import ChangeBell


def test_a_ring_between_looking_and_sleeping_is_not_slept_over() -> None:
    """The change comes just after the first look; without counting rings this would sleep for a minute."""
    bell = ChangeBell()
    looks = iter([0, 1])

    def newest() -> int:
        revision = next(looks)
        if revision == 0:
            bell.ring()  # a writer commits right after we looked
        return revision

    assert bell.wait_for(newest, 0, timeout_s=60.0, poll_s=60.0) == 1


def test_polling_finds_what_nobody_rang_for() -> None:
    """A change of another process."""
    looks = iter([0, 0, 0, 5])
    assert ChangeBell().wait_for(lambda: next(looks), 0, timeout_s=60.0, poll_s=0.001) == 5


def test_the_time_is_over_after_a_last_look() -> None:
    """Even with no time at all there is one look."""
    looks = iter([3])
    assert ChangeBell().wait_for(lambda: next(looks), 3, timeout_s=0.0, poll_s=1.0) == 3


def test_closing_wakes_a_sleeper() -> None:
    """And whoever comes later does not sleep at all."""
    bell = ChangeBell()
    looked = threading.Event()

    def newest() -> int:
        looked.set()
        return 0

    sleeper = threading.Thread(target=bell.wait_for, args=(newest, 0), kwargs={"timeout_s": 60.0, "poll_s": 60.0})
    sleeper.start()
    assert looked.wait(30)
    bell.close()
    sleeper.join(30)
    assert not sleeper.is_alive()
    assert bell.wait_for(newest, 0, timeout_s=60.0, poll_s=60.0) == 0


def test_a_store_that_goes_away_first_at_the_end_is_no_error() -> None:
    """But one that goes away while the bell is open is."""
    bell = ChangeBell()

    def gone() -> int:
        raise Unavailable("down")

    def gone_with_the_bell() -> int:
        bell.close()
        raise Unavailable("down")

    with pytest.raises(Unavailable):
        bell.wait_for(gone, 4, timeout_s=1.0, poll_s=1.0)
    assert bell.wait_for(gone_with_the_bell, 4, timeout_s=1.0, poll_s=1.0) == 4
