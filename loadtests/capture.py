"""What data capture costs: requests a second without it, with 100 %, and with the monitor at work.

`python -m loadtests.capture [--seconds 2] [--rounds 10] [--save NAME]`. One server with two endpoints of one model,
loaded in turn; server and monitor share one CPU, the load generator has another. Answers are checked, and at the end
every request that was answered must be on the stream or counted, with no number missing but those of what was lost.

Beside the throughput stands the CPU time that server and monitor take for a request: on a machine that others use too,
the throughput of two runs differs by more than capture costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

import vedette
from loadtests import generators, messages, reference_model, targets
from loadtests.generators import BrokenRun
from loadtests.machine import RESULTS, facts, pin
from loadtests.targets import Target
from vedette.codec.captures import decode_captures
from vedette.core.ports import EventStream
from vedette.storage.sqlite_stream import SqliteEventStream

CONNECTIONS = 32
WAYS = {"off": "reference", "on, monitor": "captured", "on": "captured"}
"""In this order, so that the monitor has nothing to catch up with when it is stopped."""


@contextmanager
def watching(target: Target, cpu: list[str]) -> Iterator[psutil.Process]:
    """The monitor on the server's CPU: drift and data quality of the captured endpoint in windows of ten seconds,
    and the archive. Its worker can be stopped and told to go on."""
    with targets.monitor(target, cpu) as (running, port):
        (worker,) = psutil.Process(running.pid).children()
        with vedette.Client(registry=f"http://127.0.0.1:{target.registry_port}",
                            monitor=f"http://127.0.0.1:{port}") as client:  # fmt: skip
            rows = np.random.default_rng(0).normal(size=(1000, reference_model.FEATURES))
            columns = {f"x_{number}": column for number, column in enumerate(rows.T)}
            client.baselines.create("reference", 1, columns)
            client.monitors.create(vedette.Monitor("load", "captured", window_s=10, reports="on_demand"))
            try:
                yield worker
            finally:
                worker.send_signal(signal.SIGCONT)
            if not any(execution.rows for execution in client.monitors.executions("load")):
                raise BrokenRun("the monitor has evaluated nothing")


def caught_up(folder: Path) -> None:
    """Return when the monitor has handled everything (its archive gathers a minute)."""

    async def lag() -> int:
        stream: EventStream = SqliteEventStream(folder)
        end = await stream.end("captures")
        behind = end - await stream.committed("captures", "monitor")
        await stream.close()
        return behind

    for _ in range(600):
        if asyncio.run(lag()) == 0:
            return
        time.sleep(0.1)
    raise BrokenRun("the monitor does not keep up")


async def on_stream(folder: Path) -> tuple[int, int]:
    """Records on the stream, and numbers that are missing between them."""
    stream, records, missing, number, offset = SqliteEventStream(folder), 0, 0, 0, 0
    while deliveries := await stream.read("captures", offset, 64):
        for delivery in deliveries:
            batch = decode_captures(delivery.message.value)
            missing += int(batch.sequences[0]) - number
            records, number = records + len(batch), int(batch.sequences[-1]) + 1
        offset = deliveries[-1].offset + 1
    await stream.close()
    return records, missing


def counters(target: Target, name: str, endpoint: str) -> dict[str, float]:
    """A metric of one endpoint, summed by its label `code` or `outcome`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{target.http_port}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if line.startswith(f"{name}{{") and f'endpoint="{endpoint}"' in line:
            label = next(part for part in ('outcome="', 'code="') if part in line)
            value = line.split(label)[1].split('"')[0]
            found[value] = found.get(value, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


def answered(target: Target, endpoint: str) -> float:
    """Requests that the endpoint has answered, all of them well."""
    found = counters(target, "vedette_requests_total", endpoint)
    if set(found) - {"OK"}:
        raise BrokenRun(f"{endpoint}: {found}")
    return found.get("OK", 0.0)


def cpu_s(processes: list[psutil.Process]) -> float:
    """CPU time that the processes and what they started have used."""
    everyone = [process for root in processes for process in (root, *root.children(recursive=True))]
    return sum(sum(process.cpu_times()[:2]) for process in everyone)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run measured."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU time of server and monitor, a request."""


def load(target: Target, endpoint: str, seconds: int, processes: list[psutil.Process]) -> Run:
    """Load an endpoint with V2 JSON, one row a request."""
    url = f"http://127.0.0.1:{target.http_port}/v2/models/{endpoint}/infer"
    before, used = answered(target, endpoint), cpu_s(processes)
    message = messages.json_message("reference")
    figures = generators.wrk(url, message, connections=CONNECTIONS, seconds=seconds, cpu=pin(0))
    used, count = cpu_s(processes) - used, answered(target, endpoint) - before
    return Run(figures.requests_per_s, figures.p50_ms, figures.p99_ms, used / count * 1e6)


def deploy(target: Target) -> None:
    """Put the model behind a second endpoint that captures everything."""
    config = {"model": "reference", "variants": [{"name": "primary", "version": 1}]}
    capture = {"sampling_percent": 100.0}
    document = {"name": "captured", "config": {**config, "capture": capture}}
    targets.call("POST", f"http://127.0.0.1:{target.registry_port}/v1/endpoints", json.dumps(document).encode())
    targets.wait_ready(f"http://127.0.0.1:{target.http_port}", "captured")


def measure(rounds: int, seconds: int) -> tuple[dict[str, list[Run]], dict[str, float]]:
    """The runs of each way, and what became of the captures."""
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    with targets.vedette(pin(1)) as target, ExitStack() as stack:
        deploy(target)
        monitor = stack.enter_context(watching(target, pin(1)))
        server = psutil.Process(target.pid)
        for number in range(rounds + 1):
            for way, endpoint in WAYS.items():
                messages.check_http(
                    f"http://127.0.0.1:{target.http_port}/v2/models/{endpoint}/infer", "reference", "json"
                )
                os.kill(monitor.pid, signal.SIGCONT if "monitor" in way else signal.SIGSTOP)
                if "monitor" in way:
                    caught_up(target.data_dir / "stream")
                run = load(target, endpoint, seconds, [server, monitor])
                if "monitor" in way:
                    caught_up(target.data_dir / "stream")
                if number:  # the first round warms up
                    runs[way].append(run)
        return runs, _accounted(target)


def _accounted(target: Target) -> dict[str, float]:
    """The outcomes of captures, once every answered request has one; the stream must say the same."""
    total = answered(target, "captured")
    for _ in range(200):
        found = counters(target, "vedette_captures_total", "captured")
        if sum(found.values()) >= total:
            break
        time.sleep(0.05)
    records, missing = asyncio.run(on_stream(target.data_dir / "stream"))
    lost = sum(found.values()) - found.get("captured", 0.0)
    if sum(found.values()) != total or records != found.get("captured") or missing > lost:
        raise BrokenRun(f"{total:.0f} answers, {found}, {records} on the stream, {missing} numbers missing")
    return found


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: medians over the rounds; ratios are to the run without capture of the same round."""

    capture: str
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    ratio: float
    cpu_us: float
    cpu_ratio: float


def rows_of(runs: dict[str, list[Run]]) -> list[Row]:
    """The table's lines."""
    middle = statistics.median
    return [
        Row(
            way,
            requests_per_s=middle(run.requests_per_s for run in own),
            p50_ms=middle(run.p50_ms for run in own),
            p99_ms=middle(run.p99_ms for run in own),
            ratio=middle(mine.requests_per_s / off.requests_per_s for mine, off in zip(own, runs["off"], strict=True)),
            cpu_us=middle(run.cpu_us for run in own),
            cpu_ratio=middle(off.cpu_us / mine.cpu_us for mine, off in zip(own, runs["off"], strict=True)),
        )
        for way, own in runs.items()
    ]


def table(rows: list[Row]) -> Table:
    """The rows as people read them."""
    drawn = Table(title="100 % capture, 30-64-2 network, V2 JSON, 32 connections, one CPU", title_justify="left")
    for name in ("capture", "requests/s", "p50 ms", "p99 ms", "ratio", "CPU us", "CPU ratio"):
        drawn.add_column(name, justify="left" if name == "capture" else "right")
    for row in rows:
        drawn.add_row(
            row.capture, f"{row.requests_per_s:,.0f}", f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}", f"{row.ratio:.3f}",
            f"{row.cpu_us:.1f}", f"{row.cpu_ratio:.3f}",
        )  # fmt: skip
    return drawn


def main() -> None:
    """Measure, print, and with --save keep the figures in loadtests/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=2, help="length of one run")
    parser.add_argument("--rounds", type=int, default=10, help="each way is run this often, in turn")
    parser.add_argument("--save", metavar="NAME", help="write loadtests/results/NAME.json")
    arguments = parser.parse_args()
    generators.require("wrk", "taskset")
    runs, outcomes = measure(arguments.rounds, arguments.seconds)
    rows = rows_of(runs)
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows), f"captures: {outcomes}")
    if arguments.save:
        document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": facts(), "captures": outcomes}
        text = json.dumps({**document, "rows": [asdict(row) for row in rows]}, indent=1)
        (RESULTS / f"{arguments.save}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
