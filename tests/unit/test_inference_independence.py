"""Which models may be batched: those whose rows are seen to be independent, and no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import inference_models, onnx_models

from vedette.core.models import SessionOptions, Signature, TensorSpec
from vedette.core.tensors import Tensor
from vedette.engine.chain import Chain
from vedette.engine.session import Session
from vedette.inference.independence import why_dependent


def graph(*nodes: onnx.NodeProto, rows_out: Any = "n", weights: Mapping[str, Any] | None = None) -> bytes:
    """`x` FP32 [n, 3] -> `y` FP32."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    built = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows_out, 3])],
        initializers,
    )
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def quantized() -> bytes:
    """Each row is scaled by the largest value of all: what dynamic quantization does."""
    return graph(
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    )


DEPENDENT = {
    "softmax over the first dimension": graph(helper.make_node("Softmax", ["x"], ["y"], axis=0)),
    "mean over the batch": graph(
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), helper.make_node("Sub", ["x", "m"], ["y"])
    ),
    "running sum": graph(helper.make_node("CumSum", ["x", "axis"], ["y"], exclusive=1), weights={"axis": np.int32(0)}),
    "dynamic quantization": quantized(),
    "sorted rows": graph(
        helper.make_node("TopK", ["x", "k"], ["top", "_"], axis=0),
        helper.make_node("Sub", ["x", "top"], ["y"]),
        weights={"k": np.array([1], np.int64)},
    ),
    "one output for all": graph(helper.make_node("ReduceSum", ["x", "axes"], ["y"]), weights={"axes": np.array([0])}),
    "random numbers": graph(
        helper.make_node("RandomNormalLike", ["x"], ["r"], scale=1.0), helper.make_node("Add", ["x", "r"], ["y"])
    ),
    "a fixed first dimension": graph(helper.make_node("Identity", ["x"], ["y"]), rows_out=4),
    "the number of rows": graph(
        helper.make_node("Shape", ["x"], ["s"], start=0, end=1),
        helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "f"], ["y"]),
    ),
    "a constant": graph(helper.make_node("Mul", ["x", "zero"], ["y"]), weights={"zero": np.float32(0)}),
    "rows folded into columns": graph(
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("Reshape", ["t", "shape"], ["y"]),
        weights={"shape": np.array([-1, 3])},
    ),
}


def loaded(data: bytes, folder: Path) -> Session:
    """The graph in ONNX Runtime, with one thread."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    return Session.load(path, SessionOptions(intra_op_threads=1))


def reason(runtime: Any, row_s: float = 0.0, **fields: Any) -> str:
    return why_dependent(runtime, Signature(runtime.inputs, runtime.outputs, **fields), row_s=row_s)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", DEPENDENT)
@pytest.mark.parametrize("row_s", [0.0, 1.0], ids=["quick", "slow"])
def test_a_model_whose_rows_depend_on_others_is_found_out(kind: str, row_s: float, tmp_path: Path) -> None:
    """Also by the one trial that a slow model gets."""
    assert reason(loaded(DEPENDENT[kind], tmp_path), row_s)


INDEPENDENT = {
    "reference": inference_models.mlp().data,
    "mlp": inference_models.mlp(784, 512, 10).data,
    "adder": inference_models.constant_adder(1.0).data,
    "two inputs": inference_models.two_inputs().data,
    "lookup": inference_models.gatherer().data,
    "row sum": onnx_models.row_sum(),
    **{
        f"identity {kind}": onnx_models.identity(kind)
        for kind in ("BOOL", "UINT8", "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES")
    },
}


@pytest.mark.parametrize("kind", INDEPENDENT)
def test_a_model_of_independent_rows_may_be_batched(kind: str, tmp_path: Path) -> None:
    """Every datatype, text and BF16 among them."""
    assert reason(loaded(INDEPENDENT[kind], tmp_path)) == ""


def test_many_models_with_one_output_pass(tmp_path: Path) -> None:
    """Answers near zero are compared with the size of the others, not with themselves."""
    for seed in range(20):
        model = inference_models.mlp(784, 256, 3, seed=seed)
        assert reason(loaded(model.data, tmp_path)) == "", seed


def test_one_dependent_step_spoils_a_pipeline(tmp_path: Path) -> None:
    """The whole chain is tried, not its steps."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = loaded(graph(helper.make_node("Identity", ["x"], ["y"])), tmp_path / "a")
    spoiled = loaded(DEPENDENT["mean over the batch"], tmp_path / "b")
    assert reason(Chain([plain, plain])) == ""
    assert reason(Chain([plain, spoiled]))
    assert reason(Chain([spoiled, plain]))


class Choosy:
    """Takes the texts that it knows and no others."""

    inputs = (TensorSpec("color", "BYTES", (-1, 1)),)
    outputs = (TensorSpec("y", "INT64", (-1, 1)),)

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        from vedette.core.errors import InvalidArgument

        known = {b"red": 1, b"green": 2}
        try:
            codes = [[known[text]] for text in feeds["color"].array.ravel()]
        except KeyError:
            raise InvalidArgument("unknown color") from None
        return [Tensor("y", "INT64", np.array(codes, np.int64))]


def test_texts_are_taken_from_the_categories_of_the_signature() -> None:
    """A model that refuses unknown words is tried with known ones; without any, nothing is assumed."""
    assert reason(Choosy(), categories={"color": ("red", "green")}) == ""
    assert "do not show" in reason(Choosy())
