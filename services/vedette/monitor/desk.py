"""What people do at the monitor: monitors, their windows and results; the other parts stand beside, as `Desk`.

Rule: methods are plain, block on the store, and take and give the values of core (`begin` asks the registry first,
and does not block); http.py and rpc.py only render.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vedette.core.clock import Clock
from vedette.core.errors import Conflict, InvalidArgument, NotFound
from vedette.core.models import check_name
from vedette.entities.monitors import CheckResult, Execution, ExecutionStatus, Monitor, MonitorStatus
from vedette.monitor.alerting import alerts
from vedette.monitor.alerting.alert_list import Alerts
from vedette.monitor.alerting.alerts import check_rule
from vedette.monitor.alerting.receivers import Webhooks
from vedette.monitor.checks import make_check
from vedette.monitor.checks.bias import Bias
from vedette.monitor.quality.facets import parse_facets
from vedette.monitor.reference_data.baselines import Baselines
from vedette.monitor.references import References
from vedette.monitor.results.execution_files import check_file_name
from vedette.monitor.results.reports import Reports
from vedette.monitor.results.scores import Scores
from vedette.monitor.results.window_documents import documents_of
from vedette.monitor.subjects import check_labels
from vedette.monitor.traffic.labels import Labels
from vedette.monitor.traffic.segments import MAX_SEGMENTS
from vedette.monitor.traffic.windows import check_pace
from vedette.ports.monitors import MonitorSnapshot, MonitorStore, MonitorTransaction
from vedette.profiles import Profile

MAX_MONITORS = 1_000
MAX_CHECKS = 50
MAX_WEBHOOKS = 20
_MAX_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts of the monitor that its transports call."""

    monitors: Monitors
    executions: Results
    labels: Labels
    alerts: Alerts
    webhooks: Webhooks
    baselines: Baselines
    reports: Reports


def check_monitor(monitor: Monitor) -> None:
    """Refuse settings that can never work. Whether endpoint, baseline and webhooks exist is not asked.

    Raises:
        InvalidArgument: naming the setting.
    """
    check_name(monitor.name, "monitor name")
    check_name(monitor.endpoint, "endpoint name")
    check_name(monitor.baseline, "baseline name")
    check_pace(monitor.window_s, monitor.lateness_s, monitor.schedule)
    check_rule(monitor.alert)
    if not 1 <= len(monitor.checks) <= MAX_CHECKS:
        raise InvalidArgument(f"a monitor has 1 to {MAX_CHECKS} checks")
    for settings in monitor.checks:
        if isinstance(make_check(settings), Bias) and not settings.parameters.get("facets"):
            raise InvalidArgument("the check 'bias' needs 'facets': whom to watch, as Sex=F, Age>45 or Sex")
    if len(set(check_labels(monitor.checks))) < len(monitor.checks):
        raise InvalidArgument("a check stands there twice")
    if not 0 <= monitor.min_rows <= 10**9:
        raise InvalidArgument("min_rows must be from 0 to 1000000000")
    if len(monitor.segments) > MAX_SEGMENTS or len(set(monitor.segments)) < len(monitor.segments):
        raise InvalidArgument(f"segments are at most {MAX_SEGMENTS} different features")
    if not all(0 < len(name) <= _MAX_TEXT and "=" not in name for name in monitor.segments):
        raise InvalidArgument("a segment is the name of a feature, without '='")
    if len(monitor.webhooks) > MAX_WEBHOOKS:
        raise InvalidArgument(f"a monitor tells at most {MAX_WEBHOOKS} webhooks")
    for name in monitor.webhooks:
        check_name(name, "webhook name")


class Monitors:
    """Monitors as people see them. `changed` hears of every change."""

    def __init__(
        self, store: MonitorStore, references: References, *, clock: Clock, scores: Scores, changed: Callable[[], None]
    ) -> None:
        self._store = store
        self._references = references
        self._clock = clock
        self._scores = scores
        self._changed = changed

    async def begin(self, monitor: Monitor) -> Monitor:
        """`create`, once the registry was asked for the baseline: so the status says at once that there is none."""
        check_monitor(monitor)
        await self._references.look_for(monitor.endpoint, monitor.baseline)
        return await asyncio.to_thread(self.create, monitor)

    def create(self, monitor: Monitor) -> Monitor:
        """Begin to watch. The endpoint need not exist yet: the monitor is `Pending` until it does.

        Raises:
            InvalidArgument: settings that can never work, an unknown webhook, or a segment or a facet that is no column
                of what the endpoint serves.
        """
        check_monitor(monitor)
        now = self._clock.time()
        fresh = replace(monitor, status=MonitorStatus.PENDING, reason="", created_at=now, updated_at=now)
        with self._store.transaction() as tx:
            if len(tx.monitors(limit=MAX_MONITORS)[0]) >= MAX_MONITORS:
                raise Conflict(f"there are {MAX_MONITORS} monitors, which is as many as there may be")
            self._check_known(tx, fresh)
            fresh = self.judged(fresh)
            tx.insert_monitor(fresh)
        self._changed()
        return fresh

    def get(self, name: str) -> Monitor:
        """One monitor."""
        with self._store.read() as snapshot:
            return snapshot.monitor(name)

    def page(
        self, *, limit: int, page_token: str = "", endpoint: str = "", status: MonitorStatus | None = None
    ) -> tuple[list[Monitor], str]:
        """By name; with `status` a page may be short before the last."""
        with self._store.read() as snapshot:
            found, following = snapshot.monitors(limit=limit, after=page_token, endpoint=endpoint)
        return [monitor for monitor in found if status in {None, monitor.status}], following

    def update(self, monitor: Monitor) -> Monitor:
        """Replace the settings; windows that would be cut otherwise begin anew. A paused monitor stays paused.

        Raises what `create` raises.
        """
        check_monitor(monitor)
        with self._store.transaction() as tx:
            before = tx.monitor(monitor.name)
            self._check_known(tx, monitor)
            after = replace(monitor, status=before.status, reason=before.reason, created_at=before.created_at)
            after = self.judged(replace(after, updated_at=self._clock.time()))
            tx.update_monitor(after)
        self._changed()
        return after

    def delete(self, name: str) -> None:
        """Delete the monitor with its executions and alerts."""
        with self._store.transaction() as tx:
            monitor = tx.monitor(name)
            alerts.retire(tx.alerts, monitor, self._clock.time())
            tx.delete_monitor(name)
        self._scores.forget(name)
        self._changed()

    def pause(self, name: str) -> Monitor:
        """Evaluate nothing until `resume`; open windows are dropped."""
        return self._switch(name, MonitorStatus.STOPPED)

    def resume(self, name: str) -> Monitor:
        """Evaluate again."""
        return self._switch(name, MonitorStatus.PENDING)

    def _switch(self, name: str, status: MonitorStatus) -> Monitor:
        with self._store.transaction() as tx:
            before = tx.monitor(name)
            paused = before.status is MonitorStatus.STOPPED
            if paused == (status is MonitorStatus.STOPPED):
                return before
            after = replace(before, status=status, reason="", updated_at=self._clock.time())
            after = self.judged(after)
            tx.update_monitor(after)
        self._changed()
        return after

    def judged(self, monitor: Monitor) -> Monitor:
        """The monitor with the status that is true of it now: what is missing makes it `Pending`."""
        if monitor.status is MonitorStatus.STOPPED:
            return monitor
        reason = self._references.missing(monitor.endpoint, monitor.baseline)
        status = MonitorStatus.PENDING if reason else MonitorStatus.SCHEDULED
        return replace(monitor, status=status, reason=reason or self._without_columns(monitor))

    def _check_known(self, tx: MonitorTransaction, monitor: Monitor) -> None:
        """Refuse names of what is not there, as far as that is known."""
        webhooks = [webhook.name for webhook in tx.alerts.webhooks()] if monitor.webhooks else []
        for name in monitor.webhooks:
            if name not in webhooks:
                raise InvalidArgument(f"there is no webhook {name!r}{_nearest(name, webhooks)}")
        wanted = _columns_of(monitor)
        known = self._references.columns(monitor.endpoint) if wanted else None
        for what, name in wanted if known is not None else ():
            if known is not None and name not in known.names:
                hint = _nearest(name, sorted(known.names))
                raise InvalidArgument(
                    f"{what} {name[:80]!r}: the model of {monitor.endpoint!r} has no such column{hint}"
                )

    def _without_columns(self, monitor: Monitor) -> str:
        """Which segments and facets have no results, and why; empty: none, as far as is known."""
        wanted = _columns_of(monitor)
        known = self._references.columns(monitor.endpoint) if wanted else None
        if known is None:
            return ""
        reasons = [
            f"{what} {name[:80]!r} is no column of the model" if name not in known.names
            else f"{what} {name[:80]!r} is excluded from capture"
            for what, name in wanted
            if name not in known.names or name in known.excluded
        ]  # fmt: skip
        return "; ".join(reasons)


class Results:
    """Windows and what came of them."""

    def __init__(self, store: MonitorStore, references: References, *, clock: Clock) -> None:
        self._store = store
        self._references = references
        self._clock = clock

    def page(
        self,
        monitor: str,
        *,
        limit: int,
        page_token: str = "",
        status: ExecutionStatus | None = None,
        since: float = 0.0,
    ) -> tuple[list[Execution], str]:
        """Executions of a monitor, newest window first. `NotFound` when there is no such monitor."""
        with self._store.read() as snapshot:
            snapshot.monitor(monitor)
            return snapshot.executions(limit=limit, after=page_token, monitor=monitor, status=status, since=since)

    def get(self, execution_id: str) -> Execution:
        """One execution."""
        with self._store.read() as snapshot:
            return snapshot.execution(execution_id)

    def file(self, execution_id: str, name: str) -> bytes:
        """One of SageMaker's files of an execution. `NotFound` when what it is made of is not kept any more."""
        check_file_name(name)
        with self._store.read() as snapshot:
            execution = snapshot.execution(execution_id)
            profile = _profile(snapshot, execution_id)
            monitor = snapshot.monitor(execution.monitor)
            files = documents_of(execution, monitor, snapshot, self._references, profile)
        if name not in files:
            raise NotFound(f"execution {execution_id!r} has no {name} (any more)")
        return files[name]

    def violations(
        self,
        *,
        limit: int,
        page_token: str = "",
        monitor: str = "",
        endpoint: str = "",
        feature: str = "",
        since: float = 0.0,
    ) -> tuple[list[tuple[Execution, CheckResult]], str]:
        """Violated results with their windows, newest first; a page holds those of `limit` executions.

        `NotFound` where there is no such monitor.
        """
        with self._store.read() as snapshot:
            if monitor:
                snapshot.monitor(monitor)
            found, following = snapshot.executions(
                limit=limit,
                after=page_token,
                monitor=monitor,
                endpoint=endpoint,
                status=ExecutionStatus.WITH_VIOLATIONS,
                since=since,
            )
        pairs = [(execution, result) for execution in found for result in execution.violations]
        return [pair for pair in pairs if feature in {"", pair[1].feature}], following

    def windows(self, monitor: str) -> list[dict[str, Any]]:
        """The open windows as of the last commit, with how far event time has come and how far it is behind."""
        with self._store.read() as snapshot:
            endpoint = snapshot.monitor(monitor).endpoint
            states = snapshot.windows(monitor=monitor, profiles=False)
            note = snapshot.note("endpoint", endpoint)
        watermark = float(note) if note else None
        lag = max(0.0, self._clock.time() - watermark) if watermark is not None else None
        return [
            {
                "variant": state.key.variant,
                "version": state.key.version,
                "segment": state.key.segment,
                "start": state.key.start,
                "end": state.end,
                "rows": state.rows,
                "counts": state.counts,
                "watermark": watermark,
                "lag_s": lag,
            }
            for state in states
        ]


def _columns_of(monitor: Monitor) -> list[tuple[str, str]]:
    """The columns of captured rows that a monitor is told to look at, with what they are to it."""
    found = [("segment", name) for name in monitor.segments]
    for settings in monitor.checks:
        check = make_check(settings)
        if isinstance(check, Bias):
            found += [("facet", facet.column) for facet in parse_facets(check.facets)]
            found += [("group_variable", check.group_variable)] if check.group_variable else []
        said = ((name, settings.parameters.get(name)) for name in ("inference_attribute", "probability_attribute"))
        found += [(name, str(value)) for name, value in said if value]
    return list(dict.fromkeys(found))


def _profile(snapshot: MonitorSnapshot, execution_id: str) -> Profile | None:
    try:
        return Profile.from_bytes(snapshot.profile(execution_id))
    except NotFound:
        return None


def _nearest(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name[:_MAX_TEXT], known, n=1)
    return f"; did you mean {found[0][:80]!r}?" if found else ""
