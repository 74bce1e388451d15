"""Small ONNX models for tests, made on the spot: serialized bytes and the signature that goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_models import ONNX_TYPES
from vedette.core.models import Signature, TensorSpec

ROWS = -1


@dataclass(frozen=True)
class OnnxModel:
    """A model and what it takes and gives."""

    data: bytes
    signature: Signature

    @property
    def files(self) -> dict[str, bytes]:
        """The files of a model version."""
        return {"model.onnx": self.data}


def mlp(features: int = 30, hidden: int = 64, classes: int = 2, *, seed: int = 7) -> OnnxModel:
    """The reference network: `x` [-1, features] FP32 -> `probabilities` [-1, classes] FP32."""
    rng = np.random.default_rng(seed)
    shapes = {"w1": (features, hidden), "b1": (hidden,), "w2": (hidden, classes), "b2": (classes,)}
    weights = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return _model(nodes, [("x", "FP32", [ROWS, features])], [("probabilities", "FP32", [ROWS, classes])], weights)


def identity(datatype: str, shape: Sequence[int] = (ROWS, 3)) -> OnnxModel:
    """`x` -> `y`, the same."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return _model([node], [("x", datatype, shape)], [("y", datatype, shape)])


def constant_adder(constant: float, *, width: int = 1) -> OnnxModel:
    """`x` -> `y` = `x` + constant, FP32: versions of it can be told apart by their answers."""
    node = helper.make_node("Add", ["x", "c"], ["y"])
    shape = [ROWS, width]
    return _model([node], [("x", "FP32", shape)], [("y", "FP32", shape)], {"c": np.array([constant], np.float32)})


def gatherer() -> OnnxModel:
    """`index` INT64 [-1] -> `value` FP32 [-1] = table[index]: fails on an index over 9."""
    node = helper.make_node("Gather", ["table", "index"], ["value"], axis=0)
    table = {"table": np.arange(10, dtype=np.float32) * 10}
    return _model([node], [("index", "INT64", [ROWS])], [("value", "FP32", [ROWS])], table)


def slow(iterations: int = 400, width: int = 256) -> OnnxModel:
    """`x` FP32 [-1, width] -> `y`: a chain of matrix products, tens of milliseconds."""
    weights = {"w": (np.eye(width) * 0.999).astype(np.float32), "n": np.array(iterations), "go": np.array(True)}
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("MatMul", ["state", "w"], ["next"])],
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    node = helper.make_node("Loop", ["n", "go", "x"], ["y"], body=body)
    return _model([node], [("x", "FP32", [ROWS, width])], [("y", "FP32", [ROWS, width])], weights)


def two_inputs() -> OnnxModel:
    """`a`, `b` FP32 [-1, 2] -> `sum`, `difference`."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    shape = [ROWS, 2]
    inputs = [(name, "FP32", shape) for name in ("a", "b")]
    return _model(nodes, inputs, [(name, "FP32", shape) for name in ("sum", "difference")])


def big(megabytes: int = 64) -> OnnxModel:
    """`x` FP32 [-1, 1] -> `y` [-1, 1], with so many megabytes of weights in it."""
    size = megabytes * (1 << 20) // 4
    weights = {"w": np.random.default_rng(3).normal(size=(1, size)).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["wide"]),
        helper.make_node("ReduceMax", ["wide"], ["y"], axes=[1], keepdims=1),
    ]
    return _model(nodes, [("x", "FP32", [ROWS, 1])], [("y", "FP32", [ROWS, 1])], weights)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, str, Sequence[int]]],
    outputs: Sequence[tuple[str, str, Sequence[int]]],
    weights: dict[str, NDArray[np.generic]] | None = None,
) -> OnnxModel:
    initializers = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(
        list(nodes), "test", [_info(*spec) for spec in inputs], [_info(*spec) for spec in outputs], initializers
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    signature = Signature(
        tuple(TensorSpec(name, datatype, tuple(shape)) for name, datatype, shape in inputs),
        tuple(TensorSpec(name, datatype, tuple(shape)) for name, datatype, shape in outputs),
    )
    return OnnxModel(bytes(model.SerializeToString()), signature)


def _info(name: str, datatype: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    dims = ["rows" if dim < 0 else dim for dim in shape]
    return helper.make_tensor_value_info(name, ONNX_TYPES[datatype], dims)
