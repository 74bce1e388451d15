"""A graph in ONNX Runtime: datatypes in and out, errors in plain words, threads, and memory given back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.onnx_models import ONNX_TYPES
from tests.unit import engine_graphs as graphs

from vedette.core.errors import InvalidArgument, ModelFailed, Unavailable
from vedette.core.models import SessionOptions, TensorSpec
from vedette.core.tensors import DATATYPES, Tensor
from vedette.engine.session import Session

ONE_THREAD = SessionOptions(intra_op_threads=1)


def loaded(made: Any, folder: Path) -> Session:
    return Session.load(graphs.save(made, folder), ONE_THREAD)


def floats(name: str, *rows: list[float]) -> dict[str, Tensor]:
    return {name: Tensor(name, "FP32", np.array(rows, dtype=np.float32))}


def sample(datatype: str, shape: tuple[int, ...]) -> Tensor:
    count = int(np.prod(shape))
    if datatype == "BYTES":
        array = np.empty(shape, dtype=object)
        array.ravel()[:] = [f"é\0{i}".encode() for i in range(count)]
        return Tensor("x0", datatype, array)
    return Tensor("x0", datatype, np.arange(count).reshape(shape).astype(DATATYPES[datatype].dtype))


@pytest.mark.parametrize("shape", [(3, 2), (0, 2), (1, 2)])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_goes_in_and_comes_out_unchanged(tmp_path: Path, datatype: str, shape: tuple[int, ...]) -> None:
    """All of the protocol's datatypes, with no rows, one and several; the signature names them."""
    session = loaded(graphs.identity(ONNX_TYPES[datatype]), tmp_path)
    assert session.inputs == (TensorSpec("x0", datatype, (-1, 2)),)
    tensor = sample(datatype, shape)
    (given,) = session.run({"x0": tensor}, ("y0",))
    assert (given.name, given.datatype, given.array.shape) == ("y0", datatype, shape)
    assert given.array.dtype == DATATYPES[datatype].dtype
    assert given.array.tolist() == tensor.array.tolist()


def test_the_answer_is_the_arithmetic(tmp_path: Path) -> None:
    """The reference network gives what numpy computes from the same weights."""
    made = graphs.mlp()
    weights = {
        tensor.name: np.frombuffer(tensor.raw_data, np.float32).reshape(tensor.dims)
        for tensor in made.graph.initializer
    }
    x = np.random.default_rng(1).normal(size=(5, 30)).astype(np.float32)
    hidden = np.maximum(x @ weights["w0"] + weights["b0"], 0)
    (given,) = loaded(made, tmp_path).run({"x": Tensor("x", "FP32", x)}, ())
    np.testing.assert_allclose(given.array, hidden @ weights["w1"] + weights["b1"], rtol=1e-4, atol=1e-4)


def test_outputs_come_in_the_order_asked_for(tmp_path: Path) -> None:
    """Any subset in any order; none named means all; several datatypes at once, BF16 and text among them."""
    session = loaded(graphs.identity(ONNX_TYPES["FP32"], ONNX_TYPES["INT64"], ONNX_TYPES["BF16"]), tmp_path)
    feeds = {
        "x0": Tensor("x0", "FP32", np.ones((1, 2), np.float32)),
        "x1": Tensor("x1", "INT64", np.ones((1, 2), np.int64)),
        "x2": Tensor("x2", "BF16", np.full((1, 2), 0x3F80, np.uint16)),
    }
    assert [tensor.name for tensor in session.run(feeds, ("y2", "y0"))] == ["y2", "y0"]
    assert [tensor.datatype for tensor in session.run(feeds, ())] == ["FP32", "INT64", "BF16"]
    assert [tensor.array.tolist() for tensor in session.run(feeds, ["y1", "y2"])] == [[[1, 1]], [[0x3F80, 0x3F80]]]


def test_bf16_in_and_text_out_work_together_and_the_reverse_is_refused(tmp_path: Path) -> None:
    """The binding can return BF16 only where no input is text; the refusal says what to do."""
    both = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Cast", ["x"], ["t"], to=TensorProto.STRING)]
    values = graphs.VALUE("x", TensorProto.FLOAT, ["n"]), graphs.VALUE("b", TensorProto.BFLOAT16, ["n"])
    nodes = [both[1], helper.make_node("Identity", ["b"], ["c"])]
    outputs = [graphs.VALUE("t", TensorProto.STRING, ["n"]), graphs.VALUE("c", TensorProto.BFLOAT16, ["n"])]
    session = loaded(graphs.model(nodes, values, outputs), tmp_path / "good")
    feeds = {"x": Tensor("x", "FP32", np.ones(1, np.float32)), "b": Tensor("b", "BF16", np.ones(1, np.uint16))}
    assert [tensor.array.tolist() for tensor in session.run(feeds, ())] == [[b"1"], [1]]
    with pytest.raises(InvalidArgument, match="cast its outputs to FP32"):
        loaded(graphs.identity(ONNX_TYPES["BYTES"], ONNX_TYPES["BF16"]), tmp_path / "bad")


def test_scalars_and_views_of_a_socket_buffer_are_taken_as_they_are(tmp_path: Path) -> None:
    """No dimensions at all, read-only arrays, and arrays that begin at an odd address."""
    session = loaded(graphs.identity(ONNX_TYPES["FP64"], dims=()), tmp_path / "scalar")
    (given,) = session.run({"x0": Tensor("x0", "FP64", np.array(2.5))}, ())
    assert np.shape(given.array) == ()
    assert float(given.array) == 2.5
    odd = np.frombuffer(b"\0" + np.arange(60, dtype="<f4").tobytes(), dtype="<f4", offset=1).reshape(2, 30)
    mlp = loaded(graphs.mlp(), tmp_path / "mlp")
    views, copies = (mlp.run({"x": Tensor("x", "FP32", x)}, ())[0].array for x in (odd, odd.copy()))
    assert views.tolist() == copies.tolist()


def test_text_that_is_not_utf8_is_the_callers_error(tmp_path: Path) -> None:
    """ONNX strings are text; bytes that are not are refused with the input's name."""
    session = loaded(graphs.identity(ONNX_TYPES["BYTES"]), tmp_path)
    broken = Tensor("x0", "BYTES", np.array([[b"a", b"\xff"]], dtype=object))
    with pytest.raises(InvalidArgument, match=r"'x0'.*UTF-8"):
        session.run({"x0": broken}, ())


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"z": Tensor("z", "FP32", np.ones((1, 30), np.float32))},
        {"x": Tensor("x", "FP32", np.ones((1, 29), np.float32))},
        {"x": Tensor("x", "FP32", np.ones(30, np.float32))},
        {"x": Tensor("x", "FP64", np.ones((1, 30)))},
    ],
)
def test_what_the_graph_does_not_take_is_the_callers_error(tmp_path: Path, feeds: dict[str, Tensor]) -> None:
    """Missing, unknown, wrong size, wrong rank, wrong type: whatever a caller above overlooked."""
    with pytest.raises(InvalidArgument, match="the model does not take this input"):
        loaded(graphs.mlp(), tmp_path).run(feeds, ())


def test_an_output_that_does_not_exist_is_the_callers_error(tmp_path: Path) -> None:
    """Also where inputs are converted on the way."""
    with pytest.raises(InvalidArgument):
        loaded(graphs.scale(2), tmp_path / "plain").run(floats("x", [1, 2]), ("q",))
    text = loaded(graphs.identity(ONNX_TYPES["BYTES"]), tmp_path / "text")
    with pytest.raises(InvalidArgument):
        text.run({"x0": sample("BYTES", (1, 2))}, ("q",))


def test_a_failing_node_is_the_models_error_and_shows_no_path(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The node and the numbers are shown; source files and C++ names are not, nor is anything logged."""
    node = helper.make_node("Reshape", ["x", "s"], ["y"], name="fold")
    inputs, outputs = [graphs.VALUE("x", TensorProto.FLOAT, ["n"])], [graphs.VALUE("y", TensorProto.FLOAT, ["a", "b"])]
    session = loaded(graphs.model([node], inputs, outputs, weights={"s": np.array([-1, 7])}), tmp_path)
    assert session.run({"x": Tensor("x", "FP32", np.ones(14, np.float32))}, ())[0].array.shape == (2, 7)
    with pytest.raises(ModelFailed) as caught:
        session.run({"x": Tensor("x", "FP32", np.ones(3, np.float32))}, ())
    assert "'fold'" in caught.value.message
    assert "{3}" in caught.value.message
    assert not any(part in caught.value.message for part in ("/", ".h:", "onnxruntime", "::"))
    assert capfd.readouterr() == ("", "")


def test_an_unknown_category_is_the_callers_error_with_the_way_out(tmp_path: Path) -> None:
    """A OneHotEncoder not told what to do with unknown values refuses them; the message says how to tell it."""
    node = helper.make_node("OneHotEncoder", ["x"], ["y"], domain="ai.onnx.ml", cats_strings=["a", "b"], zeros=0)
    inputs = [graphs.VALUE("x", TensorProto.STRING, ["n"])]
    session = loaded(graphs.model([node], inputs, [graphs.VALUE("y", TensorProto.FLOAT, ["n", 2])]), tmp_path)
    known, unknown = (Tensor("x", "BYTES", np.array([text], dtype=object)) for text in (b"b", b""))
    assert session.run({"x": known}, ())[0].array.tolist() == [[0, 1]]
    with pytest.raises(InvalidArgument, match="handle_unknown='ignore'"):
        session.run({"x": unknown}, ())


def test_a_run_beyond_memory_is_the_models_error(tmp_path: Path) -> None:
    """An allocation that the system refuses is an answer, not a crash."""
    session = loaded(graphs.constant_of_shape(), tmp_path)
    with pytest.raises(ModelFailed, match="more memory than there is"):
        session.run({"x": Tensor("x", "FP32", np.ones(1, np.float32))}, ())


@pytest.mark.parametrize("data", [b"", b"not onnx", bytes(range(256))])
def test_a_file_that_is_no_graph_does_not_load(tmp_path: Path, data: bytes) -> None:
    """The message is plain and names no folder."""
    with pytest.raises(InvalidArgument) as caught:
        loaded(data, tmp_path)
    assert str(tmp_path) not in caught.value.message


def test_loading_follows_no_link(tmp_path: Path) -> None:
    """Neither the graph nor its external data may be a link, and there must be a graph."""
    outside = tmp_path / "outside.bin"
    outside.write_bytes(np.ones(2, np.float32).tobytes())
    folder = tmp_path / "model"
    graphs.save(graphs.external("dense", "weights.bin"), folder)
    (folder / "weights.bin").hardlink_to(outside)
    with pytest.raises(InvalidArgument, match="hard link"):
        Session.load(folder / "model.onnx", ONE_THREAD)
    outside.unlink()
    assert Session.load(folder / "model.onnx", ONE_THREAD).run(floats("x", [1, 2]), ())[0].array.tolist() == [[2, 3]]
    (folder / "link.onnx").symlink_to("model.onnx")
    with pytest.raises(InvalidArgument, match="not a regular file"):
        Session.load(folder / "link.onnx", ONE_THREAD)
    with pytest.raises(InvalidArgument):
        Session.load(folder / "nothing.onnx", ONE_THREAD)


def test_threads_share_one_session(tmp_path: Path) -> None:
    """Eight threads at once each get the answer to their own question."""
    session = loaded(graphs.scale(3), tmp_path)
    gate = threading.Barrier(8)

    def ask(thread: int) -> bool:
        gate.wait()
        answers = (session.run(floats("x", [thread, i]), ())[0].array.tolist() for i in range(200))
        return all(answer == [[3.0 * thread, 3.0 * i]] for i, answer in enumerate(answers))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))


def test_threads_come_from_the_quota_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 means the container's processors, never the host's count; a number means that number."""
    path = graphs.save(graphs.scale(2), tmp_path)
    monkeypatch.setattr("vedette.engine.session.available_cpus", lambda: 3)
    used = [Session.load(path, SessionOptions(intra_op_threads=n))._ort.get_session_options() for n in (0, 1)]
    assert [options.intra_op_num_threads for options in used] == [3, 1]


THREADS_PROGRAM = """
import os, sys
from pathlib import Path
import numpy as np
from vedette.core.models import SessionOptions
from vedette.core.tensors import Tensor
from vedette.engine.session import Session

feeds = {"x": Tensor("x", "FP32", np.ones((64, 512), np.float32))}
before = len(os.listdir("/proc/self/task"))
sessions = [Session.load(Path(sys.argv[1]), SessionOptions(intra_op_threads=n)) for n in (1, 1, 3)]
for session in sessions:
    session.run(feeds, ())
after = len(os.listdir("/proc/self/task"))
print(after - before)
"""


def test_a_session_has_the_threads_it_was_given(tmp_path: Path) -> None:
    """The caller is one of them, so one thread means no other. In a process that has no others."""
    path = graphs.save(graphs.mlp([512] * 4), tmp_path)
    done = subprocess.run([sys.executable, "-c", THREADS_PROGRAM, path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_no_thread_spins(tmp_path: Path) -> None:
    """Whoever waits for work sleeps: the cores belong to the event loop and to other models, too."""
    used = Session.load(graphs.save(graphs.scale(2), tmp_path), SessionOptions())._ort.get_session_options()
    for pool in ("intra_op", "inter_op"):
        assert used.get_session_config_entry(f"session.{pool}.allow_spinning") == "0"


def test_a_closed_session_says_so(tmp_path: Path) -> None:
    """Running after close is Unavailable, closing twice is fine."""
    session = loaded(graphs.scale(2), tmp_path)
    session.close()
    session.close()
    with pytest.raises(Unavailable):
        session.run(floats("x", [1, 2]), ())


MEMORY_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from vedette.core.models import SessionOptions
from vedette.core.tensors import Tensor
from vedette.engine import memory
from vedette.engine.session import Session

def round_trip():
    session = Session.load(Path(sys.argv[1]), SessionOptions(intra_op_threads=1))
    assert session.memory_bytes > 50 << 20
    assert session.load_time_ms > 0
    session.run(feeds, ())
    loaded = memory.resident_bytes()
    session.close()
    return loaded

feeds = {"x": Tensor("x", "FP32", np.zeros((4096, 512), np.float32))}
round_trip()  # the library's own code and tables come into memory once
start = memory.resident_bytes()
for _ in range(3):
    assert round_trip() - start > 50 << 20
    assert memory.resident_bytes() - start < 10 << 20, memory.resident_bytes() - start
"""


def test_close_gives_the_memory_back(tmp_path: Path) -> None:
    """After three rounds of load, run and close of a 60 MiB model a process is as large as before.

    In a process of its own: what else this one has allocated and freed moves its size by as much.
    """
    path = graphs.save(graphs.mlp([512] * 60), tmp_path)
    done = subprocess.run([sys.executable, "-c", MEMORY_PROGRAM, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_library_reports_to_nobody(tmp_path: Path) -> None:
    """Importing the engine and running a model leaves nothing in the home folder and opens no database or socket."""
    path = graphs.save(graphs.scale(2), tmp_path / "model")
    home = tmp_path / "home"
    home.mkdir()
    program = f"""
import os
from pathlib import Path
from vedette.core.models import SessionOptions
from vedette.engine.session import Session
from vedette.engine.warmup import measure
measure(Session.load(Path({str(path)!r}), SessionOptions()))
for entry in Path("/proc/self/fd").iterdir():
    if entry.is_symlink() and (os.readlink(entry).startswith("socket:") or ".db" in os.readlink(entry)):
        print(os.readlink(entry))
"""
    # Not our own environment: in CI the library keeps quiet by itself.
    environment = {"HOME": str(home), "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.iterdir()) == []


class Recorder:
    """Stands before ONNX Runtime and keeps what it is asked and what it answers."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.calls: list[tuple[Any, Any]] = []
        self.answers: list[Any] = []

    def run(self, names: Any, feeds: Any) -> Any:
        self.calls.append((names, feeds))
        self.answers.append(self._session.run(names, feeds))
        return self.answers[-1]


def test_run_adds_nothing_to_the_runtimes_own_call(tmp_path: Path) -> None:
    """Plain numbers: one call, with the caller's own array, and the array that comes back is the answer's."""
    session = loaded(graphs.mlp(), tmp_path)
    recorder = session._ort = Recorder(session._ort)
    x = np.zeros((1, 30), np.float32)
    answer = session.run({"x": Tensor("x", "FP32", x)}, ("y",))
    [(_, feeds)] = recorder.calls
    assert feeds["x"] is x
    assert answer[0].array is recorder.answers[0][0]
