"""What callers see of batching: exactly what they would see without it, in made-up time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.execution_stage import BAD, Stage, TenTimes, Turns, moment, play, values

from vedette.core.errors import DeadlineExceeded, ModelFailed, Overloaded
from vedette.core.models import DynamicBatching, QueuePolicy
from vedette.core.tensors import Tensor
from vedette.inference.execution import Work
from vedette.inference.run_time import RunTime

GATHERS = RunTime(0.0001, 1e-6)
"""Quick enough for the event loop, and its fixed cost is worth sharing."""


def staged(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Play an async test in made-up time."""

    def run() -> None:
        play(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@staged
async def test_what_queues_while_a_thread_is_busy_runs_together() -> None:
    """One run for all that came meanwhile, and each gets its own rows."""
    stage = Stage()
    first = stage.send(1)
    await moment(0.1)
    others = [stage.send(2, 3), stage.send(4), stage.send(5, 6, 7)]
    answers = [values(await task) for task in (first, *others)]
    assert answers == [[10], [20, 30], [40], [50, 60, 70]]
    assert stage.batches == [[1], [2, 3, 4, 5, 6, 7]]


@staged
async def test_an_idle_model_runs_at_once() -> None:
    """Zero added delay: the only request does not wait for another."""
    stage = Stage(thread_s=0.5)
    began = stage.loop.time()
    done = await stage.send(1)
    assert stage.loop.time() == pytest.approx(began + 0.5)
    assert done.queue_s == 0.0


@staged
async def test_all_threads_are_used_before_anything_queues() -> None:
    """Merging is for what has to wait."""
    stage = Stage(threads=2)
    tasks = [stage.send(1), stage.send(2), stage.send(3), stage.send(4)]
    await asyncio.gather(*tasks)
    assert stage.batches == [[1], [2], [3, 4]]


@staged
async def test_a_run_of_many_threads_takes_as_many_of_ours() -> None:
    """Processors are never promised twice: wide runs go one after another."""
    stage = Stage(threads=2, width=2, unbatched="no")
    await asyncio.gather(stage.send(1), stage.send(2), stage.send(3))
    assert stage.workers is not None
    assert stage.workers.most == 1


@staged
async def test_a_wide_run_waits_until_all_its_threads_are_free() -> None:
    """One thread of two is not enough for it, and who comes later does not overtake it."""
    narrow = Stage(threads=2, thread_s=1.0)
    wide = Stage(workers=narrow.workers, width=2)
    first = narrow.send(1)
    await moment(0.1)
    broad, later = wide.send(2), narrow.send(3)
    await moment(0.1)
    assert (narrow.batches, wide.batches) == ([[1]], [])
    await first
    await moment()
    assert (narrow.batches, wide.batches) == ([[1]], [[2]])
    await asyncio.gather(broad, later)


@staged
async def test_short_requests_of_one_turn_share_an_inline_run() -> None:
    """Where company is likely, requests decoded together are merged without leaving the event loop."""
    stage = Stage(run_time=GATHERS)
    await stage.meet()
    answers = await asyncio.gather(*(stage.send(n) for n in range(10)))
    assert [values(answer) for answer in answers] == [[10 * n] for n in range(10)]
    assert stage.batches == [list(range(10))]
    assert stage.workers is not None
    assert stage.workers.most == 0


@staged
async def test_a_caller_alone_waits_for_no_turn() -> None:
    """One connection pays nothing for batching, but for one request in sixty-one that looks around."""
    stage = Stage(run_time=GATHERS)
    waited = 0
    for n in range(4 * 61):
        task = stage.send(n)
        await asyncio.sleep(0)
        waited += not task.done()
        await task
    assert waited == 4


@staged
async def test_a_model_of_microseconds_never_gathers() -> None:
    """Its fixed cost is below what gathering costs."""
    stage = Stage(run_time=RunTime(6e-6, 1e-7))
    await asyncio.gather(*(stage.send(n) for n in range(64)))
    assert [len(batch) for batch in stage.batches] == [1] * 64


@staged
async def test_a_batch_too_long_for_the_event_loop_goes_to_a_thread_and_grows_meanwhile() -> None:
    """The loop stays free; what comes while the batch runs is the next batch."""
    stage = Stage(
        run_time=RunTime(0.0002, 0.0002),
        thread_s=0.01,
        settings=DynamicBatching(max_batch_size=64),
        takes_time=True,
    )
    await stage.meet()
    early = [stage.send(n) for n in range(8)]
    await moment(0.001)
    assert stage.workers is not None
    assert stage.workers.running == 1
    late = [stage.send(n) for n in range(8, 14)]
    await asyncio.gather(*early, *late)
    assert [len(batch) for batch in stage.batches] == [8, 6]


@staged
async def test_short_requests_do_not_wait_behind_long_ones() -> None:
    """While somebody's long run holds the only thread, short requests run on the event loop in short pieces."""
    stage = Stage(run_time=RunTime(0.0002, 0.0002), thread_s=50.0, takes_time=True)
    await stage.meet()
    long = stage.send(*range(50))
    await moment(0.001)
    began = stage.loop.time()
    await asyncio.gather(*(stage.send(n) for n in range(4)))
    assert stage.loop.time() - began < 1
    assert not long.done()
    assert [len(batch) for batch in stage.batches] == [50, 1, 1, 1, 1]
    await long


@staged
async def test_different_shapes_and_outputs_never_share_a_run() -> None:
    """The peer's defect: [1,2], [1,1] and [1,3] merged into [3,2]. Here each keeps its own columns."""
    stage = Stage()
    first = stage.send(0)
    await moment(0.1)
    tasks = [stage.send(n, width=width) for n, width in ((1, 2), (10, 1), (3, 3), (4, 1))]
    only_z = stage.send(5, outputs=("z",))
    await first
    for task, width, n in zip(tasks, (2, 1, 3, 1), (1, 10, 3, 4), strict=True):
        (y, z) = (await task).outputs
        assert y.array.tolist() == [[10.0 * n] * width]
        assert z.array.tolist() == [[n + 1.0] * width]
    assert [tensor.name for tensor in (await only_z).outputs] == ["z"]
    assert stage.batches[1:] == [[1], [10, 4], [3], [5]]


@staged
async def test_max_batch_size_counts_rows() -> None:
    """The peer's defect: four requests of 50 rows made a batch of 200 with max_batch_size 4."""
    stage = Stage(settings=DynamicBatching(max_batch_size=4))
    first = stage.send(0)
    await moment(0.1)
    large = [stage.send(*range(50)) for _ in range(4)]
    small = [stage.send(n) for n in range(6)]
    await asyncio.gather(first, *large, *small)
    assert [len(batch) for batch in stage.batches] == [1, 50, 50, 50, 50, 4, 2]


@staged
async def test_one_callers_deadline_does_not_hang_its_neighbours() -> None:
    """The peer's defect: the deadline of one of four callers left the other three without an answer."""
    stage = Stage(thread_s=0.5)
    first = stage.send(0)
    await moment(0.1)
    callers = [stage.send(1, within_s=0.6), *(stage.send(n, within_s=8) for n in (2, 3, 4))]
    began = stage.loop.time()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(outcomes[0], DeadlineExceeded)
    assert [values(done) for done in outcomes[1:]] == [[20], [30], [40]]
    assert stage.loop.time() - began == pytest.approx(0.9)
    await first
    assert stage.gate.count == 0


@staged
async def test_one_callers_bad_row_fails_it_alone() -> None:
    """A batch that fails is run again for each: whoever caused it hears why, the others get their answers."""
    stage = Stage()
    first = stage.send(0)
    await moment(0.1)
    good, bad, fine = stage.send(1), stage.send(7, BAD), stage.send(3)
    outcomes = await asyncio.gather(first, good, bad, fine, return_exceptions=True)
    assert isinstance(outcomes[2], ModelFailed)
    assert outcomes[2].message == "bad row among [-1.0, 7.0]"
    assert [values(outcomes[at]) for at in (1, 3)] == [[10], [30]]


@staged
async def test_a_model_that_fails_only_in_company_is_not_batched_any_more() -> None:
    """Whatever the trial at load said: everybody is answered, and it does not happen twice."""
    stage = Stage(model=TenTimes(alone_from=2))
    first = stage.send(0)
    await moment(0.1)
    tasks = [stage.send(n) for n in range(1, 4)]
    assert [values(done) for done in await asyncio.gather(first, *tasks)] == [[0], [10], [20], [30]]
    assert stage.executor.unbatched
    stage.model.ran.clear()
    await asyncio.gather(*(stage.send(n) for n in range(4)))
    assert [len(batch) for batch in stage.batches] == [1, 1, 1, 1]


@staged
async def test_an_answer_with_other_rows_than_went_in_reaches_nobody() -> None:
    """Nobody would know whose they are: each request runs alone instead."""

    class Summed(TenTimes):
        def run(self, feeds: Any, outputs: Sequence[str]) -> list[Tensor]:
            return [
                Tensor(tensor.name, tensor.datatype, tensor.array.sum(axis=0, keepdims=True))
                for tensor in super().run(feeds, outputs)
            ]

    stage = Stage(model=Summed())
    first = stage.send(0)
    await moment(0.1)
    tasks = [stage.send(1), stage.send(2)]
    assert [values(done) for done in await asyncio.gather(first, *tasks)] == [[0], [10], [20]]


@pytest.mark.parametrize("run_time", [RunTime(1.0, 1e-4), GATHERS], ids=["threads", "inline"])
@pytest.mark.parametrize("phase", ["queued", "taken", "answered"])
def test_a_caller_may_go_at_any_phase(phase: str, run_time: RunTime) -> None:
    """Its neighbours get their answers, its place is free again, and nothing stays held."""

    async def scene() -> None:
        stage = Stage(run_time=run_time, settings=DynamicBatching(max_queue_delay_microseconds=1000))
        before, gone, after = stage.send(1), stage.send(2), stage.send(3)
        if phase == "queued":
            await moment(0.0005)
        elif phase == "taken":
            await moment(0.5 if run_time is not GATHERS else 0.0005)
        else:
            await gone
        gone.cancel()
        done = await asyncio.gather(before, gone, after, return_exceptions=True)
        assert [values(done[0]), values(done[2])] == [[10], [30]]
        assert isinstance(done[1], asyncio.CancelledError) or phase == "answered"
        if phase == "queued":
            assert stage.batches == [[1, 3]]
        await moment(2)
        assert stage.gate.count == stage.executor._holds == 0

    play(scene())


@staged
async def test_a_caller_that_goes_while_the_batch_is_being_built_takes_nobody_along() -> None:
    """Cancelled in the same turn in which the batch is taken, before and after the others came."""
    stage = Stage(run_time=GATHERS, settings=DynamicBatching(max_queue_delay_microseconds=1))
    tasks = [stage.send(n) for n in range(6)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[3].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [values(done[n]) for n in (1, 2, 4, 5)] == [[10], [20], [40], [50]]
    assert stage.batches == [[1, 2, 4, 5]]


@staged
async def test_a_delay_gathers_company_for_short_and_long_runs() -> None:
    """max_queue_delay_microseconds holds for both, and is the longest that a request waits."""
    for run_time in (GATHERS, RunTime(1.0, 1e-4)):
        stage = Stage(run_time=run_time, settings=DynamicBatching(max_queue_delay_microseconds=5000))
        began = stage.loop.time()
        one = stage.send(1)
        await moment(0.003)
        two = stage.send(2)
        await moment(0.001)
        assert stage.batches == []
        await one
        await two
        assert stage.batches == [[1, 2]]
        expected = 0.005 + (1.0 if run_time is not GATHERS else 0)
        assert stage.loop.time() - began == pytest.approx(expected, abs=1e-4)


@staged
async def test_a_preferred_size_ends_the_delay() -> None:
    """Two of the preferred size run at once."""
    batching = DynamicBatching(max_queue_delay_microseconds=10_000_000, preferred_batch_size=(2,))
    stage = Stage(run_time=GATHERS, settings=batching)
    began = stage.loop.time()
    await asyncio.gather(stage.send(1), stage.send(2))
    assert stage.loop.time() == began


@staged
async def test_a_full_queue_of_a_priority_refuses_and_a_timeout_rejects() -> None:
    """Triton's queue policy, seen from a caller."""
    policy = QueuePolicy(default_timeout_microseconds=300_000, max_queue_size=2)
    stage = Stage(settings=DynamicBatching(default_queue_policy=policy))
    first = stage.send(0)
    await moment(0.1)
    waiting = [stage.send(1), stage.send(2)]
    with pytest.raises(Overloaded):
        await stage.send(3)
    began = stage.loop.time()
    for task in waiting:
        with pytest.raises(DeadlineExceeded, match="queue timeout"):
            await task
    assert stage.loop.time() - began == pytest.approx(0.3)
    assert values(await first) == [0]
    assert stage.gate.count == 0


@staged
async def test_order_is_preserved_where_it_is_asked_for() -> None:
    """A later request that is done earlier waits for the earlier one's answer; who fails or goes holds nobody up."""
    stage = Stage(
        run_time=RunTime(0.0001, 0.0001), threads=2, thread_s=1.0, settings=DynamicBatching(preserve_ordering=True)
    )
    order: list[str] = []
    for name, rows in (("long", 40), ("short", 1), ("longer", 50), ("last", 1)):
        stage.send(*range(rows)).add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
    gone = stage.send(*range(30), within_s=0.5)
    final = stage.send(1)
    final.add_done_callback(lambda _: order.append("final"))
    with pytest.raises(DeadlineExceeded):
        await gone
    assert order == []
    await final
    assert order == ["long", "short", "longer", "last", "final"]


@staged
async def test_whoever_goes_holds_up_nobody_behind() -> None:
    """An answer that waited for an earlier caller's leaves when that caller does, not when its run ends."""
    ordered = DynamicBatching(preserve_ordering=True)
    stage = Stage(run_time=RunTime(0.0001, 0.0001), thread_s=9.0, settings=ordered)
    long, short = stage.send(*range(40)), stage.send(1)
    await moment(0.1)
    assert stage.batches[-1] == [1]
    assert not short.done()
    began = stage.loop.time()
    long.cancel()
    assert values(await short) == [10]
    assert stage.loop.time() == began


@staged
async def test_runs_are_filled_up_only_when_the_operator_asks() -> None:
    """Padding repeats a row that the model takes, and no caller sees it."""
    stage = Stage(settings=DynamicBatching(bucket_sizes=(4, 8)))
    first = stage.send(1)
    await moment(0.1)
    tasks = [stage.send(2, 3), stage.send(4, 5, 6)]
    answers = [await task for task in (first, *tasks)]
    assert [values(answer) for answer in answers] == [[10], [20, 30], [40, 50, 60]]
    assert stage.batches == [[1, 1, 1, 1], [2, 3, 4, 5, 6, 6, 6, 6]]
    large = await stage.send(*range(9))
    assert values(large) == [10 * n for n in range(9)]
    assert len(stage.batches[-1]) == 9


@staged
async def test_a_model_of_dependent_rows_is_never_batched_or_filled_up() -> None:
    """Whatever the operator asks for."""
    batching = DynamicBatching(max_batch_size=8, bucket_sizes=(4,), max_queue_delay_microseconds=1000)
    stage = Stage(settings=batching, unbatched="its rows depend on each other")
    tasks = [stage.send(n) for n in range(4)]
    await asyncio.gather(*tasks)
    assert stage.batches == [[0], [1], [2], [3]]


@staged
async def test_batching_can_be_switched_off() -> None:
    """`enabled` false: one request, one run."""
    stage = Stage(settings=DynamicBatching(enabled=False))
    await asyncio.gather(*(stage.send(n) for n in range(4)))
    assert stage.batches == [[0], [1], [2], [3]]
    assert stage.executor.unbatched == "switched off"


@staged
async def test_each_execution_is_told_once() -> None:
    """Statistics count a batch once, whoever of it is still there."""
    stage = Stage()
    first = stage.send(0)
    await moment(0.1)
    gone, one, two = stage.send(1), stage.send(2, 3), stage.send(4)
    await first
    gone.cancel()
    told = [(await task).batch_rows for task in (one, two)]
    assert sorted(told) == [0, 4]
    await moment(1)


@dataclass(frozen=True)
class Plan:
    """One caller: what it sends, when, and how long it stays."""

    after_s: float
    rows: int
    width: int
    bad: bool
    outputs: tuple[str, ...]
    within_s: float
    goes_after_s: float | None
    priority: int


PLANS = st.builds(
    Plan,
    after_s=st.sampled_from([0.0, 0.0, 0.0, 0.0004, 0.003, 0.02]),
    rows=st.integers(1, 6),
    width=st.integers(1, 2),
    bad=st.sampled_from([False] * 5 + [True]),
    outputs=st.sampled_from([("y",), ("z", "y"), ("y", "z")]),
    within_s=st.sampled_from([60.0, 60.0, 60.0, 0.012, 0.0011]),
    goes_after_s=st.sampled_from([None, None, None, None, 0.0, 0.0005, 0.011]),
    priority=st.integers(0, 2),
)
SETTINGS = st.builds(
    DynamicBatching,
    enabled=st.sampled_from([True, True, True, False]),
    max_batch_size=st.sampled_from([0, 1, 4, 16]),
    max_queue_delay_microseconds=st.sampled_from([0, 0, 1500]),
    preserve_ordering=st.booleans(),
    default_queue_policy=st.builds(
        QueuePolicy,
        timeout_action=st.sampled_from(["REJECT", "DELAY"]),
        default_timeout_microseconds=st.sampled_from([0, 5000]),
        max_queue_size=st.sampled_from([0, 4]),
    ),
    bucket_sizes=st.sampled_from([(), (2, 8)]),
)
RUN_TIMES = st.sampled_from([(6e-6, 1e-7), (1e-4, 1e-6), (2e-4, 1.5e-4), (0.01, 1e-4)])


@settings(max_examples=400, deadline=None)
@given(
    plans=st.lists(PLANS, min_size=1, max_size=24),
    batching=SETTINGS,
    measured=RUN_TIMES,
    threads=st.integers(1, 3),
    alone_from=st.sampled_from([10**9, 10**9, 7]),
    warm=st.booleans(),
)
def test_everybody_gets_what_an_unbatched_run_gives_or_their_own_error(
    *, plans: list[Plan], batching: DynamicBatching, measured: Any, threads: int, alone_from: int, warm: bool
) -> None:
    """Random requests, deadlines, priorities, cancellations and failures: nobody can tell that there was company."""

    async def scene() -> None:
        stage = Stage(
            settings=batching,
            run_time=RunTime(*measured),
            workers=Turns(threads, 0.01),
            model=TenTimes(alone_from=alone_from),
        )
        if warm:
            stage.executor._company = 9.0
        callers = [asyncio.create_task(_live(stage, number, plan, plans)) for number, plan in enumerate(plans)]
        await asyncio.gather(*callers)
        await moment(1.0)
        assert stage.gate.count == stage.executor._holds == 0
        assert stage.executor._short._live == stage.executor._long._live == 0

    play(scene())


async def _live(stage: Stage, number: int, plan: Plan, plans: list[Plan]) -> None:
    await asyncio.sleep(sum(each.after_s for each in plans[: number + 1]))
    rows = [100.0 * number + row for row in range(plan.rows)]
    if plan.bad:
        rows[-1] = BAD
    x = np.repeat(np.array(rows, np.float32).reshape(-1, 1), plan.width, axis=1)
    arrived = stage.loop.time()
    work = Work({"x": Tensor("x", "FP32", x)}, plan.outputs, plan.rows, arrived + plan.within_s, plan.priority)
    task, heard = asyncio.create_task(stage.executor.submit(work)), [0.0]
    task.add_done_callback(lambda _: heard.append(stage.loop.time()))
    if plan.goes_after_s is not None:
        await (asyncio.sleep(plan.goes_after_s) if plan.goes_after_s else asyncio.sleep(0))
        task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    policy, waited = stage.executor._short._settings.default_queue_policy, heard[-1] - arrived
    match outcome:
        case asyncio.CancelledError():
            assert plan.goes_after_s is not None
        case DeadlineExceeded():
            patience = policy.default_timeout_microseconds / 1e6 if policy.timeout_action == "REJECT" else 0.0
            allowed = patience if "queue timeout" in outcome.message else plan.within_s
            assert waited == pytest.approx(allowed, abs=1e-5)
        case Overloaded():
            assert policy.max_queue_size
        case ModelFailed():
            assert plan.bad
            assert outcome.message == f"bad row among {sorted(rows)}"
        case _:
            assert not plan.bad
            _check_answer(outcome.outputs, plan, x)


def _check_answer(outputs: list[Tensor], plan: Plan, x: Any) -> None:
    unbatched = TenTimes().run({"x": Tensor("x", "FP32", x)}, plan.outputs)
    assert [tensor.name for tensor in outputs] == list(plan.outputs)
    for mine, theirs in zip(outputs, unbatched, strict=True):
        assert mine.datatype == theirs.datatype
        assert mine.array.flags.c_contiguous
        np.testing.assert_array_equal(mine.array, theirs.array)
