"""What ONNX Runtime does in process with the same models, CPU and threads: the most that any server could give.

`python -m loadtests.limits [--seconds 0.5] [--threads 1]` prints rows a second as JSON, `{model: {batch: rows/s}}`.
Rule: run in a process of its own, pinned like the servers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import onnxruntime

from loadtests import models

BATCHES = (1, 8, 32)
Limits = dict[str, dict[int, float]]
"""Rows a second by model and batch."""


def rows_per_s(name: str, batch: int, *, seconds: float, threads: int) -> float:
    """Rows a second of one session that gets `batch` rows a run, one run after the other."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(models.build(name), options, providers=["CPUExecutionProvider"])
    feeds = {"x": np.repeat(models.row(name), batch, axis=0)}
    for _ in range(20):
        session.run(["y"], feeds)
    runs, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        for _ in range(8):
            session.run(["y"], feeds)
        runs += 8
    return runs * batch / passed


def measured(names: tuple[str, ...], cpu: list[str], *, seconds: float, threads: int) -> Limits:
    """The limits of the models, measured in a process on `cpu`."""
    command = [*cpu, sys.executable, "-m", "loadtests.limits", "--seconds", str(seconds), "--threads", str(threads)]
    output = subprocess.run([*command, *names], check=True, capture_output=True, text=True).stdout
    return {name: {int(batch): rate for batch, rate in rates.items()} for name, rates in json.loads(output).items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=models.NAMES)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one measurement")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print(json.dumps({
        name: {batch: rows_per_s(name, batch, seconds=given.seconds, threads=given.threads) for batch in BATCHES}
        for name in given.names
    }))  # fmt: skip


if __name__ == "__main__":
    main()
