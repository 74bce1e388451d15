"""What several processes hold of one large model: as its file is, with its weights beside it, and as a pack.

`python -m loadtests.weights [--processes 2] [--seconds 3]`. One thread of ONNX Runtime each. Memory is what the
kernel says in smaps_rollup after runs of one row and of several, grown since before the load, the mean of the
processes. Times of runs are processor time of one thread, medians of runs of the three forms in turn, which a busy
machine changes little. docs/adr/0020 rests on this table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from vedette.core.models import GRAPH_FILE, SessionOptions
from vedette.core.tensors import Tensor
from vedette.engine import memory
from vedette.engine.packing import PACKED_GRAPH, packing_command
from vedette.engine.session import Session
from vedette.engine.warmup import zero_feeds

OPTIONS = SessionOptions(intra_op_threads=1)
BATCHES = (1, 8)
_FIELDS = {"private": "Private_Dirty", "proportional": "Pss"}


def dense() -> onnx.ModelProto:
    """784 to 2,048, seven times 2,048 to 2,048, then 10: 118 MiB that kernels reorder when a model is loaded."""
    sizes = [784, *[2048] * 8, 10]
    random, nodes, weights = np.random.default_rng(0), [], []
    for i, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        array = (random.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [f"a{i}", f"w{i}"], [f"h{i}"]))
        nodes.append(helper.make_node("Relu", [f"h{i}"], [f"a{i + 1}"]))
    return _model(nodes, weights, [784])


def convolutions() -> onnx.ModelProto:
    """Eleven 3x3 convolutions over 64x64 pixels: 69 MiB that the optimiser reorders."""
    channels = [3, 64, 128, 256, *[512] * 8]
    random, nodes, weights = np.random.default_rng(0), [], []
    for i, (given, made) in enumerate(itertools.pairwise(channels)):
        array = (random.normal(size=(made, given, 3, 3)) / np.sqrt(9 * given)).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w{i}"))
        strides = [2, 2] if i < 3 else [1, 1]
        nodes.append(helper.make_node("Conv", [f"a{i}", f"w{i}"], [f"h{i}"], pads=[1] * 4, strides=strides))
        nodes.append(helper.make_node("Relu", [f"h{i}"], [f"a{i + 1}"]))
    return _model(nodes, weights, [3, 64, 64])


def _model(nodes: list[Any], weights: list[Any], row: list[int]) -> onnx.ModelProto:
    last = helper.make_node("Identity", [nodes[-1].output[0]], ["y"])
    value = helper.make_tensor_value_info
    rank = ["n", *["c"] * len(row)]
    inputs, outputs = [value("a0", TensorProto.FLOAT, ["n", *row])], [value("y", TensorProto.FLOAT, rank)]
    graph = helper.make_graph([*nodes, last], "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def lay_out(model: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    """The graph to load in each form."""
    forms = {name: folder / name / GRAPH_FILE for name in ("one file", "external data")}
    forms["pack"] = folder / "pack" / PACKED_GRAPH
    for path in forms.values():
        path.parent.mkdir(parents=True)
    onnx.save(model, forms["one file"])
    onnx.save(model, forms["external data"], save_as_external_data=True, location="weights.bin")
    command, environment = packing_command(forms["one file"], forms["pack"].parent, OPTIONS)
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True)
    print(f"packing took {time.perf_counter() - began:.1f} s")
    return forms


def held() -> dict[str, float]:
    """MiB of this process."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
    kb = {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1] == "kB"}
    return {name: kb[field] / 1024 for name, field in _FIELDS.items()}


def child(path: Path) -> None:
    """Load, run, and say what memory that took."""
    before = held()
    session = Session.load(path, OPTIONS)
    for rows in BATCHES:
        session.run(zero_feeds(session.inputs, rows=rows), ())
    memory.release_free_pages()
    print(json.dumps({"load_ms": session.load_time_ms}), flush=True)
    sys.stdin.readline()
    after = held()
    print(json.dumps({name: after[name] - before[name] for name in before}), flush=True)
    sys.stdin.readline()


def race(forms: dict[str, Path], rows: int, seconds: float) -> dict[str, float]:
    """Milliseconds of a run of each form, run in turn."""
    sessions = {form: Session.load(path, OPTIONS) for form, path in forms.items()}
    taken: dict[str, list[float]] = {form: [] for form in forms}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for form, session in sessions.items():
            zeros = zero_feeds(session.inputs, rows=rows)
            feeds = {name: Tensor(name, tensor.datatype, tensor.array + 1) for name, tensor in zeros.items()}
            session.run(feeds, ())  # its weights come into the cache, where those of the last one were
            began = time.thread_time()
            session.run(feeds, ())
            taken[form].append(time.thread_time() - began)
    return {form: median(times) * 1e3 for form, times in taken.items()}


def together(path: Path, processes: int) -> dict[str, float]:
    """The figures of so many processes that serve the same graph."""
    command = [sys.executable, "-m", "loadtests.weights", "--child", str(path)]
    running, times = [], []
    for _ in range(processes):  # one after another: the first warms the page cache up
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        times.append(json.loads(_line(running[-1])))
    sizes = []
    for process in running:
        _tell(process)
        sizes.append(json.loads(_line(process)))
    for process in running:
        _tell(process)
        process.communicate()
    return {name: min(time[name] for time in times) for name in times[0]} | {
        name: mean(size[name] for size in sizes) for name in sizes[0]
    }


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def main() -> None:
    """Measure every form of every model and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="of runs, for each form and batch")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    table = Table("model", "form", "own MiB", "its share MiB", "load ms", *(f"{rows} rows, ms" for rows in BATCHES))
    folder = Path(tempfile.mkdtemp(prefix="vedette-weights-"))
    try:
        for made in (dense, convolutions):
            forms = lay_out(made(), folder / made.__name__)
            runs = [race(forms, rows, arguments.seconds * len(forms)) for rows in BATCHES]
            for form, path in forms.items():
                figures = together(path, arguments.processes)
                sizes = (f"{figures[name]:.0f}" for name in ("private", "proportional", "load_ms"))
                table.add_row(made.__name__, form, *sizes, *(f"{run[form]:.2f}" for run in runs))
    finally:
        shutil.rmtree(folder)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
