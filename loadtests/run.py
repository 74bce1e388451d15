"""The public benchmark: vedette and its peers on this machine, one table, saved with the facts of the machine.

`python -m loadtests.run [--rounds 3] [--seconds 5] [--peers mlserver,triton] [--models reference,mlp]
[--protocols json] [--full] [--only contest,capture,...] [--save NAME]`. Servers run in turn, round after round, on the
same CPU with one process for the data plane; the load generator has another CPU. Answers are checked before and after
every run and error counters must be zero. A run with a wrong answer of ours makes the exit status 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtests import (
    capture,
    compare,
    contestants,
    footprint,
    generators,
    machine,
    models,
    open_loop,
    peers,
    plots,
    report,
)  # fmt: skip
from loadtests.contest import PROTOCOLS, Contest, Outcome, heats, one_line
from loadtests.contestants import Absence, Contestant
from loadtests.environments import NotInstalled
from loadtests.figures import Measured, figures
from loadtests.generators import BrokenRun
from loadtests.targets import NotStarted

PARTS = ("contest", "capture", "open-loop", "footprint")
Say = Callable[[str, int], None]


def arguments() -> argparse.Namespace:
    """What the user chose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="each server is started this often, in turn")
    parser.add_argument("--peers", type=_words, help="names or folders below loadtests/peers, or none; default: all")
    parser.add_argument("--models", type=_words, default=models.NAMES, help=", ".join(models.NAMES))
    parser.add_argument("--protocols", type=_words, default=PROTOCOLS, help=", ".join(PROTOCOLS))
    parser.add_argument("--threads", type=int, default=1, help="CPUs of the server and threads of ONNX Runtime")
    parser.add_argument("--full", action="store_true", help="ask every server everything it can answer (two hours)")
    parser.add_argument("--only", type=_words, default=PARTS, help=f"parts of {', '.join(PARTS)}")
    parser.add_argument("--save", metavar="NAME", help="keep the result as loadtests/results/NAME.json and .svg")
    given = parser.parse_args()
    for name, known in (("models", models.NAMES), ("protocols", PROTOCOLS), ("only", PARTS)):
        if unknown := set(getattr(given, name)) - set(known):
            parser.error(f"--{name}: {', '.join(sorted(unknown))} is none of {', '.join(known)}")
    if given.rounds < 1 or given.seconds < 1 or given.threads < 1:
        parser.error("--rounds, --seconds and --threads are at least 1")
    return given


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def gathered(given: argparse.Namespace, folder: Path, say: Say) -> tuple[list[Contestant], list[Absence]]:
    """Everyone who can take part, and who cannot; environments are made where they are not there."""
    present, absent = contestants.ours(), []
    for peer in contestants.chosen(given.peers):
        say(f"{peer.name}: its environment (minutes the first time)", 0)
        try:
            present.append(contestants.of_peer(peer, folder, given.threads))
        except NotInstalled as error:
            absent.append(Absence(peer.name, f"not installed: {one_line(error)}"))
    return present, absent


def hold_contest(given: argparse.Namespace, progress: Progress) -> tuple[Outcome, dict[str, str]]:
    """The contest and the settings of those who took part."""
    bar = progress.add_task("contest", total=None)

    def say(what: str, over: int) -> None:
        if what and not progress.console.is_terminal:
            progress.console.print(what)
        progress.update(bar, description=what or None, advance=over)

    with tempfile.TemporaryDirectory(prefix="vedette-models-") as text:
        folder = Path(text)
        models.write(folder)
        present, absent = gathered(given, folder, say)
        asked = heats(models=given.models, protocols=given.protocols)
        contest = Contest(present, asked, given.rounds, given.seconds, given.full, given.threads)
        progress.update(bar, total=contest.steps)
        outcome = contest.hold(say)
    outcome.absences[:0] = absent
    return outcome, {contestant.name: contestant.note for contestant in present if contest.heats_of(contestant)}


def measure(given: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The document of one run; a part that breaks is told among what is absent."""
    names = {peer.folder: peer.name for peer in peers.found()}
    outcome, notes = hold_contest(given, progress) if "contest" in given.only else (Outcome(), {})
    absent = outcome.absences
    found = Measured(
        names,
        outcome.rows(given.rounds),
        outcome.limits,
        _part("capture", given, progress, absent, lambda _: _capture(given), []),
        _part("open-loop", given, progress, absent, lambda say: _open_loop(given, say), []),
        _part("footprint", given, progress, absent, lambda _: footprint.measured(given.rounds), None),
    )
    settings = {"rounds": given.rounds, "seconds": given.seconds, "threads": given.threads, "heats": _told(given)}
    return machine.document(
        settings=settings,
        notes=notes,
        absent=[asdict(absence) for absence in absent],
        rows=[asdict(row) for row in found.rows],
        limits=_medians(outcome),
        capture=found.capture,
        open_loop=found.open_loop,
        footprint=found.footprint,
        figures=[{**asdict(figure), "met": figure.met} for figure in figures(found)],
    )


def _part(
    name: str, given: argparse.Namespace, progress: Progress, absent: list[Absence], work: Callable[[Say], Any],
    nothing: Any,
) -> Any:  # fmt: skip
    """One part beside the contest, or nothing and the reason."""
    if name not in given.only:
        return nothing
    bar = progress.add_task(name, total=None)
    try:
        return work(lambda what, _: progress.update(bar, description=what))
    except (BrokenRun, NotStarted, OSError) as error:
        absent.append(Absence(f"{contestants.OURS}: {name}", one_line(error)))
        return nothing
    finally:
        progress.remove_task(bar)


def _capture(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Long enough that the monitor's windows of ten seconds are evaluated."""
    runs, _ = capture.measure(max(given.rounds, 6), max(given.seconds, 3))
    return [asdict(row) for row in capture.rows_of(runs)]


def _open_loop(given: argparse.Namespace, say: Say) -> list[dict[str, Any]]:
    rows = open_loop.measure(("json", "grpc"), given.rounds, given.seconds, say=say)
    return [asdict(row) for row in rows]


def _told(given: argparse.Namespace) -> str:
    """Which heats there were, in words."""
    chosen = f"{', '.join(given.models)} over {', '.join(given.protocols)}"
    if given.full:
        return f"{chosen}, all that each server speaks"
    return f"{chosen}; all servers with reference over JSON and gRPC, a few with the rest at 32 in flight (--full: all)"


def _medians(outcome: Outcome) -> dict[str, dict[str, float]]:
    """ONNX Runtime's rows a second, by model and batch, the batch as JSON has keys."""
    if not outcome.limits:
        return {}
    return {
        model: {str(batch): statistics.median(limit[model][batch] for limit in outcome.limits) for batch in rates}
        for model, rates in outcome.limits[0].items()
    }


def broken(absent: Sequence[dict[str, str]]) -> bool:
    """Whether anything of ours is among what could not be measured."""
    return any(absence["server"].startswith(contestants.OURS) for absence in absent)


def main() -> None:
    """Measure, print, draw and keep."""
    given = arguments()
    generators.require("wrk", "h2load", "taskset")
    console = Console(width=None if sys.stdout.isatty() else 150)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        document = measure(given, progress)
    machine.save(compare.LATEST, document)
    plots.draw(document, compare.LATEST.with_suffix(".svg"))
    console.print(report.whole(document))
    if given.save:
        machine.save(machine.RESULTS / f"{given.save}.json", document)
        plots.draw(document, machine.RESULTS / f"{given.save}.svg")
    raise SystemExit(1 if broken(document["absent"]) else 0)


if __name__ == "__main__":
    main()
