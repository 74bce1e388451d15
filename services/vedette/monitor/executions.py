"""Results: takes sealed and re-opened windows from the store, has them evaluated, and stores what came of it.

Rule: a result, the end of its window, its alerts and their outbox are one transaction, so a window that is due has
exactly one stored result whatever is killed when. Windows are evaluated one at a time, in the order of their ends.
Those that labels have re-opened come in rounds, at the end of which receivers are told (`revisions`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vedette.core.clock import Clock
from vedette.core.errors import NotFound, Unavailable, VedetteError
from vedette.core.metrics import Metrics
from vedette.core.models import ModelVersion
from vedette.entities.alerts import Notification
from vedette.entities.monitors import Execution, ExecutionStatus, Monitor, MonitorStatus
from vedette.monitor import evaluation
from vedette.monitor.alerting import alerts
from vedette.monitor.evaluation import ASKING, QUALITY, Case, Progress
from vedette.monitor.quality.outcomes import Outcomes
from vedette.monitor.quality.predictor import Predictor
from vedette.monitor.references import References
from vedette.monitor.results.scores import Scores
from vedette.monitor.revisions import MOST, Round
from vedette.monitor.traffic.folding import NO_REQUESTS, segments_of
from vedette.monitor.traffic.labels import outcomes_of
from vedette.monitor.traffic.lots import DAMAGED
from vedette.monitor.traffic.segments import OTHER
from vedette.ports.monitors import MonitorStore, MonitorTransaction, WindowKey, WindowState

log = logging.getLogger(__name__)

ATTEMPTS = 10
"""Deaths of the process during the evaluation of one window after which it is given up. Some may be kill -9."""
_AT_ONCE = 16
_LOOK_AGAIN_S = 5.0
_AFTER_FAILURE_S = 1.0
_HANGING = 3
"""Evaluations that may hang before the service says that it is not well."""
_POSTPONED_S = 1.0, 30.0
"""Shortest and longest pause before a window is looked at again of which nobody knows what to compare it with."""


@dataclass(frozen=True, slots=True)
class EvaluationLimits:
    """What evaluating may take and leave."""

    timeout_s: float = 120.0
    kept_profiles: int = 200
    """Profiles of evaluated windows of each monitor, for reports and files."""
    reopen_s: float = 5.0
    """Seconds between two rounds over windows that labels have re-opened."""


_LIMITS = EvaluationLimits()
_UNKNOWN_VERSION = "the model version is not known to the registry (any more)"
_NOBODY_KNOWS = "the registry does not answer, so nobody knows whether there is a baseline"


class _Unanswered(Exception):
    """What a window is compared with was never known, and the registry does not answer now."""


@dataclass(slots=True)
class _Pause:
    """Until when a window is left alone."""

    until: float = 0.0
    seconds: float = 0.0

    def prolong(self, now: float) -> None:
        """From now on, twice as long as the last time."""
        shortest, longest = _POSTPONED_S
        self.seconds = min(max(shortest, 2 * self.seconds), longest)
        self.until = now + self.seconds


@dataclass(frozen=True, slots=True)
class _Asked:
    """A case as far as the registry was asked for it; `version` None: nobody knows it."""

    case: Case
    version: ModelVersion | None = None
    folder: Path | None = None
    """The model's files, where a check asks for them and they can be had."""


class Executions:
    """Evaluates windows that are due. `stored` hears of every result, `told` of every notification."""

    def __init__(
        self,
        store: MonitorStore,
        references: References,
        *,
        clock: Clock,
        metrics: Metrics,
        limits: EvaluationLimits = _LIMITS,
        repeat_s: float = 0.0,
        stored: Callable[[Execution, Monitor], None] = lambda _execution, _monitor: None,
        told: Callable[[list[Notification]], None] = lambda _notifications: None,
    ) -> None:
        self._store = store
        self._references = references
        self._clock = clock
        self._metrics = metrics
        self.scores = Scores(metrics)
        self._limits = limits
        self._repeat_s = repeat_s
        self._stored = stored
        self._told = told
        self._news = asyncio.Event()
        self._reopen_at = 0.0
        self._round: Round | None = None
        self._postponed: dict[WindowKey, _Pause] = {}
        self._begun: dict[WindowKey, int] = {}
        self._waiting = ""
        self._hanging: dict[tuple[str, str], asyncio.Future[Execution]] = {}

    @property
    def trouble(self) -> str:
        """Why evaluating is not to be relied on; empty: it is."""
        return "evaluations hang; restart the monitor" if len(self._hanging) >= _HANGING else self._waiting

    def wake(self) -> None:
        """Windows were sealed or re-opened."""
        self._news.set()

    async def run(self) -> None:
        """Evaluate until cancelled."""
        while True:
            self._news.clear()
            try:
                while await self.step():
                    self._waiting = ""
                self._waiting = ""
            except VedetteError as error:
                if self._waiting != error.message:
                    log.warning("windows wait to be evaluated", extra={"reason": error.message})
                self._waiting = error.message
                await asyncio.sleep(_AFTER_FAILURE_S)
                continue
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):  # wait_for may swallow a cancellation
                    await self._news.wait()
            except TimeoutError:
                pass

    async def step(self) -> int:
        """Evaluate some windows that are due, or re-opened; returns how many."""
        states = await asyncio.to_thread(self._sealed)
        done = [await self._evaluate(state) for state in states]
        return sum(done) if any(done) else await self._go_round()

    async def _go_round(self) -> int:
        """Evaluate some windows of the round under way, or begin one; returns how many."""
        began = self._clock.monotonic()
        if self._round is None:
            keys = await asyncio.to_thread(self._reopened) if began >= self._reopen_at else []
            if not keys:
                return 0
            self._round = Round.of(keys, began)
        under_way = self._round
        some = list(under_way.waiting)[:_AT_ONCE]
        for key in some:
            under_way.done(key, answered=await self._evaluate_again(key))
        now = self._clock.monotonic()
        under_way.spent_s += now - began
        if under_way.is_over(now):
            self._told(await asyncio.to_thread(self._close, under_way))
            self._round = None
            self._reopen_at = under_way.began + max(self._limits.reopen_s, 4 * under_way.spent_s)
        return max(1, len(some))

    def _close(self, under_way: Round) -> list[Notification]:
        with self._store.transaction() as tx:
            return under_way.close(tx, self._clock.time(), repeat_s=self._repeat_s)

    def _sealed(self) -> list[WindowState]:
        """Windows that are due, without those that are looked at later."""
        now = self._clock.monotonic()
        later = {key for key, pause in self._postponed.items() if now < pause.until}
        with self._store.read() as snapshot:
            found = snapshot.sealed(_AT_ONCE + len(later))
        return [state for state in found if state.key not in later][:_AT_ONCE]

    def _reopened(self) -> list[WindowKey]:
        with self._store.read() as snapshot:
            return snapshot.reopened(MOST)

    async def _evaluate(self, state: WindowState) -> bool:
        """Evaluate a window that is due; False: later, because what it is compared with cannot be asked for now."""
        monitor = await asyncio.to_thread(self._monitor, state.key)
        if monitor is None:
            self._begun.pop(state.key, None)
            return True
        try:
            case = await self._case(state, monitor)
        except _Unanswered:
            self._postponed.setdefault(state.key, _Pause()).prolong(self._clock.monotonic())
            return False
        self._postponed.pop(state.key, None)
        attempts = await asyncio.to_thread(self._begin, state.key)
        now = self._clock.time()
        died = f"the monitor died {ATTEMPTS} times while it evaluated this window" if attempts > ATTEMPTS else ""
        if reason := died or (DAMAGED if state.reason == DAMAGED else ""):
            execution = evaluation.failed(state, monitor, reason, now)
        else:
            execution = await self._bounded(case, None, now)
        await asyncio.to_thread(self._put, execution, state, monitor)
        del self._begun[state.key]
        self._after(execution, monitor)
        return True

    def _named(self, key: WindowKey) -> tuple[str, ...]:
        """The values of the segment's feature that have segments of their own."""
        with self._store.read() as snapshot:
            return tuple(segments_of(snapshot, key).values.get(key.segment.partition("=")[0], ()))

    def _monitor(self, key: WindowKey) -> Monitor | None:
        """The monitor of a window; None: nobody wants its result any more."""
        with self._store.transaction() as tx:
            try:
                monitor = tx.monitor(key.monitor)
            except NotFound:
                return None
            if monitor.status is MonitorStatus.STOPPED:
                tx.drop_windows([key])
                return None
            return monitor

    def _begin(self, key: WindowKey) -> int:
        """In how many lives this window was begun: a result that cannot be stored is no death."""
        if key not in self._begun:
            with self._store.transaction() as tx:
                self._begun[key] = tx.count_attempt(key)
        return self._begun[key]

    async def _case(self, state: WindowState, monitor: Monitor) -> _Asked:
        named = await asyncio.to_thread(self._named, state.key) if state.key.segment else ()
        case = Case(state, monitor, named=named)
        if not state.rows:
            return _Asked(case)
        model = state.model or self._references.model_of(monitor.endpoint)
        try:
            version = await self._references.version(model, state.key.version) if model else None
            if version is None:
                return _Asked(replace(case, missing=_NOBODY_KNOWS if self._references.gave_up else _UNKNOWN_VERSION))
            reference = await self._references.reference(model, version.version, monitor.baseline)
        except Unavailable as error:
            raise _Unanswered from error
        missing = f"no baseline {monitor.baseline!r} of {model}:{version.version}"
        missing = _NOBODY_KNOWS if self._references.gave_up else missing
        return _Asked(replace(case, signature=version.signature, reference=reference, missing=missing), version)

    async def _complete(self, asked: _Asked) -> _Asked:
        """With the predictions and labels, where a check wants them, and the model's files."""
        case, version = asked.case, asked.version
        if version is None:
            return asked
        checks = {settings.check for settings in case.monitor.checks}
        if checks & QUALITY:
            case = replace(case, outcomes=await asyncio.to_thread(self._outcomes, case.state))
        folder = await self._references.graph(version) if checks & ASKING else None
        return _Asked(case, version, folder)

    def _outcomes(self, state: WindowState) -> Outcomes | None:
        with self._store.read() as snapshot:
            return outcomes_of(snapshot, state.endpoint, state.key)

    async def _bounded(self, asked: _Asked, previous: Execution | None, now: float) -> Execution:
        """The result, or that there is none: a thread that hangs is left behind, and its check is not begun again."""
        state, monitor = asked.case.state, asked.case.monitor
        stuck = frozenset(check for name, check in self._hanging if name == monitor.name)
        progress = Progress(stuck=stuck)
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                complete = await self._complete(replace(asked, case=replace(asked.case, progress=progress)))
                future = _in_thread(_Work(complete, previous, now).run)
                return await asyncio.shield(future)
        except TimeoutError:
            what = f"check {progress.check!r}" if progress.check else "the evaluation"
            reason = f"{what} took longer than {self._limits.timeout_s:g} s"
            if progress.check:
                self._leave(monitor.name, progress.check, future)
        except VedetteError as error:
            reason = f"the window cannot be evaluated: {error.message}"
        except Exception:
            log.exception("an evaluation failed unexpectedly", extra={"monitor": monitor.name})
            reason = "internal error, see the log of the monitor service"
        return evaluation.failed(state, monitor, reason, now)

    def _leave(self, monitor: str, check: str, future: asyncio.Future[Execution]) -> None:
        """Remember a check that hangs until its thread has ended."""
        log.error("a check hangs", extra={"monitor": monitor, "check": check})
        self._hanging[monitor, check] = future
        future.add_done_callback(lambda _: self._hanging.pop((monitor, check), None))

    def _put(self, execution: Execution, state: WindowState, monitor: Monitor) -> None:
        with self._store.transaction() as tx:
            try:
                tx.put_execution(execution)
            except NotFound:  # the monitor was deleted meanwhile, and its windows with it
                return
            if state.profile:
                tx.put_profile(execution.id, state.profile, keep=self._limits.kept_profiles)
            tx.drop_windows([state.key])
            notifications = self._record(tx, execution, monitor)
        self._told(notifications)

    async def _evaluate_again(self, key: WindowKey) -> bool:
        """Make the checks of ground truth again, of the window and its segments; False: it must stay marked."""
        keys = (*await asyncio.to_thread(self._take_again, key), key)
        return all([await self._revise(each) for each in keys])

    async def _revise(self, key: WindowKey) -> bool:
        """Nothing is to be done where there is no result yet. False: nobody could be asked what to compare with."""
        monitor, previous, profile = await asyncio.to_thread(self._earlier, key)
        if monitor is None or previous is None:
            return True
        state = WindowState(key, previous.endpoint, previous.end, True, previous.rows, previous.counts, profile=profile)
        now = self._clock.time()
        try:
            case = await self._case(state, monitor)
        except _Unanswered:
            return False
        execution = await self._bounded(case, previous, now)
        if execution.revision != previous.revision + 1:  # it failed: what was known before stays
            execution = replace(previous, revision=previous.revision + 1, reason=execution.reason, evaluated_at=now)
        await asyncio.to_thread(self._put_again, execution, monitor)
        self._after(execution, monitor)
        return True

    def _take_again(self, key: WindowKey) -> list[WindowKey]:
        """Labels that come from now on mark the window anew; returns its segments that have a result."""
        found = []
        with self._store.transaction() as tx:
            tx.take_again(key)
            for feature, values in segments_of(tx, key).values.items():
                for value in dict.fromkeys((*values, OTHER)):
                    segment = replace(key, segment=f"{feature}={value}")
                    with contextlib.suppress(NotFound):
                        tx.execution(evaluation.execution_id(segment))
                        found.append(segment)
        return found

    def _earlier(self, key: WindowKey) -> tuple[Monitor | None, Execution | None, bytes]:
        """The monitor, the result before and the window's profile, as far as they are there."""
        with self._store.read() as snapshot:
            try:
                monitor = snapshot.monitor(key.monitor)
                previous = snapshot.execution(evaluation.execution_id(key))
            except NotFound:
                return None, None, b""
            if not any(settings.check in QUALITY for settings in monitor.checks):
                return None, None, b""
            try:
                return monitor, previous, snapshot.profile(previous.id)
            except NotFound:
                return monitor, previous, b""

    def _put_again(self, execution: Execution, monitor: Monitor) -> None:
        with self._store.transaction() as tx:
            try:
                tx.put_execution(execution)
            except NotFound:
                return
            notifications = self._record(tx, execution, monitor)
        self._told(notifications)

    def _record(self, tx: MonitorTransaction, execution: Execution, monitor: Monitor) -> list[Notification]:
        def stored(execution_id: str) -> Execution | None:
            with contextlib.suppress(NotFound):
                return tx.execution(execution_id)
            return None

        now = execution.evaluated_at
        if self._round is not None and self._round.holds(execution):
            alerts.move_alerts(execution, tx.alerts, monitor, now, stored=stored)
            self._round.keep(execution)
            return []
        return alerts.record(execution, tx.alerts, monitor, now, repeat_s=self._repeat_s, stored=stored)

    def _after(self, execution: Execution, monitor: Monitor) -> None:
        name = "vedette_monitor_windows_total"
        self._metrics.counter(name, monitor=monitor.name, outcome=_outcome(execution)).inc()
        self.scores.show(execution)
        self._stored(execution, monitor)


class _Work:
    """One evaluation, to be run in a thread."""

    def __init__(self, asked: _Asked, previous: Execution | None, now: float) -> None:
        self._asked = asked
        self._previous = previous
        self._now = now

    def run(self) -> Execution:
        """Evaluate, with the model at hand where its files are."""
        asked = self._asked
        if asked.folder is None or asked.version is None:
            return self._evaluate(asked.case)
        with Predictor(asked.folder, asked.version.signature) as predict:
            return self._evaluate(replace(asked.case, predict=predict))

    def _evaluate(self, case: Case) -> Execution:
        if self._previous is None:
            return evaluation.evaluate(case, self._now)
        return evaluation.evaluate_again(case, self._previous, self._now)


def _in_thread(work: Callable[[], Execution]) -> asyncio.Future[Execution]:
    """Run it in a thread of its own, which the end of the process does not wait for: nothing can end a thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Execution] = loop.create_future()

    def settle(result: Execution | None, error: Exception | None) -> None:
        if future.done():
            return
        if result is not None:
            future.set_result(result)
        elif error is not None:
            future.set_exception(error)
            future.exception()  # whoever has left does not want to hear of it

    def run() -> None:
        result: Execution | None = None
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="evaluation", daemon=True).start()
    return future


def _outcome(execution: Execution) -> str:
    if execution.status is ExecutionStatus.FAILED:
        return "failed"
    if execution.reason == NO_REQUESTS:
        return "empty"
    return "small" if execution.reason and not execution.results else "evaluated"
