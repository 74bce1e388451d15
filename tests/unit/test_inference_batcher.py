"""The state machine of batching on a clock of numbers: order, company, delays, timeouts, and what is left behind."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.errors import Overloaded
from vedette.core.models import DynamicBatching, QueuePolicy
from vedette.inference.batcher import Batcher, Phase, Ticket


def machine(max_rows: int = 8, **options: Any) -> Batcher:
    """A machine with these options of Triton's."""
    return Batcher(DynamicBatching(**options), max_rows=max_rows)


def offered(batcher: Batcher, now: float, *rows: int, **fields: Any) -> list[Ticket]:
    """Tickets of so many rows each, offered in this order."""
    tickets = [Ticket(count, **fields) for count in rows]
    for ticket in tickets:
        batcher.offer(ticket, now)
    return tickets


def test_an_idle_machine_keeps_nobody_waiting() -> None:
    """Without a delay a single ticket is due at once."""
    batcher = machine()
    assert batcher.due(5.0) is None
    (ticket,) = offered(batcher, 5.0, 1)
    assert batcher.due(5.0) == 5.0
    assert batcher.take(5.0) == [ticket]
    assert batcher.due(5.0) is None


def test_what_queued_meanwhile_is_taken_together_up_to_the_rows_allowed() -> None:
    """Size counts rows, not requests."""
    batcher = machine(8)
    tickets = offered(batcher, 0.0, 3, 3, 3, 1)
    assert batcher.take(1.0) == tickets[:2]
    assert batcher.take(1.0) == tickets[2:]
    assert batcher.waiting == batcher.rows == 0


def test_a_request_larger_than_a_batch_runs_alone() -> None:
    """It is not refused, and nobody joins it."""
    batcher = machine(8)
    small, large, other = offered(batcher, 0.0, 1, 50, 1)
    assert batcher.take(0.0) == [small]
    assert batcher.take(0.0) == [large]
    assert batcher.take(0.0) == [other]


def test_only_equal_keys_share_a_batch_and_the_others_keep_their_place() -> None:
    """The first decides; what does not fit it is next."""
    batcher = machine(8)
    a1, b1, a2, b2 = (offered(batcher, 0.0, 1, key=key)[0] for key in "abab")
    assert batcher.take(0.0) == [a1, a2]
    assert batcher.take(0.0) == [b1, b2]


def test_priority_one_is_first_and_without_one_last() -> None:
    """Without levels any number orders, as the request says."""
    batcher = machine(1)
    last, second, first = (offered(batcher, 0.0, 1, priority=priority)[0] for priority in (0, 7, 1))
    assert [batcher.take(0.0) for _ in range(3)] == [[first], [second], [last]]


def test_with_levels_an_unknown_priority_is_the_default_one() -> None:
    """Triton's rule: 0 and what is beyond the last level become the default level."""
    batcher = machine(1, priority_levels=3, default_priority_level=2)
    beyond, third, none, first = (offered(batcher, 0.0, 1, priority=priority)[0] for priority in (9, 3, 0, 1))
    assert [batcher.take(0.0) for _ in range(4)] == [[first], [beyond], [none], [third]]


def test_a_batch_is_filled_from_lower_priorities() -> None:
    """Who rides along costs the first nothing."""
    batcher = machine(4)
    low = offered(batcher, 0.0, 1, 1, priority=5)
    high = offered(batcher, 0.0, 1, priority=1)
    assert batcher.take(0.0) == [*high, *low]


def test_a_delay_waits_for_company_and_no_longer() -> None:
    """Due when the oldest has waited that long; earlier when the batch is full."""
    batcher = machine(4, max_queue_delay_microseconds=1000)
    tickets = offered(batcher, 10.0, 1, 1)
    assert batcher.due(10.0) == pytest.approx(10.001)
    assert batcher.take(10.0005) == []
    assert batcher.take(10.001) == tickets
    more = offered(batcher, 11.0, 2, 2)
    assert batcher.take(11.0) == more


def test_a_preferred_size_runs_before_the_delay_is_over() -> None:
    """The largest preferred size that is reached is taken, and the rest goes on waiting."""
    batcher = machine(8, max_queue_delay_microseconds=1000, preferred_batch_size=(2, 4))
    tickets = offered(batcher, 0.0, 1)
    assert batcher.take(0.0) == []
    tickets += offered(batcher, 0.0001, 1, 1, 1, 1)
    assert batcher.take(0.0001) == tickets[:4]
    assert batcher.take(0.0002) == []
    assert batcher.take(0.0011) == tickets[4:]


def test_a_queue_timeout_rejects_whoever_waited_too_long() -> None:
    """The default policy's action; a taken ticket has no queue timeout any more."""
    policy = QueuePolicy(default_timeout_microseconds=1000)
    batcher = machine(1, default_queue_policy=policy)
    taken, waits = offered(batcher, 0.0, 1, 1)
    assert batcher.take(0.0) == [taken]
    assert batcher.expire(0.0009) == []
    assert batcher.next_expiry() == pytest.approx(0.001)
    ((ticket, error),) = batcher.expire(0.001)
    assert ticket is waits
    assert "queue timeout" in error.message
    assert taken.phase is Phase.TAKEN
    assert batcher.take(0.002) == []


def test_a_queue_timeout_can_delay_instead() -> None:
    """A delayed ticket is served when nobody of its priority waits who is in time, and only then."""
    policy = QueuePolicy(timeout_action="DELAY", default_timeout_microseconds=1000)
    batcher = machine(1, default_queue_policy=policy)
    (late,) = offered(batcher, 0.0, 1, expires=5.0)
    assert batcher.expire(0.001) == []
    (fresh,) = offered(batcher, 0.0011, 1)
    assert batcher.take(0.0012) == [fresh]
    assert batcher.take(0.0012) == [late]
    assert [ticket for ticket, _ in batcher.expire(5.0)] == [late]


def test_a_caller_may_shorten_its_queue_timeout_where_the_policy_lets_it() -> None:
    """Never lengthen it; and without leave its own is not looked at."""
    free = machine(1, default_queue_policy=QueuePolicy("REJECT", 2000, True))
    shorter, longer = (offered(free, 0.0, 1, timeout_s=seconds)[0] for seconds in (0.001, 0.009))
    assert [ticket for ticket, _ in free.expire(0.001)] == [shorter]
    assert [ticket for ticket, _ in free.expire(0.002)] == [longer]
    strict = machine(1, default_queue_policy=QueuePolicy("REJECT", 2000, False))
    offered(strict, 0.0, 1, timeout_s=0.001)
    assert strict.expire(0.001) == []


def test_a_policy_of_a_level_replaces_the_default_one() -> None:
    """Each priority has its own limits."""
    batcher = machine(
        1,
        priority_levels=2,
        default_priority_level=2,
        default_queue_policy=QueuePolicy(max_queue_size=1),
        priority_queue_policy={1: QueuePolicy(max_queue_size=2)},
    )
    offered(batcher, 0.0, 1, 1, priority=1)
    offered(batcher, 0.0, 1, priority=2)
    for priority in (1, 2):
        with pytest.raises(Overloaded):
            batcher.offer(Ticket(1, priority=priority), 0.0)
    assert batcher.waiting == 3
    batcher.take(0.0)
    batcher.offer(Ticket(1, priority=1), 0.0)


@pytest.mark.parametrize("phase", ["waiting", "taken", "ended"])
def test_cancelling_at_any_phase_touches_nobody_else(phase: str) -> None:
    """Whoever goes, the others are taken as if it had never been there."""
    batcher = machine(8)
    gone, stays = offered(batcher, 0.0, 1, 2, expires=9.0)
    if phase != "waiting":
        assert batcher.take(0.0) == [gone, stays]
    if phase == "ended":
        batcher.end(gone)
    batcher.cancel(gone)
    batcher.cancel(gone)
    if phase == "waiting":
        assert (batcher.waiting, batcher.rows) == (1, 2)
        assert batcher.take(0.0) == [stays]
    assert stays.phase is Phase.TAKEN
    assert [ticket for ticket, _ in batcher.expire(9.0)] == [stays]


def test_expired_work_is_left_out_of_a_batch_though_nobody_called_expire() -> None:
    """A late event loop does not make the model work for nobody."""
    batcher = machine(8)
    offered(batcher, 0.0, 1, expires=1.0)
    (stays,) = offered(batcher, 0.0, 1, expires=3.0)
    assert batcher.take(2.0) == [stays]


def test_a_thousand_kinds_do_not_make_a_take_long() -> None:
    """A batch looks past a bounded number of strangers."""
    batcher = machine(8)
    first = offered(batcher, 0.0, 1, key="mine")
    for number in range(1000):
        batcher.offer(Ticket(1, key=number), 0.0)
    offered(batcher, 0.0, 1, key="mine")
    assert batcher.take(0.0) == first


def test_nothing_is_left_behind_by_those_who_gave_up() -> None:
    """While one ticket waits, a million may come and go."""
    batcher = machine(1)
    offered(batcher, 0.0, 1, expires=1e9)
    for number in range(5000):
        ticket = Ticket(1, priority=number % 7 + 1, expires=1e9)
        batcher.offer(ticket, 0.0)
        batcher.cancel(ticket)
    assert sum(map(len, batcher._lines.values())) < 200
    assert len(batcher._times) < 200
    assert batcher.waiting == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("offer"),
            st.integers(1, 6),
            st.sampled_from("ab"),
            st.integers(0, 4),
            st.sampled_from([0.5, 2.0, 9.0, math.inf]),
        ),
        st.tuples(st.just("pass"), st.sampled_from([0.0001, 0.5, 1.0, 3.0])),
        st.tuples(st.just("take"), st.sampled_from([0, 1, 3])),
        st.tuples(st.just("cancel"), st.integers(0, 40)),
        st.tuples(st.just("end"), st.integers(0, 40)),
    ),
    max_size=60,
)
POLICIES = st.builds(
    QueuePolicy,
    timeout_action=st.sampled_from(["REJECT", "DELAY"]),
    default_timeout_microseconds=st.sampled_from([0, 700_000]),
    max_queue_size=st.sampled_from([0, 3]),
)
OPTIONS = st.builds(
    DynamicBatching,
    max_queue_delay_microseconds=st.sampled_from([0, 400_000]),
    preferred_batch_size=st.sampled_from([(), (2, 4)]),
    priority_levels=st.sampled_from([0, 2]),
    default_priority_level=st.just(2),
    default_queue_policy=POLICIES,
    priority_queue_policy=st.dictionaries(st.just(1), POLICIES),
)


@settings(max_examples=300, deadline=None)
@given(OPTIONS, STEPS, st.integers(1, 8))
def test_whatever_happens_nobody_is_lost_doubled_or_mixed(
    options: DynamicBatching, steps: list[Any], max_rows: int
) -> None:
    """Every ticket ends in exactly one way, batches keep the rules, and the counts are right at every step."""
    batcher, now = Batcher(options, max_rows=max_rows), 0.0
    tickets: list[Ticket] = []
    fate: dict[int, str] = {}
    for step in steps:
        match step:
            case ("offer", rows, key, priority, patience):
                ticket = Ticket(rows, key, now + patience, priority)
                try:
                    batcher.offer(ticket, now)
                except Overloaded:
                    assert options.default_queue_policy.max_queue_size or options.priority_queue_policy
                    continue
                tickets.append(ticket)
            case ("pass", seconds):
                now += seconds
            case ("take", limit):
                for ticket, _ in batcher.expire(now):
                    assert id(ticket) not in fate or fate[id(ticket)] == "taken"
                    fate[id(ticket)] = "expired"
                waiting = [ticket for ticket in tickets if ticket.phase is Phase.WAITING]
                due = batcher.due(now)
                batch = batcher.take(now, limit)
                _check_batch(batch, waiting, min(limit or max_rows, max_rows))
                assert bool(batch) == (due is not None and due <= now)
                for ticket in batch:
                    assert id(ticket) not in fate
                    fate[id(ticket)] = "taken"
            case ("cancel" | "end" as what, number) if number < len(tickets):
                ticket = tickets[number]
                (batcher.cancel if what == "cancel" else batcher.end)(ticket)
                if what == "cancel":
                    assert ticket.phase is Phase.ENDED
                    fate.setdefault(id(ticket), "cancelled")
        waiting = [ticket for ticket in tickets if ticket.phase is Phase.WAITING]
        assert batcher.waiting == len(waiting)
        assert batcher.rows == sum(ticket.rows for ticket in waiting)
    while batcher.waiting:
        now += 1.0
        batcher.expire(now)
        for ticket in batcher.take(now):
            batcher.end(ticket)


def _check_batch(batch: list[Ticket], waiting: list[Ticket], max_rows: int) -> None:
    if not batch:
        return
    assert len({ticket.key for ticket in batch}) == 1
    assert len(batch) == 1 or sum(ticket.rows for ticket in batch) <= max_rows
    assert len(set(map(id, batch))) == len(batch)
    assert all(ticket in waiting for ticket in batch)
    places = [ticket.place for ticket in batch]
    assert places == sorted(places)
    assert batch[0].place == min(ticket.place for ticket in waiting)
