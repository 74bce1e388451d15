"""What commands print: tables and progress for people, JSON for programs.

Rule: into a pipe or a file go plain text and no colour codes; progress goes to standard error and only to
a terminal. `--json` prints one document and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def print_json(value: object) -> None:
    """Dataclasses, or plain values, as one indented document."""
    import msgspec

    typer.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def said(value: object, line: str, *, as_json: bool) -> None:
    """What a command that changes something tells: a line for people, or what it has changed as JSON."""
    if as_json:
        print_json(value)
    else:
        typer.echo(line)


class Table:
    """Rows under a heading: drawn on a terminal, tab-separated in a pipe."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._rows: list[tuple[str, ...]] = []

    def row(self, *cells: object) -> None:
        """Add a row."""
        self._rows.append(tuple(str(cell) for cell in cells))

    def show(self, *, empty: str = "nothing here") -> None:
        """Print the table; `empty` is what a person reads when there are no rows."""
        if not sys.stdout.isatty():
            for cells in (self._columns, *self._rows):
                typer.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in cells))
            return
        if not self._rows:
            typer.echo(empty)
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(*self._columns, box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for cells in self._rows:
            table.add_row(*(Text(cell, style=STATUS_STYLES.get(cell, "")) for cell in cells))
        Console().print(table)


STATUS_STYLES = {
    "InService": "green", "Approved": "green", "Failed": "red", "Rejected": "red",
    "Creating": "yellow", "Updating": "yellow", "RollingBack": "yellow", "Deleting": "yellow",
    "PendingManualApproval": "yellow", "OutOfService": "dim",
    "Scheduled": "green", "Pending": "yellow", "Stopped": "dim", "Completed": "green", "CompletedWithViolations": "red",
    "firing": "bold red", "pending": "yellow", "resolved": "green", "delivered": "green", "waiting": "yellow",
    "dead": "red",
}  # fmt: skip


def facts(*pairs: tuple[str, object]) -> None:
    """Name and value, line by line; what is empty is left out."""
    shown = [(name, str(value)) for name, value in pairs if value not in ("", (), [], {}, None)]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        typer.echo(f"{name:<{width}}  {value}")


@contextmanager
def upload_progress(title: str, *, then: str = "the registry checks it") -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar for an upload, fed with bytes sent and bytes in all; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)

        def advance(sent: int, total: int) -> None:
            done = f"{title}: {then}" if sent == total else title
            progress.update(task, completed=sent, total=total, description=done)

        yield advance


@contextmanager
def spinner(title: str) -> Iterator[None]:
    """Show that something is under way, where somebody would see it."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(title):
        yield


def when(seconds: float) -> str:
    """A moment as people read it, in local time; empty for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def size(count: float) -> str:
    """A number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def pairs_of(texts: list[str], option: str) -> dict[str, str]:
    """`key=value` options as a dictionary; a wrong one is a usage error."""
    found: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"write key=value, not {text!r}", param_hint=option)
        found[key] = value
    return found


def names_of(text: str) -> tuple[str, ...]:
    """A comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def specs(tensors: Any) -> str:
    """Inputs or outputs in one line: `x FP32 [-1, 30]`."""
    return ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in tensors)
