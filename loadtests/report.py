"""A result as people read it: tables for the terminal, and the table of the README, both from the saved document.

`python -m loadtests.report [FILE]` prints a saved result again; `--readme` writes its tables between the README's
marks. Rule: nothing is measured here, and nothing shown that the document does not have.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

from loadtests import open_loop
from loadtests.compare import SAVED
from loadtests.contest import Row, beside
from loadtests.contestants import OURS

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- python -m loadtests.report --readme -->"
END = "<!-- end of the benchmark's tables -->"
WAYS = {"json": "HTTP JSON", "binary": "HTTP binary", "grpc": "gRPC"}
RIGHT = ("in flight", "requests/s", "p50 ms", "p99 ms", "RSS MB", f"{OURS} answers", "asked", "measured",
         "batch 1", "batch 8", "batch 32")  # fmt: skip


def whole(document: dict[str, Any]) -> RenderableType:
    """Everything that was measured, one table under the other."""
    settings = document["settings"]
    parts: list[RenderableType] = [_rows(document), _limits(document)]
    if document["open_loop"]:
        parts.append(open_loop.table([open_loop.Row(**row) for row in document["open_loop"]]))
    parts.append(_figures(document))
    if document["absent"]:
        parts.append(_absent(document))
    machine = document["machine"]
    parts.append(
        f"{settings['rounds']} rounds of {settings['seconds']} s a run, {settings['threads']} CPU for the server, one "
        f"for the generator; {machine['cpu']}, {machine['cpus']} CPUs; heats: {settings['heats']}"
    )
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    drawn = Table(title=title, title_justify="left")
    for column in columns:
        drawn.add_column(column, justify="right" if column in RIGHT else "left")
    return drawn


def _rows(document: dict[str, Any]) -> Table:
    drawn = _table("One row a request, medians of rounds in turn", "model", "protocol", "in flight", "server",
                   "requests/s", "p50 ms", "p99 ms", "RSS MB", f"{OURS} answers")  # fmt: skip
    last = None
    for row, ratio in beside([Row(**row) for row in document["rows"]], OURS):
        if last and last != row.heat:
            drawn.add_section()
        head = ("", "", "") if last == row.heat else (row.model, WAYS[row.protocol], str(row.in_flight))
        drawn.add_row(*head, row.server, f"{row.requests_per_s:,.0f}", f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}",
                      f"{row.rss_mb:.0f}", times(ratio))  # fmt: skip
        last = row.heat
    return drawn


def times(ratio: float | None) -> str:
    """A ratio with as many digits as mean something."""
    return "" if ratio is None else f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def _limits(document: dict[str, Any]) -> Table:
    drawn = _table("ONNX Runtime in process, rows/s", "model",
                   *(f"batch {batch}" for batch in (1, 8, 32)))  # fmt: skip
    for model, rates in document["limits"].items():
        drawn.add_row(model, *(f"{rates[batch]:,.0f}" for batch in ("1", "8", "32")))
    return drawn


def _figures(document: dict[str, Any]) -> Table:
    drawn = _table("Figures", "figure", "asked", "measured", "met")
    for figure in document["figures"]:
        drawn.add_row(figure["what"], *told(figure))
    return drawn


def told(figure: dict[str, Any]) -> tuple[str, str, str]:
    """Asked, measured, met, in words."""
    bound = "under" if figure["at_most"] else "at least"
    unit = figure["unit"] if figure["unit"] == "x" else f" {figure['unit']}"
    if figure["measured"] is None:
        return f"{bound} {figure['asked']:g}{unit}", "not measured", "no"
    digits = 0 if figure["unit"] == "MB" else 2
    met = "yes" if figure["met"] else "no"
    return f"{bound} {figure['asked']:g}{unit}", f"{figure['measured']:.{digits}f}{unit}", met


def _absent(document: dict[str, Any]) -> Table:
    drawn = _table("Not measured", "server", "reason")
    for absence in document["absent"]:
        drawn.add_row(absence["server"], absence["reason"])
    return drawn


def markdown(document: dict[str, Any]) -> str:
    """The README's two tables: everyone at the reference model, and the figures; who is missing, and where it was."""
    machine, settings = document["machine"], document["settings"]
    said = (
        f"{document['at'][:10]}, {machine['cpu']}, {machine['cpus']} CPUs: one for the server, one for the load "
        f"generator; medians of {settings['rounds']} rounds in turn, {settings['seconds']} s a run."
    )
    absent = [f"Not measured: {each['server']} ({each['reason']})." for each in document["absent"]]
    return "\n".join([
        *_markdown_rows(document), "", *_markdown_figures(document), "", " ".join([said, *absent])
    ])  # fmt: skip


def in_readme(page: str, document: dict[str, Any]) -> str:
    """The page with these tables between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no marks for the tables")
    return f"{before}{begin}\n{markdown(document)}\n{end}{after}"


def _markdown_rows(document: dict[str, Any]) -> Iterator[str]:
    yield f"| 30-64-2 network, one row a request | in flight | requests/s | p50 | p99 | memory | {OURS} answers |"
    yield "|---|---|---|---|---|---|---|"
    for row, ratio in beside([Row(**row) for row in document["rows"]], OURS):
        if row.model == "reference" and row.protocol in ("json", "grpc"):
            yield (
                f"| {row.server}, {WAYS[row.protocol]} | {row.in_flight} | {row.requests_per_s:,.0f} "
                f"| {row.p50_ms:.2f} ms | {row.p99_ms:.2f} ms | {row.rss_mb:.0f} MB | {times(ratio)} |"
            )


def _markdown_figures(document: dict[str, Any]) -> Iterator[str]:
    yield "| figure | asked | measured | met |"
    yield "|---|---|---|---|"
    for figure in document["figures"]:
        yield f"| {figure['what']} | {' | '.join(told(figure))} |"


def main() -> None:
    """Print a saved result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=SAVED)
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    given = parser.parse_args()
    document = json.loads(given.file.read_text())
    if given.readme:
        README.write_text(in_readme(README.read_text(), document))
    else:
        Console(width=None if sys.stdout.isatty() else 150).print(whole(document))


if __name__ == "__main__":
    main()
