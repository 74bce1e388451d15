"""What a stored result sets off: SageMaker's files in their folder, and a report where there are violations.

Rule: a result stands whether or not this works; files can be made again from the store.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from vedette.core.errors import NotFound, VedetteError
from vedette.entities.monitors import CheckResult, Execution, Monitor
from vedette.monitor.evaluation import ASKING
from vedette.monitor.references import References
from vedette.monitor.results.execution_files import ExecutionFolder
from vedette.monitor.results.reports import Reports, Samples
from vedette.monitor.results.window_documents import documents_of
from vedette.monitor.subjects import check_of, subject
from vedette.monitor.traffic.intake import all_monitors
from vedette.ports.monitors import MonitorStore
from vedette.profiles import Profile

log = logging.getLogger(__name__)

_MAX_WAITING = 1_000
_MISSED = 200
"""Newest results of each monitor that are looked at for files that were not written."""
_LOOK_AGAIN_S = 5.0
MAX_NAMED = 20
"""Violations that the heading of a report lists."""


class Publications:
    """Writes files in the background. `offer` is called on the event loop."""

    def __init__(self, store: MonitorStore, references: References, folder: ExecutionFolder) -> None:
        self._store = store
        self._references = references
        self._folder = folder
        self._waiting: asyncio.Queue[tuple[Execution, Monitor]] = asyncio.Queue(_MAX_WAITING)
        self._behind = True
        """Whether files may lack of what an earlier life stored, or of what did not fit into the queue."""
        self.reports: Reports | None = None

    def offer(self, execution: Execution, monitor: Monitor) -> None:
        """A result was stored."""
        if self._waiting.full():
            self._behind = True
            log.warning("files of an execution are written later: too many wait", extra={"execution": execution.id})
        else:
            self._waiting.put_nowait((execution, monitor))
        if execution.violations and monitor.reports == "violations" and self.reports is not None:
            self.reports.offer(execution.id)

    async def run(self) -> None:
        """Write until cancelled; what was left unwritten, once the registry has said what is served."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    execution, monitor = await self._waiting.get()
            except TimeoutError:
                if self._behind and self._references.synced:
                    await self.catch_up()
                continue
            await self._try(execution, monitor)
            self._waiting.task_done()

    async def catch_up(self) -> None:
        """Write the files that are missing of the newest results of each monitor."""
        self._behind = False
        try:
            monitors = await asyncio.to_thread(self._monitors)
            for monitor in monitors:
                for execution in await asyncio.to_thread(self._unwritten, monitor):
                    await self._try(execution, monitor)
        except (VedetteError, OSError) as error:
            self._behind = True
            log.warning("files of earlier executions were not written", extra={"reason": str(error)})

    async def _try(self, execution: Execution, monitor: Monitor) -> None:
        try:
            await asyncio.to_thread(self._write, execution, monitor)
        except (VedetteError, OSError) as error:
            log.warning("files of an execution were not written", extra={"reason": str(error)})

    def _monitors(self) -> list[Monitor]:
        with self._store.read() as snapshot:
            return all_monitors(snapshot)

    def _unwritten(self, monitor: Monitor) -> list[Execution]:
        with self._store.read() as snapshot:
            newest, _ = snapshot.executions(limit=_MISSED, monitor=monitor.name)
        wanted = [execution for execution in newest if execution.rows]
        return [each for each in wanted if not self._folder.has(each, alone=self._is_alone(each, monitor))]

    async def settled(self) -> None:
        """Wait until everything that was offered is written."""
        await self._waiting.join()

    def _write(self, execution: Execution, monitor: Monitor) -> None:
        profile = self._profile(execution.id)
        if profile is None:
            return  # nothing was compared: an empty window leaves no files
        with self._store.read() as snapshot:
            files = documents_of(execution, monitor, snapshot, self._references, profile)
        self._folder.write(execution, files, alone=self._is_alone(execution, monitor))

    def _is_alone(self, execution: Execution, monitor: Monitor) -> bool:
        where = (execution.endpoint, execution.variant, execution.version)
        return monitor.window_s >= 3600 and not monitor.segments and self._references.is_alone(*where)

    def _execution(self, execution_id: str) -> tuple[Execution, Monitor]:
        with self._store.read() as snapshot:
            execution = snapshot.execution(execution_id)
            return execution, snapshot.monitor(execution.monitor)

    def _profile(self, execution_id: str) -> Profile | None:
        try:
            with self._store.read() as snapshot:
                return Profile.from_bytes(snapshot.profile(execution_id))
        except NotFound:
            return None

    async def samples(self, execution_id: str) -> Samples:
        """What a report of an execution compares.

        Raises:
            NotFound: the window's profile or its baseline is not kept any more.
        """
        execution, monitor = await asyncio.to_thread(self._execution, execution_id)
        window = await asyncio.to_thread(self._profile, execution_id)
        profile = self._references.profile(execution.endpoint, execution.version, monitor.baseline)
        if window is None or profile is None:
            raise NotFound(f"the profile of execution {execution_id!r}, or its baseline, is not kept (any more)")
        of_drift = [result for result in execution.results if _is_drift(result)]
        checked = any(result.outcome != "skipped" for result in of_drift)
        violated = [result for result in of_drift if result.outcome == "violated"]
        return Samples(
            window.sample.columns(),
            profile.sample.columns(),
            tuple(result.feature for result in violated if result.feature),
            bool(violated) if checked else None,
            _heading(execution, drift=checked),
        )

    async def known(self, execution_id: str) -> None:
        """Raises NotFound where there is no such execution."""
        await asyncio.to_thread(self._execution, execution_id)


def _is_drift(result: CheckResult) -> bool:
    """Whether a result compares distributions: `data_quality` does where SageMaker's own comparison is asked for."""
    check = check_of(result.check)
    return "drift" in result.kind if check == "data_quality" else check not in ASKING


def _heading(execution: Execution, *, drift: bool) -> tuple[str, ...]:
    """What a report is about, in lines: the window, what is violated, and what the page below shows."""
    start, end = (datetime.fromtimestamp(moment, UTC) for moment in (execution.start, execution.end))
    series = f"{execution.endpoint}, variant {execution.variant}, version {execution.version} {execution.segment}"
    violated = [f"{result.feature or subject(result)}: {result.description}" for result in execution.violations]
    return (
        f"Monitor {execution.monitor}: {series.strip()}",
        f"Window {start:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC, {execution.rows} rows; {execution.status.value}",
        _verdict(execution),
        *violated[:MAX_NAMED],
        *([f"and {len(violated) - MAX_NAMED} more"] if len(violated) > MAX_NAMED else []),
        _BELOW + (_OF_DRIFT if drift else _NO_DRIFT),
    )


_BELOW = "Below, drawn by Evidently: a sample of the window's rows beside a sample of the baseline's. "
_OF_DRIFT = (
    "A column stands there as violated where a drift check of this monitor says so, which allows for chance; "
    "the distance is one of the samples, and no threshold is compared with it."
)
_NO_DRIFT = "This monitor checks no drift of columns, or could not in this window: nothing below is a verdict."


def _verdict(execution: Execution) -> str:
    """Which checks are violated, each with its features."""
    features: dict[str, list[str]] = {}
    for result in execution.violations:
        features.setdefault(subject(result), []).append(result.feature or "the window")
    named = (
        f"{check} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" for check, names in features.items()
    )
    return f"Violated: {', '.join(named)}" if features else "Nothing is violated"
