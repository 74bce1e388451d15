"""Packs: the same answers from weights that processes map together, and nothing when that cannot be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.unit import engine_graphs as graphs

from vedette.core.models import SessionOptions
from vedette.core.tensors import Tensor
from vedette.engine import packing
from vedette.engine.packing import PACKED_GRAPH, PACKED_WEIGHTS, can_pack, machine_key, packing_command
from vedette.engine.session import Session

ONE_THREAD = SessionOptions(intra_op_threads=1)


def packed(path: Path, target: Path, options: SessionOptions = ONE_THREAD) -> subprocess.CompletedProcess[str]:
    target.mkdir()
    command, environment = packing_command(path, target, options)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def convolutions() -> Any:
    """Two convolutions, as image models have them: their weights are reordered by the optimiser itself."""
    random = np.random.default_rng(3)
    weights = {f"w{i}": random.normal(size=(32, a, 3, 3)).astype(np.float32) for i, a in enumerate((3, 32))}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["y"], pads=[1] * 4),
    ]
    inputs = [graphs.VALUE("x", TensorProto.FLOAT, ["n", 3, 8, 8])]
    return graphs.model(nodes, inputs, [graphs.VALUE("y", TensorProto.FLOAT, ["n", 32, 8, 8])], weights=weights)


@pytest.mark.parametrize("level", ["none", "basic", "extended", "all"])
@pytest.mark.parametrize(("made", "row"), [(graphs.mlp([64, 128, 10]), (64,)), (convolutions(), (3, 8, 8))])
def test_a_pack_answers_as_the_original_to_the_bit(tmp_path: Path, level: Any, made: Any, row: tuple[int, ...]) -> None:
    """For every level of optimisation and batches that take other kernels; its weights are not in the graph."""
    options = SessionOptions(intra_op_threads=1, graph_optimization=level)
    path = graphs.save(made, tmp_path / "model")
    done = packed(path, tmp_path / "pack", options)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "pack" / PACKED_GRAPH).stat().st_size < 10_000 < path.stat().st_size
    original, mapped = (Session.load(file, options) for file in (path, tmp_path / "pack" / PACKED_GRAPH))
    for rows in (1, 3, 33):
        x = np.random.default_rng(rows).normal(size=(rows, *row)).astype(np.float32)
        answers = [session.run({"x": Tensor("x", "FP32", x)}, ())[0].array for session in (original, mapped)]
        assert answers[0].tobytes() == answers[1].tobytes()


def test_a_pack_is_read_only(tmp_path: Path) -> None:
    """Whoever could write to a mapped file would change the weights of every process that serves them."""
    assert packed(graphs.save(graphs.mlp([64, 64]), tmp_path / "model"), tmp_path / "pack").returncode == 0
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "pack").iterdir()} == {0o444}


def test_a_graph_that_cannot_be_packed_says_why(tmp_path: Path) -> None:
    """The child ends in order, without a path in what it says."""
    done = packed(graphs.save(b"not onnx", tmp_path / "model"), tmp_path / "pack")
    assert done.returncode == 1
    assert done.stdout.startswith("...") or "cannot be loaded" in done.stdout or done.stdout.strip()
    assert str(tmp_path) not in done.stdout


def test_a_pack_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    """What the child compares is what clients would see: one changed weight is enough."""
    program = f"""
import sys
from pathlib import Path
from vedette.engine import packing_child
save = packing_child._save
def damaged(graph, packed, options):
    save(graph, packed, options)
    weights = packed.with_name({PACKED_WEIGHTS!r})
    data = bytearray(weights.read_bytes())
    data[2::4] = bytes(byte ^ 1 for byte in data[2::4])
    weights.write_bytes(data)
packing_child._save = damaged
sys.exit(packing_child.main(sys.argv[1:]))
"""
    path, target = graphs.save(graphs.mlp([64, 64]), tmp_path / "model"), tmp_path / "pack"
    target.mkdir()
    _, environment = packing_command(path, target, ONE_THREAD)
    line = [sys.executable, "-c", program, str(path), str(target), "all"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "the packed graph answers otherwise\n")


SMAPS_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from vedette.core.models import SessionOptions
from vedette.core.tensors import Tensor
from vedette.engine.session import Session

session = Session.load(Path(sys.argv[1]), SessionOptions(intra_op_threads=1))
for rows in (1, 16):
    session.run({"x": Tensor("x", "FP32", np.zeros((rows, 1024), np.float32))}, ())
from vedette.engine import memory
memory.release_free_pages()
print("loaded", flush=True)
sys.stdin.readline()
fields = (line.split() for line in open("/proc/self/smaps_rollup"))
print({name: int(value) for name, value, *unit in fields if unit == ["kB"]}["Private_Dirty:"], flush=True)
"""


def private_kb(path: Path) -> int:
    """What each of two processes that have run the graph holds for itself alone."""
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", SMAPS_PROGRAM, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for process in pair:
            assert process.stdout is not None
            assert process.stdout.readline() == "loaded\n"
        return max(int(process.communicate("\n", timeout=60)[0]) for process in pair)
    finally:
        for process in pair:
            process.kill()
            process.communicate()


def test_processes_hold_the_weights_of_a_pack_once(tmp_path: Path) -> None:
    """Of 40 MiB of weights a process has none for itself, and all of them where there is no pack."""
    path = graphs.save(graphs.mlp([1024] * 11), tmp_path / "model")
    assert packed(path, tmp_path / "pack").returncode == 0
    alone, shared = private_kb(path), private_kb(tmp_path / "pack" / PACKED_GRAPH)
    assert alone - shared > 38 * 1024, (alone, shared)


def test_only_the_processors_own_provider_is_packed() -> None:
    """Others have memory of their own, which no file can be mapped into."""
    assert can_pack(SessionOptions())
    assert not can_pack(SessionOptions(providers=("CUDAExecutionProvider", "CPUExecutionProvider")))


def test_the_key_is_of_the_processor_and_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other instructions or another ONNX Runtime make another key; another clock or order of processors does not."""

    def key(cpuinfo: str) -> str:
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
        machine_key.cache_clear()
        return machine_key(tmp_path)

    first = key("model name\t: A\ncpu MHz\t: 1\nflags\t\t: sse avx\n")
    assert key("cpu MHz\t: 2\nmodel name\t: A\nflags\t\t: sse avx\n") == first
    assert key("model name\t: A\ncpu MHz\t: 1\nflags\t\t: sse\n") != first
    monkeypatch.setattr(packing.ort, "__version__", "0.0.1")
    assert key("model name\t: A\ncpu MHz\t: 1\nflags\t\t: sse avx\n") != first
    machine_key.cache_clear()
