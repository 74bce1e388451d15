"""Results: takes sealed and re-opened windows from the store, has them evaluated, and stores what came of it.

Rule: a result, the end of its window, its alerts and their outbox are one transaction, so a window that is due has
exactly one stored result whatever is killed when. Windows are evaluated one at a time, in the order of their ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from vedette.core.alerts import Notification
from vedette.core.clock import Clock
from vedette.core.errors import NotFound, VedetteError
from vedette.core.metrics import Metrics
from vedette.core.models import ModelVersion
from vedette.core.monitors import Execution, ExecutionStatus, Monitor, MonitorStatus
from vedette.monitor import alerts, evaluation
from vedette.monitor.evaluation import ASKING, QUALITY, Case
from vedette.monitor.folding import NO_REQUESTS
from vedette.monitor.labels import outcomes_of
from vedette.monitor.outcomes import Outcomes
from vedette.monitor.predictor import Predictor
from vedette.monitor.references import References
from vedette.monitor.scores import Scores
from vedette.ports.monitors import MonitorStore, MonitorTransaction, WindowKey, WindowState

log = logging.getLogger(__name__)

ATTEMPTS = 10
"""Deaths of the process during the evaluation of one window after which it is given up. Some may be kill -9."""
_AT_ONCE = 16
_LOOK_AGAIN_S = 5.0
_AFTER_FAILURE_S = 1.0
_ABANDONED = 3
"""Evaluations that may hang before the service says that it is not well."""


@dataclass(frozen=True, slots=True)
class EvaluationLimits:
    """What evaluating may take and leave."""

    timeout_s: float = 120.0
    kept_profiles: int = 200
    """Profiles of evaluated windows of each monitor, for reports and files."""
    reopen_s: float = 5.0
    """Seconds between two rounds over windows that labels have re-opened."""


_LIMITS = EvaluationLimits()


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
        self._threads = ThreadPoolExecutor(1, "evaluation")
        self._abandoned = 0

    @property
    def trouble(self) -> str:
        """Why evaluating is not to be relied on; empty: it is."""
        return "evaluations hang; restart the monitor" if self._abandoned >= _ABANDONED else ""

    def wake(self) -> None:
        """Windows were sealed or re-opened."""
        self._news.set()

    async def run(self) -> None:
        """Evaluate until cancelled."""
        while True:
            self._news.clear()
            try:
                while await self.step():
                    pass
            except VedetteError as error:
                log.warning("windows wait to be evaluated", extra={"reason": error.message})
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
        for state in states:
            await self._evaluate(state)
        if states or self._clock.monotonic() < self._reopen_at:
            return len(states)
        began = self._clock.monotonic()
        keys = await asyncio.to_thread(self._reopened)
        for key in keys:
            await self._evaluate_again(key)
        took = self._clock.monotonic() - began
        self._reopen_at = began + max(self._limits.reopen_s, 4 * took)
        return len(keys)

    def close(self) -> None:
        """Let go of the thread; an evaluation that hangs is left to the end of the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _sealed(self) -> list[WindowState]:
        with self._store.read() as snapshot:
            return snapshot.sealed(_AT_ONCE)

    def _reopened(self) -> list[WindowKey]:
        with self._store.read() as snapshot:
            return snapshot.reopened(_AT_ONCE)

    async def _evaluate(self, state: WindowState) -> None:
        monitor, attempts = await asyncio.to_thread(self._begin, state.key)
        if monitor is None:
            return
        now = self._clock.time()
        if attempts > ATTEMPTS:
            reason = f"the monitor died {ATTEMPTS} times while it evaluated this window"
            execution = evaluation.failed(state, monitor, reason, now)
        else:
            case, version = await self._case(state, monitor)
            work = _Work(case, version, None, now)
            execution = await self._bounded(work, state, monitor, now)
        await asyncio.to_thread(self._put, execution, state, monitor)
        self._after(execution, monitor)

    def _begin(self, key: WindowKey) -> tuple[Monitor | None, int]:
        """The monitor, and how often this window was begun; None: nobody wants its result any more."""
        with self._store.transaction() as tx:
            try:
                monitor = tx.monitor(key.monitor)
            except NotFound:
                return None, 0
            if monitor.status is MonitorStatus.STOPPED:
                tx.drop_windows([key])
                return None, 0
            return monitor, tx.count_attempt(key)

    async def _case(self, state: WindowState, monitor: Monitor) -> tuple[Case, ModelVersion | None]:
        case = Case(state, monitor)
        if not state.rows:
            return case, None
        model = state.model or self._references.model_of(monitor.endpoint)
        version = await self._references.version(model, state.key.version) if model else None
        if version is None:
            return replace(case, missing="the model version is not known to the registry (any more)"), None
        reference = await self._references.reference(model, version.version, monitor.baseline)
        missing = f"no baseline {monitor.baseline!r} of {model}:{version.version}"
        outcomes = None
        if any(settings.check in QUALITY for settings in monitor.checks):
            outcomes = await asyncio.to_thread(self._outcomes, state)
        return replace(
            case, signature=version.signature, reference=reference, missing=missing, outcomes=outcomes
        ), version

    def _outcomes(self, state: WindowState) -> Outcomes | None:
        with self._store.read() as snapshot:
            return outcomes_of(snapshot, state.endpoint, state.key)

    async def _bounded(self, work: _Work, state: WindowState, monitor: Monitor, now: float) -> Execution:
        """The result, or that there is none: a thread that hangs is left behind."""
        if work.version is not None and any(settings.check in ASKING for settings in monitor.checks):
            work.folder = await self._references.graph(work.version)
        future = asyncio.get_running_loop().run_in_executor(self._threads, work.run)
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await asyncio.shield(future)
        except TimeoutError:
            self._abandoned += 1
            self._threads.shutdown(wait=False)
            self._threads = ThreadPoolExecutor(1, "evaluation")
            reason = f"the evaluation took longer than {self._limits.timeout_s:g} s"
        except VedetteError as error:
            reason = f"the window cannot be evaluated: {error.message}"
        except Exception:
            log.exception("an evaluation failed unexpectedly", extra={"monitor": monitor.name})
            reason = "internal error, see the log of the monitor service"
        return evaluation.failed(state, monitor, reason, now)

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

    async def _evaluate_again(self, key: WindowKey) -> None:
        """Make the checks of ground truth again; nothing is to be done where the window has no result yet."""
        monitor, previous, profile = await asyncio.to_thread(self._earlier, key)
        if monitor is None or previous is None:
            return
        state = WindowState(key, previous.endpoint, previous.end, True, previous.rows, previous.counts, profile=profile)
        now = self._clock.time()
        case, version = await self._case(state, monitor)
        work = _Work(case, version, previous, now)
        execution = await self._bounded(work, state, monitor, now)
        if execution.revision == previous.revision:  # it failed: what was known before stays
            execution = replace(previous, revision=previous.revision + 1, reason=execution.reason, evaluated_at=now)
        await asyncio.to_thread(self._put_again, execution, monitor)
        self._after(execution, monitor)

    def _earlier(self, key: WindowKey) -> tuple[Monitor | None, Execution | None, bytes]:
        """The monitor, the result before and the window's profile as far as they are there; else the mark goes."""
        with self._store.transaction() as tx:
            try:
                monitor = tx.monitor(key.monitor)
                previous = tx.execution(evaluation.execution_id(key))
            except NotFound:
                tx.close_again(key)
                return None, None, b""
            if not any(settings.check in QUALITY for settings in monitor.checks):
                tx.close_again(key)
                return None, None, b""
            try:
                return monitor, previous, tx.profile(previous.id)
            except NotFound:
                return monitor, previous, b""

    def _put_again(self, execution: Execution, monitor: Monitor) -> None:
        key = WindowKey(execution.monitor, execution.variant, execution.version, execution.segment, execution.start)
        with self._store.transaction() as tx:
            tx.close_again(key)
            try:
                tx.put_execution(execution)
            except NotFound:
                return
            notifications = self._record(tx, execution, monitor)
        self._told(notifications)

    def _record(self, tx: MonitorTransaction, execution: Execution, monitor: Monitor) -> list[Notification]:
        return alerts.record(execution, tx.alerts, monitor, execution.evaluated_at, repeat_s=self._repeat_s)

    def _after(self, execution: Execution, monitor: Monitor) -> None:
        name = "vedette_monitor_windows_total"
        self._metrics.counter(name, monitor=monitor.name, outcome=_outcome(execution)).inc()
        self.scores.show(execution)
        self._stored(execution, monitor)


class _Work:
    """One evaluation, to be run in a thread."""

    def __init__(self, case: Case, version: ModelVersion | None, previous: Execution | None, now: float) -> None:
        self.case = case
        self.version = version
        self.folder: Path | None = None
        self._previous = previous
        self._now = now

    def run(self) -> Execution:
        """Evaluate, with the model at hand where its files are."""
        if self.folder is None or self.version is None:
            return self._evaluate(self.case)
        with Predictor(self.folder, self.version.signature) as predict:
            return self._evaluate(replace(self.case, predict=predict))

    def _evaluate(self, case: Case) -> Execution:
        if self._previous is None:
            return evaluation.evaluate(case, self._now)
        return evaluation.evaluate_again(case, self._previous, self._now)


def _outcome(execution: Execution) -> str:
    if execution.status is ExecutionStatus.FAILED:
        return "failed"
    if execution.reason == NO_REQUESTS:
        return "empty"
    return "small" if execution.reason and not execution.results else "evaluated"
