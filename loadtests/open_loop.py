"""Latency at a constant arrival rate: 50, 80 and 95 % of the peak that a closed loop reaches.

`python -m loadtests.open_loop [--seconds 10] [--rounds 3] [--protocols json,grpc] [--save NAME]`. The peak is measured
in the same round with wrk or h2load at 32 in flight, so that a machine that slows down slows both. Latency counts from
the time at which a request was due (see `loadtests.arrivals`): nothing is omitted because the server stalled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from loadtests import contest, generators, machine, targets
from loadtests.arrivals import Latencies
from loadtests.contest import Heat
from loadtests.generators import BrokenRun
from loadtests.targets import Target

SHARES = (0.5, 0.8, 0.95)
FIELDS = ("rate", "answered_per_s", "p50_ms", "p99_ms", "p999_ms", "max_ms", "late_ms", "unanswered")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: medians over the rounds."""

    protocol: str
    share: float
    peak: float
    rate: float
    answered_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_ms: float
    unanswered: float


def at_rate(target: Target, protocol: str, rate: float, *, seconds: float, poisson: bool = False) -> Latencies:
    """One run of the generator in a process of its own.

    Raises:
        BrokenRun: something was answered wrongly, or not at all.
    """
    port = target.grpc_port if protocol == "grpc" else target.http_port
    command = [*machine.pin(contest.GENERATOR_CPU), sys.executable, "-m", "loadtests.arrivals"]
    command += ["--protocol", protocol, "--port", str(port), "--rate", f"{rate:.1f}", "--seconds", str(seconds)]
    done = subprocess.run([*command, *["--poisson"] * poisson], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BrokenRun(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the generator ended")
    if wrong := targets.errors_counted(target):
        raise BrokenRun(f"{target.name} counted {wrong:.0f} failed requests")
    return Latencies(**json.loads(done.stdout))


def measure(
    protocols: Sequence[str],
    rounds: int,
    seconds: int,
    *,
    poisson: bool = False,
    say: Callable[[str, int], None] = lambda _what, _over: None,
) -> list[Row]:
    """The rows of ours, everything on, for the reference model."""  # fmt: skip
    found: dict[tuple[str, float], list[tuple[float, Latencies]]] = {}
    with targets.vedette(machine.pin(contest.SERVER_CPU), options=targets.CAPTURED) as target:
        for number in range(rounds):
            for protocol in protocols:
                say(f"open loop, round {number + 1}: peak of {protocol}", 0)
                heat = Heat("reference", protocol, contest.IN_FLIGHT[-1])
                peak = contest.run(target, heat, seconds=max(seconds // 2, 1)).requests_per_s
                for share in SHARES:
                    say(f"open loop, round {number + 1}: {protocol} at {share:.0%} of {peak:,.0f}/s", 1)
                    run = at_rate(target, protocol, peak * share, seconds=seconds, poisson=poisson)
                    found.setdefault((protocol, share), []).append((peak, run))
    return [_row(protocol, share, runs) for (protocol, share), runs in found.items()]


def _row(protocol: str, share: float, runs: list[tuple[float, Latencies]]) -> Row:
    medians = {name: statistics.median(getattr(run, name) for _, run in runs) for name in FIELDS}
    return Row(protocol, share, statistics.median(peak for peak, _ in runs), **medians)


def table(rows: Sequence[Row]) -> Table:
    """The rows as people read them."""
    title = "Constant arrival rate, latency from the due time"
    drawn = Table(title=title, title_justify="left")
    for name in ("protocol", "of peak", "asked/s", "answered/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "p99/p50",
                 "sent late", "unanswered"):  # fmt: skip
        drawn.add_column(name, justify="left" if name == "protocol" else "right")
    for row in rows:
        drawn.add_row(
            row.protocol, f"{row.share:.0%}", f"{row.rate:,.0f}", f"{row.answered_per_s:,.0f}", f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}", f"{row.p999_ms:.2f}", f"{row.max_ms:.1f}", f"{row.p99_ms / row.p50_ms:.1f}x",
            f"{row.late_ms:.3f}", f"{row.unanswered:.0f}",
        )  # fmt: skip
    return drawn


def main() -> None:
    """Measure, print, and with --save keep the figures in loadtests/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--protocols", default="json,grpc")
    parser.add_argument("--poisson", action="store_true", help="arrivals as of independent callers")
    parser.add_argument("--save", metavar="NAME", help="write loadtests/results/NAME.json")
    given = parser.parse_args()
    generators.require("wrk", "h2load", "taskset")
    console = Console(width=None if sys.stdout.isatty() else 130)
    with console.status("measuring") as status:
        rows = measure(given.protocols.split(","), given.rounds, given.seconds, poisson=given.poisson,
                       say=lambda what, _: status.update(what))  # fmt: skip
    console.print(table(rows))
    if given.save:
        machine.save(machine.RESULTS / f"{given.save}.json", machine.document(rows=[asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
