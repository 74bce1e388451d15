"""What ONNX Runtime's threads cost when a model rests between runs, and what they win when it runs.

`python -m loadtests.threads [--model cnn] [--rows 32]`. Each way of giving a session two threads runs in a process of
its own: paced runs, 5 ms apart, as a service sees them; processor time of the whole process for each of them, and the
quickest of them. docs/adr/0020 rests on this table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from loadtests import models

RUNS, PAUSE_S = 200, 0.005
QUIET = {"session.intra_op.allow_spinning": "0"}
WAYS: dict[str, tuple[int, bool, dict[str, str]]] = {
    "one thread": (1, False, QUIET),
    "two, asleep between runs (ours)": (2, False, QUIET),
    "two, spinning (the default)": (2, False, {}),
    "two, told to stop spinning after a run": (2, False, {"session.force_spinning_stop": "1"}),
    "two, of the global pool": (2, True, QUIET),
}
"""Threads of a run, whether they are those of all sessions, and further options."""


def opened(path: Path, way: str) -> ort.InferenceSession:
    """A session with its threads this way."""
    threads, shared, entries = WAYS[way]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if shared:
        ort.set_global_thread_pool_sizes(threads, 1)
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = threads
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def child(path: Path, way: str, rows: int) -> None:
    """Run at a pace; print the figures."""
    session = opened(path, way)
    taken = session.get_inputs()[0]
    feeds = {taken.name: np.ones((rows, *taken.shape[1:]), np.float32)}
    session.run(None, feeds)
    spent, times = time.process_time(), []
    for _ in range(RUNS):
        time.sleep(PAUSE_S)
        began = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - began)
    cpu_ms = (time.process_time() - spent) / RUNS * 1e3
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    print(json.dumps({"quickest_ms": min(times) * 1e3, "cpu_ms": cpu_ms, "threads": threads}))


def main() -> None:
    """Measure every way and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(Path(arguments.child[0]), arguments.child[1], arguments.rows)
        return
    title = f"{arguments.model}, {arguments.rows} rows"
    table = Table("threads of a run", "quickest, ms", "processor time a run, ms", "of the process", title=title)
    with tempfile.TemporaryDirectory(prefix="vedette-threads-") as folder:
        models.write(Path(folder))
        path = str(Path(folder) / f"{arguments.model}.onnx")
        for way in WAYS:
            line = ["-m", "loadtests.threads", "--rows", str(arguments.rows), "--child", path, way]
            done = subprocess.run([sys.executable, *line], check=True, capture_output=True, text=True)
            figures = json.loads(done.stdout)
            table.add_row(way, f"{figures['quickest_ms']:.2f}", f"{figures['cpu_ms']:.2f}", str(figures["threads"]))
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
