"""Admission of models: what is let in, and every way in which a hostile file is kept out."""

from __future__ import annotations

import os
import select
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.unit import engine_graphs as graphs

from vedette.core.errors import InvalidArgument, Unavailable
from vedette.core.models import TensorSpec
from vedette.engine import admission, files, graph, memory
from vedette.engine.admission import AdmissionLimits, AdmissionRefused, admit

SMALL = AdmissionLimits(memory_bytes=256 << 20, wall_s=60.0, cpu_s=2)


def refusal(folder: Path, limits: AdmissionLimits = SMALL) -> AdmissionRefused:
    with pytest.raises(AdmissionRefused) as caught:
        admit(folder, limits)
    assert str(folder) not in caught.value.message
    return caught.value


def test_a_good_model_is_admitted_with_signature_files_and_figures(tmp_path: Path) -> None:
    """Signature comes from the graph with -1 for open dimensions; sizes and digests are those of the files."""
    path = graphs.save(graphs.mlp(), tmp_path)
    found = admit(tmp_path, SMALL)
    assert found.signature.inputs == (TensorSpec("x", "FP32", (-1, 30)),)
    assert found.signature.outputs == (TensorSpec("y", "FP32", (-1, 2)),)
    assert [(file.path, file.size) for file in found.files] == [("model.onnx", path.stat().st_size)]
    assert found.files == files.describe(tmp_path)
    assert 0 < found.admission.run_time_us < 1e6
    assert 0 < found.admission.load_time_ms < 2e4
    assert 0 < found.admission.memory_bytes < SMALL.memory_bytes


def test_external_data_beside_the_graph_is_admitted(tmp_path: Path) -> None:
    """A plain sibling file that holds exactly the tensor's bytes is what external data is for."""
    graphs.save(graphs.external("dense", "weights.bin", length="8"), tmp_path)
    (tmp_path / "weights.bin").write_bytes(np.ones(2, np.float32).tobytes())
    assert [file.path for file in admit(tmp_path, SMALL).files] == ["model.onnx", "weights.bin"]


def test_outputs_that_the_graph_lies_about_get_open_dimensions(tmp_path: Path) -> None:
    """A declared size that two rows contradict is not passed on."""
    node = helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_int64s=[0], values_int64s=[7])
    outputs = [graphs.VALUE("y", graphs.INT64, [1, 3])]
    made = graphs.model([node], [graphs.VALUE("x", graphs.INT64, ["n", 3])], outputs)
    graphs.save(made, tmp_path)
    found = admit(tmp_path, SMALL)
    assert [spec.shape for spec in found.signature.outputs] == [(-1, 3)]


@pytest.mark.parametrize("name", graphs.BOMBS)
def test_a_bomb_is_refused_within_its_limits(tmp_path: Path, name: str) -> None:
    """Graphs that ask for terabytes or for ever are refused, and this process does not grow."""
    graphs.save(graphs.BOMBS[name](), tmp_path)
    before = memory.resident_bytes()
    error = refusal(tmp_path)
    assert error.code == "invalid_argument"
    assert error.step in admission.STEPS
    assert memory.resident_bytes() - before < 50 << 20


def test_the_refusal_names_the_limit_that_was_reached(tmp_path: Path) -> None:
    """Memory, processor time and wall time each have their own plain words, with the step."""
    graphs.save(graphs.tiny_constant_of_shape(), tmp_path / "memory")
    assert refusal(tmp_path / "memory").message == "canary: needed more than 256 MiB"
    graphs.save(graphs.endless_loop(), tmp_path / "loop")
    assert (
        refusal(tmp_path / "loop", AdmissionLimits(cpu_s=1)).message == "canary: used more than 1 s of processor time"
    )
    limits = AdmissionLimits(wall_s=6.0, cpu_s=60)
    assert refusal(tmp_path / "loop", limits).message == "canary: still running after 6 s"


BROKEN = {
    "empty": b"",
    "text": b"import os\nos.system('true')\n",
    "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    "zip": b"PK\x03\x04" + bytes(100),
    "random": np.random.default_rng(7).bytes(4096),
    "truncated": graphs.mlp().SerializeToString()[:-1000],
    "half": graphs.mlp().SerializeToString()[:4000],
}


@pytest.mark.parametrize("name", ["text", "random", "truncated"])
def test_what_is_no_onnx_model_is_refused(tmp_path: Path, name: str) -> None:
    """Other files and damaged ones end at the check, before ONNX Runtime sees them."""
    graphs.save(BROKEN[name], tmp_path)
    assert refusal(tmp_path).step == "check"


@pytest.mark.parametrize("name", BROKEN)
def test_bytes_that_are_no_model_do_not_parse(name: str) -> None:
    """The same in this process: parsing alone tells them from a model."""
    with pytest.raises(InvalidArgument):
        graph.check_model(graph.parse(BROKEN[name]), {"model.onnx": 1})


def test_a_list_of_dictionaries_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """ZipMap outputs cannot travel; the message says how to convert without them."""
    graphs.save(graphs.zipmap(), tmp_path)
    error = refusal(tmp_path)
    assert error.step == "load"
    assert "options={'zipmap': False}" in error.message


def test_an_unknown_operator_is_refused(tmp_path: Path) -> None:
    """The checker names what it does not know."""
    made = graphs.mlp()
    made.graph.node[0].op_type = "Jemm"
    graphs.save(made, tmp_path)
    error = refusal(tmp_path)
    assert error.step == "check"
    assert "Jemm" in error.message


def test_a_graph_that_fails_on_zeros_is_refused_at_the_canary(tmp_path: Path) -> None:
    """A graph that loads and cannot run never reaches an endpoint."""
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    inputs, outputs = [graphs.VALUE("x", graphs.FLOAT, ["n"])], [graphs.VALUE("y", graphs.FLOAT, ["a", "b"])]
    graphs.save(graphs.model([node], inputs, outputs, weights={"s": np.array([-1, 7])}), tmp_path)
    error = refusal(tmp_path)
    assert error.step == "canary"
    assert "onnxruntime" not in error.message


# --- files and external data --------------------------------------------------------------------


def _trick(name: str, folder: Path, outside: Path) -> str:
    """Lay the trick in the folder and return the location that the graph shall name."""
    if name == "parent":
        return "../outside.bin"
    if name == "absolute":
        return str(outside)
    link = folder / "weights.bin"
    link.symlink_to(outside) if name == "symlink" else link.hardlink_to(outside)
    return link.name


@pytest.mark.parametrize("kind", graphs.EXTERNAL_KINDS)
@pytest.mark.parametrize("trick", ["parent", "absolute", "symlink", "hardlink"])
def test_external_data_never_reads_outside_the_folder(tmp_path: Path, trick: str, kind: str) -> None:
    """Every trick with every kind of tensor is refused by our own reading, before any library's."""
    outside = tmp_path / "outside.bin"
    outside.write_bytes(bytes(16))
    folder = tmp_path / "model"
    folder.mkdir()
    made = graphs.external(kind, _trick(trick, folder, outside))
    graphs.save(made, folder)
    with pytest.raises(InvalidArgument):
        graph.check_model(made, {file.path: file.size for file in files.describe(folder)})


@pytest.mark.parametrize(("trick", "kind"), [("parent", "dense"), ("hardlink", "values"), ("symlink", "dense")])
def test_external_data_tricks_end_in_a_refusal(tmp_path: Path, trick: str, kind: str) -> None:
    """The same through the child: at `files` for links, at `check` for paths."""
    outside = tmp_path / "outside.bin"
    outside.write_bytes(bytes(16))
    folder = tmp_path / "model"
    folder.mkdir()
    graphs.save(graphs.external(kind, _trick(trick, folder, outside)), folder)
    assert refusal(folder).step == ("check" if trick == "parent" else "files")


@pytest.mark.parametrize(
    ("location", "entries"),
    [
        ("missing.bin", {}),
        ("model.onnx", {}),
        ("", {}),
        (".hidden", {}),
        ("weights.bin", {"offset": "12"}),
        ("weights.bin", {"offset": "-8"}),
        ("weights.bin", {"offset": "٣"}),
        ("weights.bin", {"length": "4"}),
        ("weights.bin", {"length": str(1 << 60)}),
        ("weights.bin", {"offset": str(1 << 64)}),
        ("weights.bin", {"basepath": "/etc"}),
        ("weights.bin\0", {}),
    ],
)
def test_external_data_that_does_not_fit_is_refused(location: str, entries: dict[str, str]) -> None:
    """Missing files, the graph itself, numbers that lead beyond the file, and unknown keys."""
    with pytest.raises(InvalidArgument):
        graph.check_model(graphs.external("dense", location, **entries), {"model.onnx": 1, "weights.bin": 16})


def test_a_file_that_no_tensor_names_is_refused() -> None:
    """What is stored with a model is part of it, or it is not stored."""
    with pytest.raises(InvalidArgument, match="belongs to no tensor"):
        graph.check_model(graphs.mlp(), {"model.onnx": 1, "notes.txt": 3})


@pytest.mark.parametrize("kind", ["fifo", "folder", "symlink", "hardlink", "hidden", "no graph", "nothing"])
def test_only_plain_files_with_bare_names_make_a_model(tmp_path: Path, kind: str) -> None:
    """Anything that is not a regular file of its own is refused without being opened (a FIFO would block)."""
    folder = tmp_path / "model"
    if kind != "nothing":
        graphs.save(graphs.mlp(), folder)
    odd = folder / "odd.bin"
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "folder":
        odd.mkdir()
    elif kind == "symlink":
        odd.symlink_to("model.onnx")
    elif kind == "hardlink":
        odd.hardlink_to(folder / "model.onnx")
    elif kind == "hidden":
        (folder / ".odd").write_bytes(b"")
    elif kind == "no graph":
        (folder / "model.onnx").rename(odd)
    with pytest.raises(InvalidArgument) as caught:
        files.describe(folder)
    assert str(tmp_path) not in caught.value.message


# --- tensors and names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "raw"),
    [([2], bytes(4)), ([2], bytes(12)), ([1 << 40], bytes(4)), ([-1], bytes(4)), ([1 << 32, 1 << 32], b""), ([], b"")],
)
def test_an_initializer_whose_bytes_are_not_its_shape_is_refused(dims: list[int], raw: bytes) -> None:
    """Sizes are compared as exact integers; nothing of the promised size is allocated."""
    made = graphs.mlp()
    made.graph.initializer.append(onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=dims, raw_data=raw))
    with pytest.raises(InvalidArgument, match="tensor 'w'"):
        graph.check_model(made, {"model.onnx": 1})


def test_a_wrong_initializer_is_refused_by_the_child_too(tmp_path: Path) -> None:
    """Numbers that stand in fields of their own are left to the checker and the runtime, inside the limits."""
    made = graphs.mlp()
    made.graph.initializer.append(
        onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[1 << 40], float_data=[1.0])
    )
    graphs.save(made, tmp_path)
    assert refusal(tmp_path).step in {"check", "load"}


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "n" * 257, "\x1b[31m"])
def test_an_input_name_that_cannot_be_shown_is_refused(name: str) -> None:
    """No name, control characters and very long names never reach requests, logs or metrics."""
    made = graphs.scale(2.0, source=name or "x")
    made.graph.input[0].name = name
    with pytest.raises(InvalidArgument):
        graph.check_model(made, {"model.onnx": 1})


def test_duplicate_names_and_missing_shapes_are_refused() -> None:
    """Two inputs of one name, and an input of which not even the rank is known."""
    made = graphs.identity(graphs.FLOAT, graphs.FLOAT)
    made.graph.input[1].name = "x0"
    with pytest.raises(InvalidArgument, match="same name"):
        graph.check_model(made, {"model.onnx": 1})
    with pytest.raises(InvalidArgument, match="declares no shape"):
        graph.check_model(graphs.identity(graphs.FLOAT, dims=None), {"model.onnx": 1})


def test_too_many_nodes_are_refused_wherever_they_stand() -> None:
    """Counted over the graph and every graph inside it, before anything works on them."""
    with pytest.raises(InvalidArgument, match="more than 100000 nodes"):
        graph.check_model(graph.parse(graphs.many_nodes(100_001)), {"model.onnx": 1})
    made = graphs.endless_loop()
    body = made.graph.node[0].attribute[0].g
    body.node.extend([body.node[0]] * 100_000)
    with pytest.raises(InvalidArgument, match="more than 100000 nodes"):
        graph.check_model(made, {"model.onnx": 1})


# --- the parent -----------------------------------------------------------------------------------


def _impostor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    """Let a script of ours stand in for the child's interpreter; $4 is the pipe it reports on."""
    script = tmp_path / "impostor"
    script.write_text(f"#!/bin/bash\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr(admission.sys, "executable", str(script))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("""echo '{"step":"load"}' >&$4; kill -SEGV $$""", "load: died of signal 11"),
        ("""echo '{"step":"load"}' >&$4; echo std::bad_alloc >&2; kill -ABRT $$""", "load: needed more than 256 MiB"),
        ("""echo '{"step":"load"}' >&$4; kill -KILL $$""", "load: was killed by the system"),
        ("""echo '{"step":"check"}' >&$4; exit 3""", "check: ended without a result (exit code 3)"),
        ("""echo '{"step":"check"}' >&$4; echo -n '{"adm' >&$4""", "check: ended in the middle of its report"),
        ("""echo '{"step":"/etc"}' >&$4""", "files: ended in the middle of its report"),
        ("""echo '[1]' >&$4""", "files: ended in the middle of its report"),
        ("""echo '{"step":"load"}' >&$4; yes | head -c 9000000 >&$4""", "load: "),
        ("""yes >&2 & echo '{"refused":"load","why":"no"}' >&$4; exit 0""", "load: no"),
    ],
)
def test_whatever_the_child_does_the_parent_gives_a_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, message: str
) -> None:
    """Signals, torn reports, floods and orphans all end in a refusal with a plain reason."""
    _impostor(monkeypatch, tmp_path, program)
    with pytest.raises(AdmissionRefused) as caught:
        admit(tmp_path, SMALL)
    assert caught.value.message.startswith(message)


def test_a_child_that_never_begins_is_our_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An interpreter that is missing or broken says nothing about the model."""
    _impostor(monkeypatch, tmp_path, "exit 1")
    with pytest.raises(Unavailable):
        admit(tmp_path, SMALL)
    monkeypatch.setattr(admission.sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(Unavailable):
        admit(tmp_path, SMALL)


def _ends(pid: int) -> bool:
    """Whether the process is gone, or is within ten seconds: a killed one takes a moment."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 10)[0])
    finally:
        os.close(handle)


def test_the_whole_group_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that the child left behind does not outlive the admission; nor does a descriptor."""
    _impostor(
        monkeypatch, tmp_path, f"""sleep 60 & echo $! >{tmp_path}/orphan; echo '{{"step":"load"}}' >&$4; sleep 60"""
    )
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(AdmissionRefused, match="still running after 1 s"):
        admit(tmp_path, AdmissionLimits(wall_s=1.0))
    assert _ends(int((tmp_path / "orphan").read_text()))
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_the_child_sees_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what it takes to find libraries is passed on."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    _impostor(monkeypatch, tmp_path, f"env >{tmp_path}/env")
    with pytest.raises(Unavailable):
        admit(tmp_path, SMALL)
    assert "canary" not in (tmp_path / "env").read_text()


def test_a_module_beside_the_model_is_never_imported(tmp_path: Path) -> None:
    """A file called numpy.py in the model's folder is data, whatever the working directory of the child."""
    graphs.save(graphs.external("dense", "numpy.py"), tmp_path)
    (tmp_path / "numpy.py").write_bytes(b"x=1/0\n##")
    assert admit(tmp_path, SMALL).signature.inputs


# --- the sweep ------------------------------------------------------------------------------------


def _flipped(data: bytes, random: np.random.Generator) -> bytes:
    """A few bytes changed anywhere, or a piece cut out or doubled."""
    mutant = bytearray(data)
    start, length = int(random.integers(len(data))), int(random.integers(1, 64))
    match random.integers(4):
        case 0:
            del mutant[start : start + length]
        case 1:
            mutant[start:start] = mutant[start : start + length]
        case _:
            for place in random.integers(len(data), size=random.integers(1, 8)):
                mutant[place] ^= 1 << int(random.integers(8))
    return bytes(mutant)


def _restructured(data: bytes, random: np.random.Generator) -> bytes:
    """One field of a well-formed model changed: what byte flips rarely reach."""
    made = onnx.ModelProto.FromString(data)
    node = made.graph.node[int(random.integers(len(made.graph.node)))]
    tensor = made.graph.initializer[int(random.integers(len(made.graph.initializer)))]
    operators = [
        "Loop",
        "If",
        "Scan",
        "Gather",
        "Reshape",
        "Concat",
        "Resize",
        "Einsum",
        "TopK",
        "Pad",
        "LSTM",
        "Split",
    ]
    match random.integers(9):
        case 0:
            node.op_type = str(random.choice(operators))
        case 1:
            node.input[0] = str(random.choice(["", "y", "x", "w0", "b1", node.output[0]]))
        case 2:
            node.attribute.add(
                name="transA", type=int(random.integers(15)), i=int(random.integers(-(1 << 62), 1 << 62))
            )
        case 3:
            tensor.dims[0] = int(random.choice([-1, 0, 1, 1 << 31, 1 << 62, 31]))
        case 4:
            tensor.data_type = int(random.integers(30))
        case 5:
            made.graph.input[0].type.tensor_type.elem_type = int(random.integers(30))
        case 6:
            made.graph.input[0].type.tensor_type.shape.dim[1].dim_value = int(
                random.choice([-5, 0, 29, 1 << 40, 1 << 62])
            )
        case 7:
            made.opset_import[0].version = int(random.choice([-1, 0, 1, 7, 22, 1 << 40]))
        case _:
            made.graph.node.append(made.graph.node.pop(0))
    return made.SerializeToString()


@pytest.mark.slow
def test_several_hundred_mutants_never_harm_the_parent(tmp_path: Path) -> None:
    """Each is admitted or refused with a step; this process neither fails nor grows nor leaks descriptors."""
    random, good = np.random.default_rng(20261121), graphs.mlp((4, 3, 2)).SerializeToString()
    mutants = [(_flipped, _restructured)[i % 2](good, random) for i in range(300)]
    folders = [graphs.save(mutant, tmp_path / str(i)).parent for i, mutant in enumerate(mutants)]

    def verdict(folder: Path) -> str:
        try:
            admit(folder, SMALL)
        except AdmissionRefused as error:
            return error.step
        return "admitted"

    before, open_before = memory.resident_bytes(), len(list(Path("/proc/self/fd").iterdir()))
    with ThreadPoolExecutor(2) as pool:
        verdicts = Counter(pool.map(verdict, folders))
    assert set(verdicts) <= {"admitted", *admission.STEPS}
    assert verdicts.total() == 300
    assert min(verdicts["admitted"], verdicts["check"]) > 10
    assert memory.resident_bytes() - before < 50 << 20
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
