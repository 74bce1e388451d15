"""The only door to execution: who may wait, what runs inline, what runs in threads, and in which order.

A request whose estimated run is short runs at once on the event loop, because a hop to a thread costs more
than a small model. Anything longer waits for one of a fixed number of threads; models take turns, and work
that nobody waits for any more is dropped before it runs. Requests are not merged yet: `submit` is where
merging what queued while busy will come, behind the same surface.

Rule: everything but `Job.run` happens on the event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vedette.core.errors import DeadlineExceeded, Overloaded, Unavailable
from vedette.core.metrics import Gauge
from vedette.core.tensors import Tensor
from vedette.engine.runtime import Runtime

INLINE_LIMIT_S = 0.0005
"""Longest estimated run on the event loop: a thread hop costs about 0.05 ms and callers notice about 1 ms."""

_NO_PRIORITY = 2**64


@dataclass(slots=True)
class Work:
    """One request as execution sees it: checked against the signature already."""

    feeds: Mapping[str, Tensor]
    outputs: Sequence[str]
    rows: int
    deadline: float
    """On the monotonic clock, seconds; reached before the run starts: the work is dropped."""
    priority: int = 0
    """1 is first; 0 comes after every work that has one."""


@dataclass(slots=True)
class Execution:
    """What came out, and how long it waited and ran."""

    outputs: list[Tensor]
    queue_s: float
    infer_s: float


class Gate:
    """How many requests of one endpoint may wait or run in threads; shared by its variants."""

    __slots__ = ("_gauge", "count", "limit")

    def __init__(self, limit: int, gauge: Gauge) -> None:
        self.limit = limit
        self.count = 0
        self._gauge = gauge

    def enter(self) -> None:
        """One more."""
        self.count += 1
        self._gauge.inc()

    def leave(self) -> None:
        """One less."""
        self.count -= 1
        self._gauge.dec()


@dataclass(slots=True)
class RunTime:
    """What the loader measured: seconds for a run as base + per row, corrected by what is seen later."""

    base_s: float
    row_s: float
    slowness: float = 1.0
    """Moving average of seen / expected: zeros at warm-up may be quicker than real input."""

    def estimate(self, rows: int) -> float:
        """Seconds that a run with so many rows will likely take."""
        return (self.base_s + self.row_s * rows) * self.slowness

    def saw(self, rows: int, seconds: float) -> None:
        """Correct the estimate by one run.

        A run counts for at most four times what was expected, so that a preempted one (a thousand times, on a
        busy machine) changes little, while lasting slowness still doubles the estimate every five runs.
        """
        ratio = seconds / (self.base_s + self.row_s * rows + 1e-6)
        self.slowness += (min(ratio, 4 * self.slowness) - self.slowness) * 0.05


class Job:
    """A work in the queue of a batcher, and the future that its caller awaits."""

    __slots__ = ("arrived", "future", "owner", "queued", "running", "work")

    def __init__(self, owner: Batcher, work: Work, future: asyncio.Future[Execution], arrived: float) -> None:
        self.owner = owner
        self.work = work
        self.future = future
        self.arrived = arrived
        self.queued = True
        self.running = False

    def run(self) -> Execution:
        """In a thread of the pool."""
        started = time.monotonic()
        outputs = self.owner.runtime.run(self.work.feeds, self.work.outputs)
        return Execution(outputs, started - self.arrived, time.monotonic() - started)


class Workers:
    """A fixed number of threads that all models share; models with waiting work take turns."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._free = threads
        self._turns: deque[Batcher] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")

    async def room(self) -> None:
        """Wait until a thread is free and nothing waits: then a shadow copy may use the machine."""
        await self._room.wait()

    def offer(self, batcher: Batcher) -> None:
        """This batcher has work waiting."""
        if not batcher.in_turn:
            batcher.in_turn = True
            self._turns.append(batcher)
        self._dispatch()

    def close(self) -> None:
        """Wait for no one: threads end with what they are running."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _dispatch(self) -> None:
        while self._free and self._turns:
            batcher = self._turns.popleft()
            job = batcher.take()
            if job is None:
                batcher.in_turn = False
                continue
            self._turns.append(batcher)
            self._free -= 1
            running = asyncio.get_running_loop().run_in_executor(self._pool, job.run)
            running.add_done_callback(lambda done, job=job: self._finished(job, done))  # type: ignore[misc]
        if self._free:
            self._room.set()
        else:
            self._room.clear()

    def _finished(self, job: Job, done: asyncio.Future[Execution]) -> None:
        self._free += 1
        job.owner.finish(job, done)
        self._dispatch()


class Batcher:
    """Runs the requests of one variant on one loaded version."""

    def __init__(
        self,
        runtime: Runtime,
        run_time: RunTime,
        *,
        gate: Gate,
        workers: Workers,
        now: Callable[[], float] = time.monotonic,
        inline_limit_s: float = INLINE_LIMIT_S,
    ) -> None:
        self.runtime = runtime
        self.in_turn = False
        self._run_time = run_time
        self._gate = gate
        self._workers = workers
        self._now = now
        self._inline_limit_s = inline_limit_s
        self._waiting: list[tuple[int, int, Job]] = []
        self._arrivals = 0
        self._given_up = 0
        self._holds = 0
        self._idle: asyncio.Future[None] | None = None

    async def submit(self, work: Work) -> Execution:
        """Run the work: inline when it is short, else in a thread in its turn.

        Raises:
            Overloaded: the endpoint has its limit of requests waiting or running; nothing ran.
            DeadlineExceeded: the deadline passed; the work was dropped, or its result is thrown away.
            ModelFailed: the model raised.
        """
        if self._gate.count >= self._gate.limit:
            raise Overloaded(f"{self._gate.limit} requests are waiting or running already")
        now = self._now()
        if work.deadline <= now:
            raise DeadlineExceeded("the time for this request was over before it ran")
        if self._run_time.estimate(work.rows) >= self._inline_limit_s:
            return await self._run_in_turn(work, now)
        outputs = self.runtime.run(work.feeds, work.outputs)
        spent = self._now() - now
        self._run_time.saw(work.rows, spent)
        return Execution(outputs, 0.0, spent)

    def hold(self) -> None:
        """Keep the runtime from being freed; `release` ends it."""
        self._holds += 1

    def release(self) -> None:
        """End one `hold`."""
        self._holds -= 1
        if not self._holds and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def drained(self) -> None:
        """Wait until nothing waits or runs here. Call it once, when no new work can come."""
        if self._holds:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def take(self) -> Job | None:
        """The next job that somebody still waits for, marked as running; None when there is none."""
        while self._waiting:
            _, _, job = heapq.heappop(self._waiting)
            job.queued = False
            if job.future.done():
                self._given_up -= 1
            elif job.work.deadline <= self._now():
                job.future.set_exception(DeadlineExceeded("the time for this request was over before it ran"))
            else:
                job.running = True
                return job
        return None

    def finish(self, job: Job, done: asyncio.Future[Execution]) -> None:
        """A thread has run the job: pass the outcome on, if anybody still waits for it."""
        self._leave()
        error = done.exception() if not done.cancelled() else Unavailable("the server is stopping")
        if error is None:
            self._run_time.saw(job.work.rows, done.result().infer_s)
        if job.future.done():
            return
        if error is None:
            job.future.set_result(done.result())
        else:
            job.future.set_exception(error)

    async def _run_in_turn(self, work: Work, now: float) -> Execution:
        job = Job(self, work, asyncio.get_running_loop().create_future(), now)
        self._arrivals += 1
        heapq.heappush(self._waiting, (work.priority or _NO_PRIORITY, self._arrivals, job))
        self._gate.enter()
        self.hold()
        self._workers.offer(self)
        try:
            async with asyncio.timeout(max(0.0, work.deadline - now)):
                return await job.future
        except TimeoutError:
            raise DeadlineExceeded("the time for this request is over") from None
        finally:
            if not job.running:
                self._abandon(job)

    def _abandon(self, job: Job) -> None:
        """The caller is gone before a thread took its job."""
        self._leave()
        job.future.cancel()
        if not job.queued:
            return
        self._given_up += 1
        if self._given_up * 2 > len(self._waiting):
            self._waiting = [entry for entry in self._waiting if not entry[2].future.done()]
            heapq.heapify(self._waiting)
            self._given_up = 0

    def _leave(self) -> None:
        self._gate.leave()
        self.release()
