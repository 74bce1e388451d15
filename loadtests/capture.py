"""What data capture costs: requests a second without it, with 100 %, and with someone who reads what is captured.

`python -m loadtests.capture [--seconds 5] [--rounds 5] [--save NAME]`. One server, one endpoint each way, loaded in
turn; server and reader share one CPU, the load generator has another. Answers are checked, and after every run
with capture every request must be on the stream exactly once: sampled = captured, and their numbers without a gap.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from loadtests import generators, targets
from loadtests.generators import BrokenRun, Figures
from loadtests.run import RESULTS, check_http, expected, json_request, machine, pin
from loadtests.targets import Target
from vedette.codec.captures import decode_captures
from vedette.storage.sqlite_stream import SqliteEventStream

CONNECTIONS = 32
GROUP = "loadtest"


async def consume(folder: Path) -> None:
    """Be a reader: decode every batch, fold its columns, commit; until killed."""
    stream = SqliteEventStream(folder)
    offset = await stream.committed("captures", GROUP)
    while True:
        await stream.wait("captures", offset, 10.0)
        for delivery in await stream.read("captures", offset, 64):
            batch = decode_captures(delivery.message.value)
            for tensor in (*batch.inputs.values(), *batch.outputs.values()):
                rows = tensor.stacked()
                rows.mean(axis=0), rows.var(axis=0), rows.min(axis=0), rows.max(axis=0)
            offset = delivery.offset + 1
        await stream.commit("captures", GROUP, offset)


async def captured(folder: Path, offset: int) -> tuple[int, int, int]:
    """Records on the stream from an offset on, gaps in their numbers, and the next offset."""
    stream, records, numbers = SqliteEventStream(folder), 0, list[int]()
    while deliveries := await stream.read("captures", offset, 64):
        for delivery in deliveries:
            batch = decode_captures(delivery.message.value)
            records += len(batch)
            numbers += (int(batch.sequences[0]), int(batch.sequences[-1]))
        offset = deliveries[-1].offset + 1
    await stream.close()
    gaps = sum(after != before + 1 for before, after in zip(numbers[1::2], numbers[2::2]))
    return records, gaps, offset


@contextmanager
def reader(folder: Path, cpu: list[str]) -> Iterator[int]:
    """A process that consumes the stream, on the server's CPU; its id."""
    command = [*cpu, sys.executable, "-m", "loadtests.capture", "--consume", str(folder)]
    running = subprocess.Popen(command)
    try:
        time.sleep(1.0)  # it imports; nothing tells when it is done
        yield running.pid
        if running.poll() is not None:
            raise BrokenRun(f"the reader ended with {running.returncode}")
    finally:
        running.kill()
        running.wait()


def outcomes(target: Target) -> dict[str, float]:
    """`vedette_captures_total` by outcome."""
    with urllib.request.urlopen(f"http://127.0.0.1:{target.http_port}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if line.startswith("vedette_captures_total{"):
            outcome = line.split('outcome="')[1].split('"')[0]
            found[outcome] = found.get(outcome, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


def settled(target: Target, answered: float) -> dict[str, float]:
    """The outcomes once every request has one."""
    for _ in range(200):
        found = outcomes(target)
        if sum(found.values()) >= answered:
            return found
        time.sleep(0.05)
    raise BrokenRun(f"{sum(found.values()):.0f} outcomes for {answered:.0f} sampled requests")


def requests_counted(target: Target) -> float:
    """Requests that the server has answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{target.http_port}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vedette_requests_total{"))


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: medians over the rounds; the ratio is to the run without capture of the same round."""

    what: str
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    ratio: float
    cpu_us: float
    """CPU time of server and reader together, a request: what is left of the ratio on a machine that is not quiet."""
    cpu_ratio: float
    captured: int
    dropped: int
    failed: int


WAYS = ("off", "on", "on, reader")


def measure(rounds: int, seconds: int) -> list[Row]:
    """Run the three ways in turn and give the medians."""
    runs: dict[str, list[tuple[Figures, float]]] = {way: [] for way in WAYS}
    outcome_sums = {way: {"captured": 0.0, "dropped": 0.0, "failed": 0.0} for way in WAYS}
    for number in range(rounds):
        for way in WAYS[number % 3 :] + WAYS[: number % 3]:
            runs[way].append(_one(way, seconds, outcome_sums[way]))
    rows = []
    for way in WAYS:
        pairs = list(zip(runs[way], runs["off"], strict=True))
        middle = (statistics.median(getattr(run, name) for run, _ in runs[way])
                  for name in ("requests_per_s", "p50_ms", "p99_ms"))  # fmt: skip
        rows.append(
            Row(
                way,
                *middle,
                ratio=statistics.median(own.requests_per_s / off.requests_per_s for (own, _), (off, _) in pairs),
                cpu_us=statistics.median(cpu for _, cpu in runs[way]),
                cpu_ratio=statistics.median(off / own for (_, own), (_, off) in pairs),
                **{name: int(value) for name, value in outcome_sums[way].items()},
            )
        )
    return rows


def cpu_s(pids: list[int]) -> float:
    """CPU time that the processes and what they started have used."""
    roots = [psutil.Process(pid) for pid in pids]
    everyone = [process for root in roots for process in (root, *root.children(recursive=True))]
    return sum(sum(process.cpu_times()[:2]) for process in everyone)


def _one(way: str, seconds: int, sums: dict[str, float]) -> tuple[Figures, float]:
    percent, pids = 0 if way == "off" else 100, list[int]()
    with ExitStack() as stack:
        target = stack.enter_context(targets.vedette(pin(1), capture_percent=percent))
        if way == "on, reader":
            pids.append(stack.enter_context(reader(target.data_dir / "stream", pin(1))))
        pids.append(target.pid)
        check = partial(check_http, target, expected())
        url = f"http://127.0.0.1:{target.http_port}/v2/models/reference/infer"
        load = partial(generators.wrk, url, json_request(), headers={"content-type": "application/json"},
                       connections=CONNECTIONS, cpu=pin(0))  # fmt: skip
        check()
        load(seconds=1)
        answered, used = requests_counted(target), cpu_s(pids)
        figures = load(seconds=seconds)
        used, answered = cpu_s(pids) - used, requests_counted(target) - answered
        check()
        if wrong := targets.errors_counted(target):
            raise BrokenRun(f"{wrong:.0f} requests failed")
        if percent:
            _check_captures(target, sums)
    return figures, used / answered * 1e6


def _check_captures(target: Target, sums: dict[str, float]) -> None:
    """Every answered request is on the stream, or counted as dropped."""
    answered = requests_counted(target)
    found = settled(target, answered)
    records, gaps, _ = asyncio.run(captured(target.data_dir / "stream", 0))
    if records != found.get("captured") or sum(found.values()) != answered:
        raise BrokenRun(f"{answered:.0f} answers, {found} and {records} records on the stream")
    if gaps and not found.get("dropped"):
        raise BrokenRun(f"{gaps} gaps in the numbers and nothing dropped")
    for outcome, amount in found.items():
        sums[outcome] += amount


def table(rows: list[Row]) -> Table:
    """The rows as people read them."""
    drawn = Table(title="100 % capture, 30-64-2 network, V2 JSON, 32 connections, one CPU", title_justify="left")
    for name in (
        "capture",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "ratio",
        "CPU us",
        "CPU ratio",
        "captured",
        "dropped",
        "failed",
    ):
        drawn.add_column(name, justify="left" if name == "capture" else "right")
    for row in rows:
        drawn.add_row(
            row.what, f"{row.requests_per_s:,.0f}", f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}", f"{row.ratio:.3f}",
            f"{row.cpu_us:.1f}", f"{row.cpu_ratio:.3f}", f"{row.captured:,}", f"{row.dropped:,}", f"{row.failed:,}",
        )  # fmt: skip
    return drawn


def main() -> None:
    """Measure, print, and with --save keep the figures in loadtests/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, help="length of one run")
    parser.add_argument("--rounds", type=int, default=5, help="each way is run this often, in turn")
    parser.add_argument("--save", metavar="NAME", help="write loadtests/results/NAME.json")
    parser.add_argument("--consume", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.consume:
        asyncio.run(consume(arguments.consume))
        return
    generators.require("wrk", "taskset")
    rows = measure(arguments.rounds, arguments.seconds)
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows))
    if arguments.save:
        document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
        text = json.dumps({**document, "rows": [asdict(row) for row in rows]}, indent=1)
        (RESULTS / f"{arguments.save}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
