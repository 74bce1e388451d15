"""`vedette monitor watch`: a live table of monitors, their newest windows and what is wrong.

Rule: it only reads, once a second; into a pipe it prints the table once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette.cli.output import STATUS_STYLES, Table, when
from vedette.core.errors import DeadlineExceeded, Unavailable
from vedette.entities.alerts import Alert, AlertState
from vedette.entities.monitors import ExecutionStatus

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as RichTable
    from rich.text import Text

    from vedette.entities.monitors import Execution, Monitor
    from vedette.sdk.sync.client import Client

Series = tuple[str, str]
"""Variant and segment."""
PERIOD_S = 1.0
_WINDOWS = 16
_NAME = 18
"""Characters of a name that are shown."""
_ALERTS = 12
"""Alerts that are listed below the table."""
_MOST = 256
"""Windows of one monitor that are read, over all of its variants and segments."""
COLUMNS = (
    "monitor", "status", "last windows", "newest", "rows", "now", "alerts", "features that moved", "variant", "segment"
)  # fmt: skip
_LEGEND = "bars: the worst score of a window, red from ▅ on: violated   · nothing compared   ! failed"
_BARS = "▁▂▃▄▅▆▇█"
_HALF = len(_BARS) // 2
"""The bar of a score that has just reached its threshold."""


@dataclass(frozen=True, slots=True)
class Line:
    """One monitor as the table shows it, or one variant and segment of it."""

    monitor: Monitor
    executions: list[Execution]
    """Newest first."""
    open_rows: int
    alerts: list[Alert]
    variant: str = ""
    segment: str = ""

    @property
    def newest(self) -> Execution | None:
        """The window that was evaluated last."""
        return self.executions[0] if self.executions else None

    def said(self) -> str:
        """How many alerts fire; else how many may soon."""
        counts = ((sum(alert.state is state for alert in self.alerts), state.value) for state in _SHOWN)
        return next((f"{count} {state}" for count, state in counts if count), "")

    def cells(self) -> tuple[str, ...]:
        """The cells of the row, as plain text."""
        firing = [alert for alert in self.alerts if alert.state is AlertState.FIRING]
        return (
            self.monitor.name,
            self.monitor.status.value,
            "".join(_mark(each) for each in reversed(self.executions)),
            when(self.newest.start) if self.newest else "none yet",
            str(self.newest.rows) if self.newest else "",
            str(self.open_rows),
            self.said() or "none",
            ", ".join(dict.fromkeys(alert.feature or f"(the window: {alert.check})" for alert in firing)),
            self.variant,
            self.segment,
        )


_SHOWN = (AlertState.FIRING, AlertState.PENDING)


def watch(client: Client, name: str, *, once: bool) -> None:
    """Show the table; again every second on a terminal unless `once`, until Ctrl-C."""
    lines = _lines(client, name)
    if not sys.stdout.isatty():
        table = Table(*COLUMNS)
        for line in lines:
            table.row(*line.cells())
        table.show()
        return
    from rich.console import Console

    console = Console()
    if once:
        console.print(drawn(lines, time.time()))
        return
    from rich.live import Live

    try:
        with Live(drawn(lines, time.time()), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(PERIOD_S)
                try:
                    lines = _lines(client, name)
                except (Unavailable, DeadlineExceeded):
                    continue  # the service is being restarted; the last table stays with its time
                live.update(drawn(lines, time.time()), refresh=True)
    except KeyboardInterrupt:
        return


def _lines(client: Client, name: str) -> list[Line]:
    monitors = [client.monitors.get(name)] if name else list(client.monitors.list())
    return [line for each in monitors for line in _lines_of(client, each)]


def _lines_of(client: Client, monitor: Monitor) -> list[Line]:
    """One for each variant and segment, the whole before its segments; one even where nothing was seen yet."""
    executions = _recent(client.monitors.executions(monitor.name))
    alerts = list(client.alerts.list(monitor=monitor.name))
    rows: dict[Series, int] = {}
    for window in client.monitors.windows(monitor.name):
        series = (str(window.get("variant", "")), str(window.get("segment", "")))
        rows[series] = rows.get(series, 0) + int(window.get("rows", 0))
    known = {*executions, *rows, *((alert.variant, alert.segment) for alert in alerts)} or {("", "")}
    return [
        Line(
            monitor,
            executions.get(series, []),
            rows.get(series, 0),
            [alert for alert in alerts if (alert.variant, alert.segment) == series],
            *series,
        )
        for series in sorted(known)
    ]


def _recent(executions: Iterator[Execution]) -> dict[Series, list[Execution]]:
    """The newest windows of each variant and segment: on for as long as the newest of all of them may be there."""
    found: dict[Series, list[Execution]] = {}
    for number, each in enumerate(executions):
        if number >= min(_WINDOWS * max(1, len(found)), _MOST):
            break
        found.setdefault((each.variant, each.segment), []).append(each)
    return {series: windows[:_WINDOWS] for series, windows in found.items()}


def _mark(execution: Execution) -> str:
    """`x` violated, `.` fine, `-` nothing compared, `!` failed."""
    if execution.violations:
        return "x"
    if execution.status is ExecutionStatus.FAILED:
        return "!"
    return "." if any(result.outcome == "ok" for result in execution.results) and not execution.reason else "-"


def drawn(lines: list[Line], now: float) -> RenderableType:
    """All that a terminal shows at a moment: the monitors, and below them what is wrong."""
    from rich.console import Group
    from rich.text import Text

    if not lines:
        return Text("no monitors yet: vedette monitor create ENDPOINT")
    alerts = [alert for line in lines for alert in line.alerts if alert.state in _SHOWN]
    alerts.sort(key=lambda alert: (_SHOWN.index(alert.state), alert.monitor, -(alert.value or 0.0)))
    parts: list[RenderableType] = [_monitors(lines, now)]
    reasons = [f"{_short(line.monitor.name)}: {line.monitor.reason}" for line in lines if line.monitor.reason]
    parts += [Text(f" {reason}", style="yellow") for reason in dict.fromkeys(reasons)]
    if alerts:
        parts.append(_alerts(alerts[:_ALERTS], now))
    if len(alerts) > _ALERTS:
        parts.append(Text(f" and {len(alerts) - _ALERTS} more: vedette alert list", style="dim"))
    parts.append(Text(f" {_clock(now, now)}   {_LEGEND}", style="dim"))
    return Group(*parts)


def _monitors(lines: list[Line], now: float) -> RichTable:
    from rich.text import Text

    names = [line.monitor.name for line in lines]
    several = len(set(names)) < len(names)
    table = _grid("monitor", *(["of"] if several else []), "status", "last windows", "newest", "rows", "open", "alerts")
    for line in lines:
        status, newest = line.monitor.status.value, line.newest
        of = f"{_short(line.variant)} {_short(line.segment)}".strip() if names.count(line.monitor.name) > 1 else ""
        table.add_row(
            Text(_short(line.monitor.name), style="bold"),
            *([Text(of)] if several else []),
            Text(status, style=STATUS_STYLES.get(status, "")),
            _strip(line.executions),
            Text(_clock(newest.start, now) if newest else "none yet"),
            Text(f"{newest.rows:,}" if newest else ""),
            Text(f"{line.open_rows:,}"),
            Text(line.said() or "none", style=STATUS_STYLES.get(line.said().partition(" ")[2], "")),
        )
    return table


def _alerts(alerts: list[Alert], now: float) -> RichTable:
    from rich.text import Text

    table = _grid("what moved", "state", "monitor", "check", "score", "limit", "since", "")
    for alert in alerts:
        state = Text(alert.state.value, style=STATUS_STYLES.get(alert.state.value, ""))
        where = f"{_short(alert.monitor)} {_short(alert.segment)}".strip()
        table.add_row(
            Text(_short(alert.feature, 28) or "(the window)", style="bold"),
            state,
            Text(where),
            Text(_short(alert.check)),
            Text(_number(alert.value)),
            Text(_number(alert.threshold)),
            Text(_clock(alert.since, now)),
            Text(f"seen by {_short(alert.acknowledged_by)}" if alert.acknowledged_by else "", style="dim"),
        )
    return table


def _grid(*columns: str) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    table = RichTable(box=box.SIMPLE_HEAD, header_style="bold dim", pad_edge=False, collapse_padding=True)
    for column in columns:
        right = column in ("rows", "open", "score", "limit")
        width = _WINDOWS if column == "last windows" else None
        table.add_column(column, justify="right" if right else "left", min_width=width)
    return table


def _short(text: str, most: int = _NAME) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _strip(executions: list[Execution]) -> Text:
    """A bar for each window, oldest first, as high as its worst score is near or over its threshold."""
    from rich.text import Text

    strip = Text()
    for each in reversed(executions):
        mark = _mark(each)
        if mark in ".x":
            strip.append(_BARS[_level(each)], style="red" if mark == "x" else "green")
        else:
            strip.append("!" if mark == "!" else "·", style="bold red" if mark == "!" else "dim")
    return strip


def _level(execution: Execution) -> int:
    """Below `_HALF`: nothing is violated. At the top: twice the threshold or more."""
    wanted = "violated" if execution.violations else "ok"
    scores = [
        result.value / result.threshold
        for result in execution.results
        if result.outcome == wanted and result.value is not None and result.threshold and result.threshold > 0
    ]
    level = int(max(scores, default=0.0) * _HALF)
    return min(max(level, _HALF), len(_BARS) - 1) if execution.violations else min(max(level, 0), _HALF - 1)


def _clock(seconds: float, now: float) -> str:
    """The time of day; with the date where it is not today's."""
    moment = time.localtime(seconds)
    same_day = moment[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M:%S" if same_day else "%m-%d %H:%M", moment)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
