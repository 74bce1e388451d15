"""The reference model of every load test: a 30 -> 64 -> 2 network with fixed weights.

Small on purpose (about 8 us in ONNX Runtime): what is measured is the server around it.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FEATURES, HIDDEN, CLASSES = 30, 64, 2


def build() -> bytes:
    """The serialized ONNX model: input `x` [-1, 30] FP32, output `probabilities` [-1, 2] FP32."""
    rng = np.random.default_rng(7)
    shapes = {"w1": (FEATURES, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, CLASSES), "b2": (CLASSES,)}
    weights = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def row() -> NDArray[np.float32]:
    """The one row that every load test sends, shape [1, 30]."""
    return np.round(np.random.default_rng(1).normal(size=(1, FEATURES)), 4).astype(np.float32)
