"""Evidently reports for people: drawn from the window's sample and the baseline's, in a child process.

The only file that knows Evidently, and only the child imports it: it takes seconds and hundreds of megabytes,
and what it reads came from strangers. Its telemetry is off.

Rule: one report at a time, bounded in rows, time, memory and number kept; a report is a file in place or none.
"""

from __future__ import annotations

import asyncio
import html
import json
import logging
import os
import re
import resource
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vedette.core.errors import Internal, NotFound, Overloaded, Unavailable, VedetteError
from vedette.core.metrics import Metrics
from vedette.core.models import check_name
from vedette.core.tensors import Array
from vedette.monitor.children import run_child

log = logging.getLogger(__name__)

Columns = Mapping[str, Array]
CONTENT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
"""Names of columns and categories came from strangers: a report may run its own scripts and reach nothing."""
MAX_CATEGORY_CHARS = 200
_WAITING = 32
_ASKING = 16
"""Callers who wait for reports at once."""
_CHILD_BYTES = 6 << 30
_QUIET = {"DO_NOT_TRACK": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""One thread, and the switch that keeps Evidently from calling home."""
_NEVER = 1e9
"""A threshold that no distance reaches; infinity would be no JSON in the page."""


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """Where reports lie and what drawing one may cost."""

    folder: Path
    max_rows: int = 5_000
    max_reports: int = 200
    timeout_s: float = 180.0


@dataclass(frozen=True, slots=True)
class Samples:
    """What a report compares: rows of the window and of the baseline, by column."""

    window: Columns
    baseline: Columns
    drifted: tuple[str, ...] = ()
    """Columns that the monitor's checks of drift call violated: the report says the same of them, and of no others."""
    drift: bool | None = None
    """Whether a check of drift is violated; None: the monitor has none, and the report gives no verdict on drift."""
    heading: tuple[str, ...] = ()
    """Lines above the report: what it is about."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What the child is told besides the samples."""

    kinds: dict[str, str]
    """Column -> `numeric` or `text`, in order."""
    drifted: list[str]
    drift: bool | None
    heading: list[str]


class Reports:
    """Draws, keeps and finds reports by the id of their execution. Used on the event loop.

    Those that somebody asks for come before those that were offered. `known` raises NotFound for an execution that
    does not exist.
    """

    def __init__(
        self,
        settings: ReportSettings,
        samples: Callable[[str], Awaitable[Samples]],
        *,
        metrics: Metrics,
        known: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._samples = samples
        self._metrics = metrics
        self._known = known
        self._one = asyncio.Lock()
        self._asking = 0
        self._calm = asyncio.Event()
        self._calm.set()
        self._waiting: asyncio.Queue[str] = asyncio.Queue(_WAITING)

    def offer(self, execution: str) -> bool:
        """Have a report drawn in its turn; False when too many wait (it can be asked for later)."""
        try:
            self._waiting.put_nowait(execution)
        except asyncio.QueueFull:
            self._count("refused")
            return False
        return True

    async def run(self) -> None:
        """Draw what was offered, one after another and while nobody asks for another, until cancelled."""
        while True:
            execution = await self._waiting.get()
            await self._calm.wait()
            try:
                await self._place(execution)
            except VedetteError as error:
                log.warning("a report could not be drawn", extra={"execution": execution, "reason": error.message})

    async def draw(self, execution: str) -> str:
        """The path under which the report is served; drawn now unless it is there, before those that were offered.

        Raises:
            NotFound: no such execution, or its sample is not kept any more, or there is no baseline.
            Overloaded: too many people wait already.
            DeadlineExceeded, Internal: the child took too long, or failed.
            Unavailable: there is no room for it on the disk, or no process could be started.
        """
        target = self._file(execution)
        if await asyncio.to_thread(target.exists):
            return f"/reports/{target.name}"
        if self._known is not None:
            await self._known(execution)
        if self._asking >= _ASKING:
            raise Overloaded(f"{_ASKING} people wait for reports already; ask again later")
        self._asking += 1
        self._calm.clear()
        try:
            return await self._place(execution)
        finally:
            self._asking -= 1
            if not self._asking:
                self._calm.set()

    async def check(self, name: str) -> None:
        """Raises NotFound where `page` could find no report of that file name."""
        if not name.endswith(".html"):
            raise NotFound("there is no such report")
        if not await asyncio.to_thread(self._file(name.removesuffix(".html")).exists) and self._known is not None:
            await self._known(name.removesuffix(".html"))

    async def page(self, name: str) -> bytes:
        """The report of that file name, whole; drawn now where it is not there (any more).

        Raises as `draw` does.
        """
        try:
            return await asyncio.to_thread(self.content, name)
        except NotFound:
            if not name.endswith(".html") or not self._settings.max_reports:
                raise
        await self.draw(name.removesuffix(".html"))
        return await asyncio.to_thread(self.content, name)

    async def _place(self, execution: str) -> str:
        target = self._file(execution)
        async with self._one:
            if not target.exists():
                samples = await self._samples(execution)
                try:
                    await self._drawn(samples, target)
                except OSError as error:
                    raise Unavailable(f"the report could not be drawn: {error.strerror}") from error
                self._count("drawn")
                await asyncio.to_thread(self._let_go)
        return f"/reports/{target.name}"

    def content(self, name: str) -> bytes:
        """The report of that file name, whole. Blocks. Raises NotFound."""
        stem, dot, suffix = name.rpartition(".")
        if not dot or suffix != "html":
            raise NotFound("there is no such report")
        try:
            return self._file(stem).read_bytes()
        except OSError:
            raise NotFound("there is no such report; draw it first") from None

    async def _drawn(self, samples: Samples, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".drawing-") as place:
            folder = Path(place)
            try:
                await asyncio.to_thread(_write_samples, samples, folder, self._settings.max_rows)
                await self._child(folder)
                (folder / "report.html").replace(target)
            except BaseException:
                self._count("failed")
                raise

    async def _child(self, folder: Path) -> None:
        status, said = await run_child(
            "vedette.monitor.results.reports",
            folder,
            timeout_s=self._settings.timeout_s,
            doing="drawing the report",
            env=_QUIET,
        )
        if status != 0 or not await asyncio.to_thread((folder / "report.html").exists):
            extra = {"status": status, "said": said[-2000:].decode(errors="replace")}
            log.error("drawing a report failed", extra=extra)
            raise Internal("the report could not be drawn; see the log of the monitor")

    def _let_go(self) -> None:
        """Keep the newest reports only."""
        kept = sorted(self._settings.folder.glob("*.html"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[self._settings.max_reports :]:
            path.unlink(missing_ok=True)

    def _file(self, execution: str) -> Path:
        return self._settings.folder / f"{check_name(execution, 'execution id')}.html"

    def _count(self, outcome: str) -> None:
        self._metrics.counter("vedette_reports_total", outcome=outcome).inc()


def _write_samples(samples: Samples, folder: Path, max_rows: int) -> None:
    """Both samples with the columns that both have, as numpy files; what each column is stands in a document."""
    shared = list({_tame(name): name for name in samples.baseline if name in samples.window}.values())
    kinds = {_tame(name): _kind(samples, name) for name in shared}
    drifted = [_tame(name) for name in shared if name in samples.drifted]
    outline = Outline(kinds, drifted, samples.drift, list(samples.heading))
    (folder / "outline.json").write_text(json.dumps(asdict(outline)))
    for which, columns in (("window", samples.window), ("baseline", samples.baseline)):
        arrays = {
            str(number): _cells(columns[name][:max_rows], kinds[_tame(name)]) for number, name in enumerate(shared)
        }
        np.savez(folder / f"{which}.npz", **dict[str, Any](arrays))


def _kind(samples: Samples, name: str) -> str:
    both = (samples.window[name], samples.baseline[name])
    return "text" if any(column.dtype.kind not in "biuf" for column in both) else "numeric"


def _cells(column: Array, kind: str) -> Array:
    if kind == "numeric":
        return np.asarray(column, np.float64)
    return np.array(["" if cell is None else _tame(str(cell)) for cell in column.tolist()], dtype=np.str_)


def _tame(text: str) -> str:
    """Text that cannot end the script in which Evidently puts it as it is: with look-alikes of the brackets."""
    return text[:MAX_CATEGORY_CHARS].replace("<", "\uff1c").replace(">", "\uff1e")


def main(folder: Path) -> int:
    """In the child: read the samples, write `report.html` beside them."""
    resource.setrlimit(resource.RLIMIT_AS, (_CHILD_BYTES, _CHILD_BYTES))
    os.nice(10)
    outline = Outline(**json.loads((folder / "outline.json").read_text()))
    samples = {which: dict(np.load(folder / f"{which}.npz")) for which in ("window", "baseline")}
    _evidently(outline, samples, folder / "drawn.html")
    page = (folder / "drawn.html").read_text(encoding="utf-8")
    (folder / "report.html").write_text(_headed(page, outline.heading), encoding="utf-8")
    return 0


def _headed(page: str, heading: Sequence[str]) -> str:
    """The page with lines of plain text above it."""
    lines = "".join(f"<div>{html.escape(line)}</div>" for line in heading)
    block = f'<div style="font: 15px sans-serif; margin: 24px; line-height: 1.6">{lines}</div>'
    return re.sub(r"<body[^>]*>", lambda match: match[0] + block, page, count=1)


def _evidently(outline: Outline, samples: dict[str, dict[str, Any]], target: Path) -> None:
    """Evidently's drift and summary, with the monitor's verdicts for its own: one window has one answer."""
    import warnings

    warnings.simplefilter("ignore")
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataSummaryPreset

    names = [*outline.drifted, *(name for name in outline.kinds if name not in outline.drifted)]
    numeric = [name for name in names if outline.kinds[name] == "numeric"]
    definition = DataDefinition(
        numerical_columns=numeric, categorical_columns=[name for name in names if name not in numeric]
    )
    window, baseline = (
        Dataset.from_pandas(
            pd.DataFrame({name: arrays[str(number)] for number, name in enumerate(outline.kinds)}),
            data_definition=definition,
        )
        for arrays in (samples["window"], samples["baseline"])
    )
    Report([_drift(names, outline), DataSummaryPreset()]).run(window, baseline).save_html(str(target))


def _drift(names: list[str], outline: Outline) -> Any:
    """Evidently's preset in our words."""
    from evidently.presets import DataDriftPreset

    class Compared(DataDriftPreset):  # type: ignore[misc,unused-ignore]
        """The preset whose page says what the monitor has found, and no verdict of its own."""

        def render(self, context: Any, child_widgets: Any = None) -> Any:
            """Its widgets, worded anew."""
            return _reworded(super().render(context, child_widgets), outline)

    return Compared(
        columns=names,
        num_method="wasserstein",  # in standard deviations, as the check `drift` has it
        cat_method="jensenshannon",
        per_column_threshold={name: 0.0 if name in outline.drifted else _NEVER for name in names},
        drift_share=0.001,  # one column is enough, as for an alert
    )


def _reworded(widgets: Sequence[Any], outline: Outline) -> list[Any]:
    """Without Evidently's thresholds, which are none of ours; where drift was not checked, without a word on it."""
    found = []
    for widget in widgets:
        params = widget.params
        if widget.type == "counter" and "Summary" not in str(params):
            if outline.drift is None or "Dataset Drift" not in str(params):
                continue
            said = "detected" if outline.drift else "NOT detected"
            count = f"{len(outline.drifted)} of {len(outline.kinds)} columns"
            label = f"Dataset Drift is {said} by the checks of this monitor, which name {count}"
            params["counters"] = [{"value": "Dataset Drift", "label": label}]
        elif widget.type == "counter":
            params["counters"] = [{"value": "", "label": "Columns of the window and of the baseline"}]
        elif widget.type == "big_table":
            _reword_table(widget, outline)
        found.append(widget)
    return found


def _reword_table(widget: Any, outline: Outline) -> None:
    """The table with the monitor's verdict for a column, and the distance as what it is."""
    titles = {"data_drift": "Violated", "stattest_name": "Measured as", "drift_score": "Distance"}
    columns = widget.params["columns"]
    widget.params["columns"] = [
        {**column, "title": titles.get(column["field"], column["title"])}
        for column in columns
        if outline.drift is not None or column["field"] != "data_drift"
    ]
    for row in widget.params["data"]:
        row["data_drift"] = "yes" if row.get("column_name") in outline.drifted else "no"
        for part in row.get("details", {}).get("parts", []):
            part["title"] = "MEAN" if part["title"] == "DATA DRIFT" else part["title"]
    widget.title = "How each column of the window compares with the baseline"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
