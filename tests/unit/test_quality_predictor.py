"""A model that checks may ask: real graphs in a process of their own, with limits."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from tests import onnx_models

from vedette.core.errors import DeadlineExceeded, InvalidArgument, ModelFailed
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import Tensor
from vedette.monitor.checks.feature_attribution import FeatureAttribution
from vedette.monitor.evidence import Evidence
from vedette.monitor.quality.outcomes import Outcomes
from vedette.monitor.quality.predictor import Predictor, PredictorLimits, columns_of, tensors_of
from vedette.monitor.quality.tensor_frames import BrokenFrame, read_tensors, write_error, write_tensors
from vedette.profiles import Profile


def features(rows, names="abcd"):
    r = np.random.default_rng(0)
    return {name: r.normal(size=rows).astype(np.float32) for name in names}


def stored(folder, graph: bytes):
    (folder / "model.onnx").write_bytes(graph)
    return folder


ROW_SUM = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 4)),),
    outputs=(TensorSpec("y", "FP32", (-1, 1)),),
    feature_names=("a", "b", "c", "d"),
)


@pytest.fixture
def row_sum(tmp_path):
    with Predictor(stored(tmp_path, onnx_models.row_sum()), ROW_SUM) as predictor:
        yield predictor


def test_columns_go_in_and_named_answers_come_out(row_sum) -> None:
    """A regression: the sum of the features, call after call from one process."""
    for rows in (1, 7, 10_000):
        columns = features(rows)
        found = row_sum(dict(reversed(columns.items())))  # the signature gives the order, not the caller
        assert list(found) == ["prediction"]
        np.testing.assert_allclose(found["prediction"], sum(columns.values()), atol=1e-4)


def test_attribution_of_a_real_model_is_its_weights(row_sum) -> None:
    """The whole check over the process: a feature that varies most is the most important."""

    def rows(scales, seed):
        r = np.random.default_rng(seed)
        return Outcomes.of({name: r.normal(size=300) * scale for name, scale in zip("abcd", scales)})

    (result,) = FeatureAttribution(num_rows=40).evaluate(
        Evidence(
            window=Profile(),
            signature=ROW_SUM,
            outcomes=rows((0.1, 1, 2, 50), 1),
            reference_outcomes=rows((8, 4, 2, 0.1), 2),
            predict=row_sum,
        )
    )
    assert result.outcome == "violated"
    assert "now d (" in result.description


def classifier() -> bytes:
    """label = argmax, probabilities = softmax of a + b against c + d."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    weights = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    outputs = {"label": ("INT64", ("rows",)), "probabilities": ("FP32", ("rows", 2))}
    return onnx_models.model(nodes, {"x": ("FP32", ("rows", 4))}, outputs, {"w": weights})


def test_class_probabilities_have_their_classes_names(tmp_path) -> None:
    """As captured outputs do."""
    signature = Signature(
        inputs=(TensorSpec("x", "FP32", (-1, 4)),),
        outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
        feature_names=("a", "b", "c", "d"),
        label_names=("left", "right"),
    )
    with Predictor(stored(tmp_path, classifier()), signature) as predictor:
        found = predictor(features(50))
    assert set(found) == {"prediction", "probability_left", "probability_right"}
    np.testing.assert_allclose(found["probability_left"] + found["probability_right"], 1.0, atol=1e-6)
    assert ((found["probability_right"] > 0.5) == (found["prediction"] == 1)).all()


def test_a_model_of_fixed_rows_is_asked_in_its_steps(tmp_path) -> None:
    """One row at a time, where the graph says so."""
    graph = onnx_models.identity("FP32", (1, 2))
    signature = Signature((TensorSpec("x", "FP32", (1, 2)),), (TensorSpec("y", "FP32", (1, 2)),), ("a", "b"))
    with Predictor(stored(tmp_path, graph), signature) as predictor:
        found = predictor(features(5, "ab"))
    np.testing.assert_array_equal(found["y_1"], features(5, "ab")["b"])


def test_texts_go_in_and_out(tmp_path) -> None:
    """BYTES both ways; what is missing is empty, and empty is missing."""
    signature = Signature((TensorSpec("x", "BYTES", (-1, 2)),), (TensorSpec("y", "BYTES", (-1, 2)),), ("s", "t"))
    column = np.array(["é", None, "b"], dtype=object)
    with Predictor(stored(tmp_path, onnx_models.identity("BYTES", ("rows", 2))), signature) as predictor:
        found = predictor({"s": column, "t": np.array([1.0, np.nan, 2.5])})
    assert found["y_0"].tolist() == ["é", None, "b"]
    assert found["y_1"].tolist() == ["1", None, "2.5"]


def test_a_models_error_is_the_callers_to_read_and_the_process_goes_on(tmp_path) -> None:
    """An index outside its table is refused; the next question is answered."""
    signature = Signature((TensorSpec("index", "INT64", (-1,)),), (TensorSpec("y", "FP32", (-1,)),), ("index",))
    with Predictor(stored(tmp_path, onnx_models.lookup()), signature) as predictor:
        with pytest.raises((ModelFailed, InvalidArgument)):
            predictor({"index": np.array([0, 9])})
        assert predictor({"index": np.array([0, 2])})["prediction"].tolist() == [10.0, 30.0]


def test_a_hanging_model_is_ended(tmp_path) -> None:
    """At the deadline its process is killed, and later questions fail at once."""
    graph = onnx_models.slow(512, 1_000_000)
    signature = Signature((TensorSpec("x", "FP32", (1, 1)),), (TensorSpec("y", "FP32", (1, 512)),), ("a",))
    with Predictor(stored(tmp_path, graph), signature, PredictorLimits(wall_s=1.0)) as predictor:
        for _ in range(2):
            with pytest.raises((DeadlineExceeded, ModelFailed)):
                predictor({"a": np.zeros(1)})
        assert predictor._child.process.returncode is not None


def test_a_greedy_model_is_refused(tmp_path) -> None:
    """What is over the memory limit costs the check's answer and nothing else."""
    nodes = [helper.make_node("Expand", ["x", "extent"], ["y"])]
    extent = {"extent": np.array([1, 1 << 30], np.int64)}
    graph = onnx_models.model(nodes, {"x": ("FP32", ("rows", 1))}, {"y": ("FP32", ("rows", "many"))}, extent)
    signature = Signature((TensorSpec("x", "FP32", (-1, 1)),), (TensorSpec("y", "FP32", (-1, -1)),), ("a",))
    limits = PredictorLimits(memory_bytes=512 << 20)
    with Predictor(stored(tmp_path, graph), signature, limits) as predictor, pytest.raises(ModelFailed):
        predictor({"a": np.zeros(1)})


@pytest.mark.parametrize("graph", [b"", b"not a graph"])
def test_a_broken_file_is_an_error(tmp_path, graph) -> None:
    """Of the model, with no path in its message."""
    with (
        Predictor(stored(tmp_path, graph), ROW_SUM) as predictor,
        pytest.raises((InvalidArgument, ModelFailed)) as raised,
    ):
        predictor(features(3))
    assert str(tmp_path) not in str(raised.value)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_closing_leaves_no_process_and_no_descriptor(tmp_path) -> None:
    """Also twice, and where nothing was ever asked."""
    before = descriptors()
    predictor = Predictor(stored(tmp_path, onnx_models.row_sum()), ROW_SUM)
    predictor.close()
    predictor(features(3))
    process = predictor._child.process
    predictor.close()
    predictor.close()
    assert process.returncode is not None
    assert descriptors() <= before


def test_the_monitors_process_loads_no_onnx_runtime() -> None:
    """Only the child does."""
    program = (
        "import sys, vedette.monitor.quality.predictor; print([n for n in ('onnxruntime', 'onnx') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_of_categories_become_their_numbers() -> None:
    """As they were before the capture showed them; other texts that are numbers are numbers."""
    signature = Signature(
        (TensorSpec("x", "FP32", (-1, 2)),), (), ("size", "colour"), categories={"colour": ("red", "blue")}
    )
    colours = np.array(["blue", "red", None, "7"], dtype=object)
    (tensor,) = tensors_of(signature, {"size": np.arange(4.0), "colour": colours})
    np.testing.assert_array_equal(tensor.array, np.array([[0, 1], [1, 0], [2, np.nan], [3, 7]], np.float32))


def test_several_inputs_take_their_features_in_order() -> None:
    """Each as wide as it is, in its own shape and type."""
    signature = Signature(
        (TensorSpec("a", "INT64", (-1,)), TensorSpec("b", "FP64", (-1, 2, 1))), (), ("one", "two", "three")
    )
    first, second = tensors_of(signature, {name: np.arange(3) * i for i, name in enumerate(("one", "two", "three"), 1)})
    assert (first.array.shape, first.array.dtype) == ((3,), np.int64)
    assert second.array.shape == (3, 2, 1)
    assert second.array[2].ravel().tolist() == [4.0, 6.0]


@pytest.mark.parametrize(
    ("inputs", "columns", "reason"),
    [
        ((TensorSpec("x", "FP32", (-1, 1)),), {"b": np.zeros(2)}, "'a' is not there"),
        ((TensorSpec("x", "INT8", (-1, 1)),), {"a": np.array([np.nan])}, "missing or out of the range"),
        ((TensorSpec("x", "FP32", (-1, 1)),), {"a": np.array(["word"], dtype=object)}, "no number"),
        ((TensorSpec("x", "FP32", ()),), {"a": np.zeros(2)}, "scalar"),
        ((), {"a": np.zeros(2)}, "not rows"),
    ],
)
def test_what_the_model_does_not_take_is_named(inputs, columns, reason) -> None:
    """Before any process is asked."""
    with pytest.raises(InvalidArgument, match=reason):
        tensors_of(Signature(inputs, (), ("a",)), columns)


def test_outputs_that_are_no_rows_are_left_out() -> None:
    """A scalar beside the predictions, or one of another length."""
    outputs = [
        Tensor("loss", "FP32", np.zeros((), np.float32)),
        Tensor("y", "FP32", np.zeros((3, 1), np.float32)),
        Tensor("z", "FP32", np.zeros((2, 1), np.float32)),
    ]
    assert list(columns_of(Signature((), ()), outputs, rows=3)) == ["prediction"]


def test_frames_are_read_as_they_were_written() -> None:
    """Numbers and bytes; an error in their place is raised."""
    pipe = io.BytesIO()
    tensors = [
        Tensor("x", "FP32", np.arange(6, dtype=np.float32).reshape(2, 3)),
        Tensor("t", "BYTES", np.array([b"a", b""], dtype=object)),
    ]
    write_tensors(pipe, tensors)
    write_error(pipe, ModelFailed("no"))
    pipe.seek(0)
    for written, read in zip(tensors, read_tensors(pipe)):
        assert (written.name, written.datatype) == (read.name, read.datatype)
        assert (written.array == read.array).all()
    with pytest.raises(ModelFailed, match="no"):
        read_tensors(pipe)
    with pytest.raises(BrokenFrame):
        read_tensors(pipe)


def frame(header: bytes, total: int, payload: bytes = b"") -> bytes:
    return struct.pack("<IQ", len(header), total) + header + payload


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"123",
        struct.pack("<IQ", 1 << 30, 0),
        struct.pack("<IQ", 2, 1 << 40),
        frame(b"[]", 0),
        frame(b"{", 0),
        frame(b"{}", 0),
        frame(b'{"code": 1}', 0),
        frame(b'{"tensors": [1]}', 0),
        frame(b'{"tensors": [["x", "FP32", [1], 4]]}', 4),
        frame(b'{"tensors": [["x", "FP32", [1], 8]]}', 4, b"1234"),
        frame(b'{"tensors": [["x", "FP32", [1], -4]]}', -4 % (1 << 64)),
        frame(b'{"tensors": [["x", "FP32", [3], 4]]}', 4, b"1234"),
        frame(b'{"tensors": [["x", "FP99", [1], 4]]}', 4, b"1234"),
    ],
)
def test_broken_frames_are_errors(data) -> None:
    """Whatever a broken child sends, nothing is allocated for it."""
    with pytest.raises((BrokenFrame, InvalidArgument)):
        read_tensors(io.BytesIO(data))


@pytest.mark.parametrize("lengths", [(1 << 21, 0), (2, (512 << 20) + 1)])
def test_the_length_of_a_frame_is_bounded_before_it_is_read(lengths) -> None:
    """A broken child cannot make the monitor wait for gigabytes."""
    with pytest.raises(BrokenFrame, match="longer than it may be"):
        read_tensors(io.BytesIO(struct.pack("<IQ", *lengths) + b"{}"))
