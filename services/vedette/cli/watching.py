"""`vedette monitor watch`: a live table of monitors, their newest windows and what is wrong.

Rule: it only reads, once a second; into a pipe it prints the table once.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from vedette.cli.output import STATUS_STYLES, Table, when
from vedette.core.alerts import Alert, AlertState
from vedette.core.errors import Unavailable

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

    from vedette.core.monitors import Execution, Monitor
    from vedette.sdk.sync.client import Client

PERIOD_S = 1.0
_WINDOWS = 24
COLUMNS = ("monitor", "status", "last windows", "newest", "rows", "now", "alerts", "features that moved")


@dataclass(frozen=True, slots=True)
class Line:
    """One monitor as the table shows it."""

    monitor: Monitor
    executions: list[Execution]
    """Newest first."""
    open_rows: int
    alerts: list[Alert]

    def cells(self) -> tuple[str, ...]:
        """The cells of the row, as text."""
        newest = self.executions[0] if self.executions else None
        firing = [alert for alert in self.alerts if alert.state is AlertState.FIRING]
        pending = [alert for alert in self.alerts if alert.state is AlertState.PENDING]
        moved = ", ".join(dict.fromkeys(alert.feature or alert.check for alert in firing))
        said = [f"{len(some)} {what}" for some, what in ((firing, "firing"), (pending, "pending")) if some]
        return (
            self.monitor.name,
            self.monitor.status.value,
            "".join(_mark(each) for each in reversed(self.executions)),
            when(newest.start) if newest else "none yet",
            str(newest.rows) if newest else "",
            str(self.open_rows),
            ", ".join(said) or "none",
            moved if len(moved) <= 80 else f"{moved[:80]}...",
        )


def watch(client: Client, name: str, *, once: bool) -> None:
    """Show the table; again every second on a terminal unless `once`, until Ctrl-C."""
    if once or not sys.stdout.isatty():
        table = Table(*COLUMNS)
        for line in _lines(client, name):
            table.row(*line.cells())
        table.show(empty="no monitors yet: vedette monitor create ENDPOINT")
        return
    from rich.live import Live

    try:
        with Live(_drawn(_lines(client, name)), auto_refresh=False) as live:
            while True:
                time.sleep(PERIOD_S)
                try:
                    live.update(_drawn(_lines(client, name)), refresh=True)
                except Unavailable:
                    continue  # the service is being restarted; the last table stays
    except KeyboardInterrupt:
        return


def _lines(client: Client, name: str) -> list[Line]:
    monitors = [client.monitors.get(name)] if name else list(client.monitors.list())
    return [
        Line(
            each,
            list(islice(client.monitors.executions(each.name), _WINDOWS)),
            sum(int(window.get("rows", 0)) for window in client.monitors.windows(each.name)),
            list(client.alerts.list(monitor=each.name)),
        )
        for each in monitors
    ]


def _mark(execution: Execution) -> str:
    """`x` violated, `.` fine, `-` nothing compared, `!` failed."""
    if execution.violations:
        return "x"
    if execution.status.value == "Failed":
        return "!"
    return "." if execution.results and not execution.reason else "-"


def _drawn(lines: list[Line]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(*COLUMNS, box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for line in lines:
        drawn.add_row(*(_styled(Text(cell), column) for cell, column in zip(line.cells(), COLUMNS, strict=True)))
    return drawn


def _styled(text: Text, column: str) -> Text:
    if column == "last windows":
        text.highlight_regex(r"x+|!+", "bold red")
        text.highlight_regex(r"\.+", "green")
        text.highlight_regex(r"-+", "dim")
    elif column == "alerts" and "firing" in text.plain:
        text.stylize("bold red")
    elif column == "status":
        text.stylize(STATUS_STYLES.get(text.plain, ""))
    return text
