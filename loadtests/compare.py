"""Whether a run is worse than the last saved one: exit status 1, and a table of what regressed.

`python -m loadtests.compare [NEW [OLD]] [--tolerance 0.15]`; without arguments the latest `make bench` is compared with
loadtests/results/bench.json.

Rule: absolute figures of a machine that others use too move by half from hour to hour, and so do single ratios. So only
ratios within one run are compared; a server of ours has regressed in a heat when the middle of its ratios to all peers
that both runs have fell by more than the tolerance, and not even the best round makes up for it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.contest import Heat, Row, ratios
from loadtests.contestants import FAST, OURS, UNBATCHED
from loadtests.environments import BENCH
from loadtests.figures import describe
from loadtests.machine import RESULTS

LATEST = BENCH / "results" / "latest.json"
SAVED = RESULTS / "bench.json"
TOLERANCE = 0.15
MINE = (OURS, UNBATCHED, FAST)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one quantity: 1.0 is as before, less is worse; `best` is its most favourable round."""

    what: str
    quotient: float
    best: float
    noise: float = 1.0

    def regressed(self, tolerance: float) -> bool:
        """Whether it fell further than noise explains."""
        return self.quotient < 1 / (1 + tolerance * self.noise) and self.best < 1.0


def changes(new: dict[str, Any], old: dict[str, Any]) -> list[Change]:
    """Everything that both documents have, compared."""
    return [*_heats(_rows(new), _rows(old)), *_figures(new, old)]


def _rows(document: dict[str, Any]) -> list[Row]:
    return [Row(**row) for row in document["rows"]]


def _heats(new: Sequence[Row], old: Sequence[Row]) -> Iterator[Change]:
    """One change for each server of ours and heat that both runs have with at least one peer."""
    before = {(row.server, row.heat): row for row in old}
    for row in new:
        was = before.get((row.server, row.heat))
        if row.server not in MINE or was is None:
            continue
        pairs = [
            (ratios(row, peer), ratios(was, before[peer.server, peer.heat]))
            for peer in new
            if peer.heat == row.heat and peer.server not in MINE and (peer.server, peer.heat) in before
        ]
        if pairs:
            yield _change(row.server, row.heat, pairs)


def _change(server: str, heat: Heat, pairs: list[tuple[list[float], list[float]]]) -> Change:
    middle = statistics.median
    quotient = middle(middle(now) / middle(then) for now, then in pairs)
    best = middle(max(now) / middle(then) for now, then in pairs)
    return Change(f"{describe(heat)}: {server} to {len(pairs)} others", quotient, best)


def _figures(new: dict[str, Any], old: dict[str, Any]) -> Iterator[Change]:
    """Figures that the contest's rows do not say better: shares of the limit, tails, capture, memory, starting."""
    before = {figure["what"]: figure["measured"] for figure in old["figures"]}
    for figure in new["figures"]:
        was, now = before.get(figure["what"]), figure["measured"]
        if was and now and figure["noise"]:
            quotient = was / now if figure["at_most"] else now / was
            yield Change(figure["what"], quotient, quotient, figure["noise"])


def missing(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """What the old run has of ours and the new one does not: it broke, or was not asked for."""
    has = {(row.server, row.heat) for row in _rows(new)}
    gone = [row for row in _rows(old) if row.server in MINE and (row.server, row.heat) not in has]
    return [f"{describe(row.heat)}: {row.server}" for row in gone]


def table(regressed: Sequence[Change]) -> Table:
    """What regressed, the worst first."""
    drawn = Table("what", "now to before", "best round", title="Regressed", title_justify="left")
    for change in sorted(regressed, key=lambda change: change.quotient):
        drawn.add_row(change.what, f"{change.quotient:.2f}", f"{change.best:.2f}")
    return drawn


def main() -> None:
    """Compare, print, and exit with 1 on a regression, 2 when there is nothing to compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("new", nargs="?", type=Path, default=LATEST)
    parser.add_argument("old", nargs="?", type=Path, default=SAVED)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="share that a ratio may fall by")
    given = parser.parse_args()
    for path in (given.new, given.old):
        if not path.exists():
            print(f"there is no {path}: `make bench` makes the one, its --save the other", file=sys.stderr)
            raise SystemExit(2)
    new, old = (json.loads(path.read_text()) for path in (given.new, given.old))
    sys.exit(report(new, old, given.tolerance))


def report(new: dict[str, Any], old: dict[str, Any], tolerance: float) -> int:
    """Print what a reader needs; the exit status."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    if new["machine"]["cpu"] != old["machine"]["cpu"]:
        console.print(
            f"another CPU: {new['machine']['cpu']}, before {old['machine']['cpu']}; ratios may differ by that"
        )
    for what in missing(new, old):
        console.print(f"not in the new run: {what}")
    compared = changes(new, old)
    if not compared:
        console.print("the two runs have nothing in common")
        return 2
    regressed = [change for change in compared if change.regressed(tolerance)]
    if regressed:
        console.print(table(regressed))
    console.print(f"{len(compared)} quantities compared with {old['at']}, {len(regressed)} regressed")
    return 1 if regressed else 0


if __name__ == "__main__":
    main()
