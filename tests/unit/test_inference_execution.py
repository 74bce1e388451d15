"""The door to execution: order, limits, deadlines and cancellation, on runtimes that a test controls."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from vedette.core.errors import DeadlineExceeded, ModelFailed, Overloaded
from vedette.core.metrics import NoMetrics
from vedette.core.models import TensorSpec
from vedette.core.tensors import Tensor
from vedette.inference.execution import Execution, Executor, Work
from vedette.inference.run_time import RunTime
from vedette.inference.workers import Gate, Workers

SPEC = (TensorSpec("x", "FP32", (-1,)),)


class Stage:
    """A runtime that notes which request runs, and runs only when it is let."""

    inputs = outputs = SPEC
    output_names = ("x",)
    memory_bytes = 0
    load_time_ms = 0.0

    def __init__(self) -> None:
        self.ran: list[float] = []
        self.threads: set[int] = set()
        self.started = threading.Semaphore(0)
        self.curtain = threading.Semaphore(0)
        self.fail = False

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        self.threads.add(threading.get_ident())
        self.ran.append(float(feeds["x"].array[0]))
        self.started.release()
        if threading.current_thread() is not threading.main_thread():
            assert self.curtain.acquire(timeout=10)
        if self.fail:
            raise ModelFailed("no")
        return [feeds["x"]]

    def close(self) -> None: ...


class Door:
    """An executor over a stage, slow enough for threads unless told otherwise."""

    def __init__(
        self, *, threads: int = 1, limit: int = 100, run_s: float = 1.0, workers: Workers | None = None
    ) -> None:
        self.stage = Stage()
        self.gate = Gate(limit, NoMetrics().gauge("vedette_requests_in_flight"))
        self.workers = workers or Workers(threads)
        self.executor = Executor(self.stage, RunTime(run_s, 0.0), gate=self.gate, workers=self.workers)

    def send(self, number: float, *, priority: int = 0, timeout: float = 60.0) -> asyncio.Task[Execution]:
        """Submit a request that carries a number."""
        feeds = {"x": Tensor("x", "FP32", np.array([number], np.float32))}
        work = Work(feeds, ("x",), 1, time.monotonic() + timeout, priority)
        return asyncio.create_task(self.executor.submit(work))

    async def running(self) -> None:
        """Wait until one more request runs."""
        await asyncio.to_thread(self.stage.started.acquire, timeout=10)

    def let(self, runs: int) -> None:
        """Let so many runs end."""
        for _ in range(runs):
            self.stage.curtain.release()


async def emptied(gate: Gate) -> None:
    """Give the loop turns until nothing waits or runs."""
    async with asyncio.timeout(10):
        while gate.count:  # noqa: ASYNC110 - the gate tells nobody, and need not
            await asyncio.sleep(0)


async def test_a_short_run_is_inline_on_the_event_loop() -> None:
    """A model of microseconds pays for no thread."""
    door = Door(run_s=0.00001)
    done = await door.send(1)
    assert door.stage.threads == {threading.get_ident()}
    assert done.queue_s == 0.0


async def test_many_rows_of_a_short_model_go_to_a_thread() -> None:
    """What counts is the estimate for these rows, not the model's name."""
    door = Door(run_s=0.00001)
    executor = Executor(door.stage, RunTime(0.00001, 0.00001), gate=door.gate, workers=door.workers)
    work = Work({"x": Tensor("x", "FP32", np.zeros(100, np.float32))}, ("x",), 100, time.monotonic() + 60)
    door.let(1)
    await executor.submit(work)
    assert threading.get_ident() not in door.stage.threads


async def test_a_model_that_proves_slow_moves_to_threads_and_back() -> None:
    """The estimate follows what is seen: zeros at warm-up may have been quicker than real input."""
    estimate = RunTime(0.0001, 0.0)
    for _ in range(20):
        estimate.saw(1, 0.01)
    assert estimate.estimate(1) > 0.0005
    for _ in range(400):
        estimate.saw(1, 0.0001)
    assert estimate.estimate(1) < 0.0005


async def test_one_preempted_run_changes_nothing() -> None:
    """A 10 us model that once took 2 ms because the machine was busy stays inline."""
    estimate = RunTime(0.00001, 0.0)
    estimate.saw(1, 0.002)
    assert estimate.estimate(1) < 0.0005


async def test_the_event_loop_is_free_while_a_large_model_runs() -> None:
    """A run in a thread holds nobody up but its caller."""
    door = Door()
    task = door.send(1)
    await door.running()
    turns = 0
    for _ in range(1000):
        await asyncio.sleep(0)
        turns += 1
    assert turns == 1000
    assert not task.done()
    door.let(1)
    await task


async def test_waiting_work_runs_in_the_order_of_arrival_and_priority_first() -> None:
    """1 is first, absent comes last, equals keep their order."""
    door = Door()
    tasks = [door.send(0)]
    await door.running()
    for number, priority in ((1, 0), (2, 5), (3, 1), (4, 5), (5, 0)):
        tasks.append(door.send(number, priority=priority))
    await asyncio.sleep(0)
    door.let(6)
    await asyncio.gather(*tasks)
    assert door.stage.ran == [0, 3, 2, 4, 1, 5]


async def test_models_take_turns() -> None:
    """A model with a long queue does not starve one with a short one."""
    busy = Door()
    quiet = Door(workers=busy.workers)
    tasks = [busy.send(n) for n in range(20)]
    await busy.running()
    tasks.append(quiet.send(99))
    await asyncio.sleep(0)
    busy.let(2)
    quiet.let(1)
    await tasks[-1]
    assert len(busy.stage.ran) <= 3
    busy.let(20)
    await asyncio.gather(*tasks)


async def test_work_that_nobody_waits_for_is_dropped_before_it_runs() -> None:
    """A cancelled caller's request never reaches the model, and its place is free at once."""
    door = Door(limit=3)
    first = door.send(0)
    await door.running()
    gone, stays = door.send(1), door.send(2)
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert door.gate.count == 2
    late = door.send(3)
    await asyncio.sleep(0)
    door.let(3)
    await asyncio.gather(first, stays, late)
    assert door.stage.ran == [0, 2, 3]
    assert door.gate.count == 0


async def test_a_deadline_that_passes_in_the_queue_ends_the_wait_and_drops_the_work() -> None:
    """The caller hears at its deadline, not when a thread is free; neighbours are served."""
    door = Door()
    first = door.send(0)
    await door.running()
    impatient, patient = door.send(1, timeout=0.02), door.send(2)
    with pytest.raises(DeadlineExceeded):
        await impatient
    door.let(2)
    await asyncio.gather(first, patient)
    assert door.stage.ran == [0, 2]


async def test_work_whose_deadline_passed_unnoticed_is_dropped_when_its_turn_comes() -> None:
    """A late event loop does not make the model work for nobody: the clock is looked at before the run."""
    door, now = Door(), [100.0]
    late = Executor(door.stage, RunTime(1.0, 0.0), gate=door.gate, workers=door.workers, now=lambda: now[0])
    first = door.send(0)
    await door.running()
    feeds = {"x": Tensor("x", "FP32", np.array([1], np.float32))}
    expired = asyncio.create_task(late.submit(Work(feeds, ("x",), 1, 160.0)))
    await asyncio.sleep(0)
    now[0] = 161.0
    door.let(2)
    with pytest.raises(DeadlineExceeded):
        await expired
    await first
    assert door.stage.ran == [0]


async def test_a_deadline_that_passes_in_the_run_ends_the_wait_and_the_run_ends_by_itself() -> None:
    """The result of a run that came too late is thrown away; until then it counts as running."""
    door = Door()
    late = door.send(0, timeout=0.02)
    await door.running()
    with pytest.raises(DeadlineExceeded):
        await late
    assert door.gate.count == 1
    door.let(1)
    await emptied(door.gate)


async def test_a_deadline_that_has_passed_already_costs_nothing() -> None:
    """Inline or not, expired work does not run."""
    for run_s in (0.00001, 1.0):
        door = Door(run_s=run_s)
        with pytest.raises(DeadlineExceeded):
            await door.send(0, timeout=-1)
        assert door.stage.ran == []


async def test_one_over_the_limit_is_refused_inline_too() -> None:
    """max_queue holds for the endpoint, whichever way the request would have run."""
    door = Door(limit=1)
    quick = Executor(Stage(), RunTime(0.0, 0.0), gate=door.gate, workers=door.workers)
    first = door.send(0)
    await door.running()
    with pytest.raises(Overloaded):
        await door.send(1)
    with pytest.raises(Overloaded):
        await quick.submit(Work({}, (), 1, time.monotonic() + 1))
    door.let(1)
    await first


async def test_an_error_in_a_thread_reaches_its_caller_and_frees_its_place() -> None:
    """A failing model leaves the queue in order."""
    door = Door()
    door.stage.fail = True
    door.let(1)
    with pytest.raises(ModelFailed):
        await door.send(0)
    door.stage.fail = False
    door.let(1)
    await door.send(1)
    assert door.gate.count == 0


async def test_drained_waits_for_what_waits_and_runs() -> None:
    """A version is freed only when its last request is answered."""
    door = Door()
    tasks = [door.send(0), door.send(1)]
    await door.running()
    drained = asyncio.create_task(door.executor.drained())
    await asyncio.sleep(0)
    door.let(1)
    await tasks[0]
    assert not drained.done()
    door.let(1)
    await asyncio.gather(tasks[1], drained)


async def test_a_thousand_given_up_requests_do_not_pile_up() -> None:
    """While a run hangs, requests that come and give up leave no trace in the queue."""
    door = Door(limit=10_000)
    first = door.send(0)
    await door.running()
    for _ in range(20):
        gone = [door.send(n) for n in range(50)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
    assert len(door.executor._long._times) < 200
    door.let(1)
    await first
    await emptied(door.gate)
    assert door.stage.ran == [0]
