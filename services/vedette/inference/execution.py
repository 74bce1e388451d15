"""The only door to execution: what runs inline, what runs in threads, and when what waits is taken.

A request whose estimated run is short runs on the event loop, because a hop to a thread costs more than a small
model; anything longer waits for one of a fixed number of threads. What queued while those were busy runs together.
Short requests gather for the rest of a turn of the loop, where their model wins by it and company is likely:
requests that arrived together are merged, and one that is alone waits for nobody.

Rule: everything but `Batch.run` happens on the event loop, so nothing here needs a lock. What may run with what,
in which order and until when, is `batcher`'s; where rows meet and part again is `merging`'s.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from vedette.core.errors import DeadlineExceeded, Overloaded, Unavailable
from vedette.core.metrics import Gauge
from vedette.core.models import DynamicBatching
from vedette.core.tensors import Tensor
from vedette.engine.runtime import Runtime
from vedette.inference.batcher import Batcher, Phase, Ticket
from vedette.inference.merging import Likeness, Part, Ran, run_together
from vedette.inference.run_time import INLINE_LIMIT_S, MERGING_S, MOST_ROWS, RunTime
from vedette.inference.workers import Gate, Workers

log = logging.getLogger(__name__)

_COMPANY = 1.1
"""Requests that a turn of the loop gathered lately, on average, from which on gathering is worth its second turn."""
_TRY_EVERY = 61
"""Where requests came alone, one in so many gathers all the same, to see whether that has changed. A round of the loop
is 5 to 20 us. A prime, so as not to fall into step with a number of connections and always be a turn's last."""


@dataclass(slots=True)
class Work(Part):
    """One request as execution sees it."""

    deadline: float
    """On the monotonic clock, seconds; reached before the run starts: the work is dropped."""
    priority: int = 0
    """1 is first; 0 comes after every work that has one."""
    timeout_s: float = 0.0
    """The caller's queue timeout, where the endpoint's policy lets it have one; 0: none."""


@dataclass(slots=True)
class Execution:
    """What came out, and how long it waited and ran."""

    outputs: list[Tensor]
    queue_s: float
    infer_s: float
    batch_rows: int = 0
    """Rows of the run, told to one of the callers who shared it; 0: another one was told."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Caller(Ticket):
    """A ticket and whoever awaits its answer."""

    work: Work
    future: asyncio.Future[Execution]
    queue: Batcher
    running: bool = False
    outcome: Execution | BaseException | None = None
    """An answer that waits for those of earlier callers, where order is kept."""


class Batch:
    """Callers whose requests run together, in a thread or on the event loop."""

    __slots__ = ("callers", "owner", "threaded")

    def __init__(self, owner: Executor, callers: list[_Caller]) -> None:
        self.owner = owner
        self.callers = callers
        self.threaded = False
        """Whether it is of short requests and went to a thread."""

    @property
    def width(self) -> int:
        """Threads that work on it."""
        return self.owner.width

    def run(self) -> tuple[float, list[Ran]]:
        """Run it: when it began, and one execution, or one for each caller. Blocks; raises nothing."""
        owner = self.owner
        began = owner.now()
        works = [caller.work for caller in self.callers]
        return began, run_together(owner.runtime, works, buckets=owner.buckets, now=owner.now)

    def finish(self, done: asyncio.Future[tuple[float, list[Ran]]]) -> None:
        """A thread has run it."""
        error = Unavailable("the server is stopping") if done.cancelled() else done.exception()
        if error is None:
            self.owner.deliver(self, *done.result())
        else:
            self.owner.deliver_error(self, error)


class Executor:
    """Runs the requests of one variant on one loaded version.

    `unbatched` says why requests are never merged; empty: they are, as `settings` say.
    """

    def __init__(
        self,
        runtime: Runtime,
        run_time: RunTime,
        *,
        gate: Gate,
        workers: Workers,
        now: Callable[[], float] = time.monotonic,
        inline_limit_s: float = INLINE_LIMIT_S,
        settings: DynamicBatching | None = None,
        unbatched: str = "not asked for",
        most_rows: int = MOST_ROWS,
        width: int = 1,
        batching: Gauge | None = None,
    ) -> None:
        """`most_rows` bounds a merged run. `width`: threads of ONNX Runtime that work on a run, the caller's too.

        `batching` is 1 while requests may be merged, else 0.
        """
        settings = settings or DynamicBatching()
        self.runtime = runtime
        self.now = now
        self.width = width
        self.in_turn = False
        self.unbatched = unbatched if settings.enabled else "switched off"
        self.buckets = () if self.unbatched else settings.bucket_sizes
        self.own_timeouts = any(
            policy.allow_timeout_override
            for policy in (settings.default_queue_policy, *settings.priority_queue_policy.values())
        )
        """Whether a request's parameter `timeout` is for the queue; else it is the request's deadline."""
        rows = 1 if self.unbatched else _most_rows(settings, run_time, most_rows)
        self._short = Batcher(settings, max_rows=rows)
        self._long = Batcher(settings, max_rows=rows)
        self._likeness = Likeness(runtime.inputs)
        self._run_time = run_time
        self._gate = gate
        self._workers = workers
        self._inline_limit_s = inline_limit_s
        self._gathers = rows > 1 and run_time.base_s > MERGING_S
        delays = rows > 1 and settings.max_queue_delay_microseconds > 0
        self._queues = settings.preserve_ordering or delays or bool(self.buckets)
        """Whether every request goes through a queue."""
        self._order: deque[_Caller] | None = deque() if settings.preserve_ordering else None
        self._company = 1.0
        self._alone = 0
        self._threaded = 0
        """Batches of short requests that are in threads."""
        self._turn_comes = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._holds = 0
        self._idle: asyncio.Future[None] | None = None
        self._batching = batching
        if batching is not None:
            batching.set(rows > 1)

    @property
    def waits(self) -> bool:
        """Whether something waits for a turn in the threads."""
        return self._long.waiting > 0

    @property
    def max_rows(self) -> int:
        """Rows of a merged run; 1: nothing is merged."""
        return self._short.max_rows

    async def submit(self, work: Work) -> Execution:
        """Run the work: inline when it is short, else in a thread in its turn; with others, where that is allowed.

        Raises:
            Overloaded: the endpoint has its limit of requests waiting or running; nothing ran.
            DeadlineExceeded: the deadline passed; the work was dropped, or its result is thrown away.
            ModelFailed: the model raised.
        """
        if self._gate.count >= self._gate.limit:
            raise Overloaded(f"{self._gate.limit} requests are waiting or running already")
        now = self.now()
        if work.deadline <= now:
            raise DeadlineExceeded("the time for this request was over before it ran")
        if self._run_time.estimate(work.rows) >= self._inline_limit_s:
            return await self._wait(work, now, self._long)
        if self._queues or (self._gathers and self._expects_company(work)):
            return await self._wait(work, now, self._short)
        outputs = self.runtime.run(work.feeds, work.outputs)
        spent = self.now() - now
        self._run_time.saw(work.rows, spent)
        return Execution(outputs, 0.0, spent, work.rows)

    def hold(self) -> None:
        """Keep the runtime from being freed; `release` ends it."""
        self._holds += 1

    def release(self) -> None:
        """End one `hold`."""
        self._holds -= 1
        if self._holds:
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm, self._alarm_at = None, math.inf
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def drained(self) -> None:
        """Wait until nothing waits or runs here. Call it once, when no new work can come."""
        if self._holds:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def take(self) -> Batch | None:
        """The next batch of long requests that is due and somebody still waits for; None when there is none."""
        now = self.now()
        self._expire(now)
        return self._taken(self._long, now)

    def deliver(self, batch: Batch, began: float, rans: list[Ran]) -> None:
        """Pass on what came out of a batch to whoever still waits for it."""
        self._let_go(batch)
        for ran in rans:
            if not isinstance(ran.outcomes[0], Exception):
                self._run_time.saw(ran.rows, ran.seconds)
        if all(ran.again and not isinstance(ran.outcomes[0], Exception) for ran in rans):
            self._stop_merging()
        outcomes = [(ran, outcome) for ran in rans for outcome in ran.outcomes]
        told: Ran | None = None
        for caller, (ran, outcome) in zip(batch.callers, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._settle(caller, outcome)
            elif caller.phase is Phase.TAKEN:
                rows, told = (0 if ran is told else ran.rows), ran
                self._settle(caller, Execution(outcome, began - caller.arrived, ran.seconds, rows))
        self._more()

    def deliver_error(self, batch: Batch, error: BaseException) -> None:
        """No thread ran the batch to its end."""
        self._let_go(batch)
        for caller in batch.callers:
            self._settle(caller, error)
        self._more()

    def _expects_company(self, work: Work) -> bool:
        """Whether a short request should see what else this turn of the event loop brings."""
        if self._short.waiting or self._threaded:
            return True
        if work.rows >= self._short.max_rows:
            return False
        if self._company > _COMPANY:
            return True
        self._alone += 1
        return self._alone % _TRY_EVERY == 0

    async def _wait(self, work: Work, now: float, queue: Batcher) -> Execution:
        loop = asyncio.get_running_loop()
        caller = _Caller(
            work.rows,
            self._likeness.key(work),
            work.deadline,
            work.priority,
            work.timeout_s,
            work=work,
            future=loop.create_future(),
            queue=queue,
        )
        queue.offer(caller, now)
        self._gate.enter()
        self.hold()
        if self._order is not None:
            self._order.append(caller)
        if queue is self._long:
            self._workers.offer(self)
            self._set_alarm(now)
        elif not self._turn_comes:
            self._turn_comes = True
            loop.call_soon(self._turn)
        try:
            return await caller.future
        finally:
            if caller.phase is not Phase.ENDED:
                queue.cancel(caller)
                if not caller.running:
                    self._leave()
            if self._order:
                self._answer_in_order()

    def _turn(self) -> None:
        """The turn of the loop in which short requests gathered is over: run what is due."""
        self._turn_comes = False
        now = self.now()
        self._expire(now)
        due = self._short.due(now)
        if due is not None and due <= now:
            self._run_short(now)
        if self._short.waiting or self._threaded or self._order:
            self._set_alarm(now)

    def _run_short(self, now: float) -> None:
        """Run the next batch of short requests where it holds up nobody for long.

        Inline while that is a short run too. A larger batch goes to a thread; while all are taken, what waits grows
        until the batch of ours that is in one comes back, or runs in short pieces when there is none.
        """
        queue, run_time, limit_s = self._short, self._run_time, self._inline_limit_s
        is_short = run_time.estimate(min(queue.rows, queue.max_rows)) < limit_s
        if (not is_short or self._threaded) and self._workers.has_room(self.width):
            batch = self._taken(queue, now)
            if batch is not None:
                batch.threaded = True
                self._threaded += 1
                self._workers.start(batch)
        elif not self._threaded:
            batch = self._taken(queue, now, 0 if is_short else run_time.rows_within(limit_s))
            if batch is not None:
                self.deliver(batch, *batch.run())

    def _taken(self, queue: Batcher, now: float, max_rows: int = 0) -> Batch | None:
        callers: list[_Caller] = queue.take(now, max_rows)  # type: ignore[assignment]
        if not callers:
            return None
        for caller in callers:
            caller.running = True
        if queue is self._short:
            self._company += (len(callers) - self._company) * 0.2
        return Batch(self, callers)

    def _more(self) -> None:
        """A batch is done: if short requests wait, their turn comes."""
        if self._short.waiting and not self._turn_comes:
            self._turn_comes = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _settle(self, caller: _Caller, outcome: Execution | BaseException) -> None:
        if self._order is not None:
            caller.outcome = outcome
            self._answer_in_order()
        else:
            _answer(caller, outcome)

    def _answer_in_order(self) -> None:
        """Answer the earliest callers as far as their answers are known; who is gone is passed over."""
        order = self._order
        while order and (order[0].outcome is not None or order[0].future.done()):
            caller = order.popleft()
            if caller.outcome is not None:
                _answer(caller, caller.outcome)

    def _expire(self, now: float) -> None:
        for queue in (self._short, self._long):
            if queue.next_expiry() > now:
                continue
            for ticket, error in queue.expire(now):
                caller: _Caller = ticket  # type: ignore[assignment]
                if not caller.running:
                    self._leave()
                if not caller.future.done():
                    caller.future.set_exception(error)

    def _set_alarm(self, now: float) -> None:
        """See to it that `_ring` is called when the next time is over or the next delay has passed."""
        at = min(self._short.next_expiry(), self._long.next_expiry())
        for queue in (self._short, self._long):
            due = queue.due(now)
            if due is not None and due > now:
                at = min(at, due)
        if at < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = at
            self._alarm = asyncio.get_running_loop().call_later(max(0.0, at - now), self._ring)

    def _ring(self) -> None:
        self._alarm, self._alarm_at = None, math.inf
        if not self._turn_comes:
            self._turn()
        if self._long.waiting:
            self._workers.offer(self)
        if self._holds:
            self._set_alarm(self.now())

    def _let_go(self, batch: Batch) -> None:
        """The model has done with a batch."""
        self._threaded -= batch.threaded
        for _ in batch.callers:
            self._leave()

    def _stop_merging(self) -> None:
        """Requests failed together and succeeded each alone: whatever the trial at load said, no more of that."""
        self.unbatched = "requests that ran together failed, and succeeded each alone"
        log.warning("a model is not batched any more", extra={"reason": self.unbatched})
        self._short.max_rows = self._long.max_rows = 1
        self._gathers, self.buckets = False, ()
        if self._batching is not None:
            self._batching.set(0)

    def _leave(self) -> None:
        self._gate.leave()
        self.release()


def _most_rows(settings: DynamicBatching, run_time: RunTime, most_rows: int) -> int:
    """Rows of a merged run: what the operator says, else the largest bucket, else what pays."""
    usual = max(settings.bucket_sizes, default=0) or run_time.rows_that_pay()
    return min(settings.max_batch_size or usual, most_rows)


def _answer(caller: _Caller, outcome: Execution | BaseException) -> None:
    """Give a caller its answer, if it still waits for one."""
    if caller.phase is not Phase.TAKEN:
        return
    caller.queue.end(caller)
    if caller.future.done():
        return
    if isinstance(outcome, BaseException):
        caller.future.set_exception(outcome)
    else:
        caller.future.set_result(outcome)
