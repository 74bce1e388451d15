"""What one observation costs: our cells against prometheus_client, alone and in its multiprocess mode.

`python -m loadtests.instruments`. Microseconds, the best of seven runs in one process each; docs/adr/0004
rests on this table.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from vedette.chassis.metrics import LATENCY_BUCKETS_S

ROUNDS, OBSERVATIONS = 7, 100_000
LABELS = {"endpoint": "e", "variant": "v", "version": "1"}


def _best_us(observe: Callable[[], object]) -> float:
    return min(timeit.repeat(observe, number=OBSERVATIONS, repeat=ROUNDS)) / OBSERVATIONS * 1e6


def cells() -> list[float]:
    """Histogram, counter and gauge of `vedette.chassis.telemetry`."""
    from vedette.chassis.telemetry import CellMetrics

    metrics = CellMetrics.alone()
    histogram = metrics.histogram("vedette_request_duration_seconds", **LABELS)
    counter = metrics.counter("vedette_requests_total", **LABELS, protocol="http", code="OK")
    gauge = metrics.gauge("vedette_requests_in_flight", endpoint="e")
    return [_best_us(lambda: histogram.observe(0.003)), _best_us(counter.inc), _best_us(gauge.inc)]


def prometheus() -> list[float]:
    """The same three of prometheus_client; in multiprocess mode when its environment variable is set."""
    import prometheus_client

    names = tuple(LABELS)
    histogram = prometheus_client.Histogram("h", "h", names, buckets=LATENCY_BUCKETS_S).labels(**LABELS)
    counter = prometheus_client.Counter("c", "c", names).labels(**LABELS)
    gauge = prometheus_client.Gauge("g", "g", names).labels(**LABELS)
    return [_best_us(lambda: histogram.observe(0.003)), _best_us(counter.inc), _best_us(gauge.inc)]


KINDS = {"cells": cells, "prometheus": prometheus}


def _in_a_process(kind: str, folder: str | None = None) -> list[float]:
    env = {**os.environ, **({"PROMETHEUS_MULTIPROC_DIR": folder} if folder else {})}
    command = [sys.executable, "-m", "loadtests.instruments", kind]
    output = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    return [float(figure) for figure in output.split()]


def main() -> None:
    """Print the table, or the figures of one kind when its name is given."""
    if len(sys.argv) > 1:
        print(*KINDS[sys.argv[1]]())
        return
    table = Table("us an observation", "histogram", "counter", "gauge")
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            "cells": _in_a_process("cells"),
            "prometheus_client": _in_a_process("prometheus"),
            "prometheus_client, multiprocess": _in_a_process("prometheus", folder),
        }
    for name, figures in rows.items():
        table.add_row(name, *(f"{figure:.2f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
