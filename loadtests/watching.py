"""The figures of watching in one table: what is asked of capture, profiles, checks and monitor, and what was measured.

    python -m loadtests.watching [--markdown]

Reads what the programs named in the last column have saved in `loadtests/results`; it measures nothing itself. With
`--markdown` it prints the table as it stands in the README. Exit status 1: a figure that was asked for is missed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: what is measured, what was asked of it, what came out."""

    what: str
    asked: str
    measured: str
    met: bool
    program: str


def figures(results: Path = RESULTS) -> list[Figure]:
    """Every figure that a saved result holds."""
    read = {name: json.loads((results / f"{name}.json").read_text()) for name in SOURCES}
    return [figure for name, figures_of in SOURCES.items() for figure in figures_of(read[name])]


def _profiles(document: dict[str, Any]) -> Iterator[Figure]:
    rows, program = {row["what"]: row for row in document["rows"]}, "loadtests.profiles"
    theirs, ours = (rows[what]["seconds"] for what in (EVIDENTLY, OURS))
    faster = theirs / ours
    yield Figure("fold and check 100,000 x 30, against Evidently's DataDriftPreset on the same frame",
                 "25x faster", f"{faster:.0f}x ({theirs:.1f} s, {ours:.2f} s)", faster >= 25, program)  # fmt: skip
    note = next(row["note"] for what, row in rows.items() if "Parquet of" in what)
    speed, memory = _number(r"([\d,]+) rows/s a core", note), _number(r"RSS (\d+) MB", note)
    yield Figure("10,000,000 x 30 streamed from Parquet: speed", "300,000 rows/s a core",
                 f"{speed:,.0f} rows/s", speed >= 300_000, program)  # fmt: skip
    yield Figure("the same: memory", "under 400 MB", f"{memory:.0f} MB", memory < 400, program)


def _capture(document: dict[str, Any]) -> Iterator[Figure]:
    ratios = {row["capture"]: row["ratio"] for row in document["rows"]}
    for asked, capture, how in ((0.9, "on", "stopped"), (0.8, "on, monitor", "at work on the same CPU")):
        ratio = ratios[capture]
        what = f"throughput with 100 % capture, monitor {how}, against none"
        yield Figure(what, f"{asked:.2f}", f"{ratio:.2f}", round(ratio, 2) >= asked, "loadtests.capture")


def _startup(document: dict[str, Any]) -> Iterator[Figure]:
    seconds = next(row["seconds"] for row in document["rows"] if "monitor" in row["what"])
    yield Figure("`vedette serve monitor`, first start, to ready", "under 2 s", f"{seconds:.1f} s", seconds < 2,
                 "loadtests.startup")  # fmt: skip


def _detectors(document: dict[str, Any]) -> Iterator[Figure]:
    worst = max(document["null"], key=lambda row: row["alarms"] / row["windows"])
    share = worst["alarms"] / worst["windows"]
    what = f"false alarms a window, worst of {len(document['null'])} settings, baselines of 400 and 10,000 rows"
    yield Figure(what, f"{worst['alpha']:.0%} at most", f"{share:.2%} ({worst['alarms']} of {worst['windows']:,})",
                 share <= worst["alpha"], "loadtests.detectors")  # fmt: skip
    power = next(row for row in document["power"] if row["rows"] == row["baseline_rows"] == 10_000)
    found = power["found"] / power["windows"]
    yield Figure("a shift of 0.25 sigma in one of 30 features at 10,000 rows", "found in 99 %",
                 f"{found:.1%} of {power['windows']}", found >= 0.99, "loadtests.detectors")  # fmt: skip


EVIDENTLY, OURS = "Evidently DataDriftPreset, 100,000 x 30", "fold + drift check of all columns"
SOURCES = {"profiles": _profiles, "capture": _capture, "startup": _startup, "detectors": _detectors}
"""The saved results that the figures come from."""


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"the saved result does not say {pattern!r}: {text!r}")
    return float(found[1].replace(",", ""))


def markdown(rows: list[Figure]) -> str:
    """The table of the README."""
    lines = ["| | asked | measured | by |", "|---|---|---|---|"]
    for row in rows:
        missed = "" if row.met else ", **missed**"
        lines.append(f"| {row.what} | {row.asked} | {row.measured}{missed} | `{row.program}` |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", action="store_true", help="as it stands in the README")
    arguments = parser.parse_args()
    rows = figures()
    if arguments.markdown:
        sys.stdout.write(markdown(rows) + "\n")
        return
    drawn = Table(title="Watching", title_justify="left")
    for column in ("what", "asked", "measured", "met", "by"):
        drawn.add_column(column)
    for row in rows:
        drawn.add_row(row.what, row.asked, row.measured, "yes" if row.met else "[red]no[/]", row.program)
    Console(width=None if sys.stdout.isatty() else 130).print(drawn)
    sys.exit(any(not row.met for row in rows))


if __name__ == "__main__":
    main()
