"""The models of every load test, built by code with fixed seeds: nothing is downloaded, and every machine has the same.

`reference` is small on purpose (what is measured is the server around it), `tree` is what tabular users serve, `mlp`
gains from batches, `cnn` is bound by arithmetic. Rule: one input `x`, one output `y`, both FP32, rows first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from loadtests import reference_model

SHAPES: dict[str, tuple[int, ...]] = {"reference": (30,), "tree": (30,), "mlp": (784,), "cnn": (1, 28, 28)}
"""What follows the rows in the shape of `x`."""

NAMES = tuple(SHAPES)
OPSET = helper.make_opsetid("", 17)
IR_VERSION = 9
"""What ONNX Runtime of 2023 and later reads: peers bring their own."""


def write(folder: Path) -> None:
    """Leave NAME.onnx of every model in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / f"{name}.onnx").write_bytes(build(name))


@cache
def build(name: str) -> bytes:
    """The serialized ONNX model; the tree takes a second to train."""
    builders = {"reference": _reference, "tree": _tree, "mlp": _mlp, "cnn": _cnn}
    model = builders[name]()
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def row(name: str, seed: int = 1) -> NDArray[np.float32]:
    """The one row that is sent, shape [1, ...]: four decimals, as a client would write it."""
    values = np.random.default_rng(seed).normal(size=(1, *SHAPES[name]))
    return np.round(values, 4).astype(np.float32)


@cache
def expected(name: str) -> NDArray[np.float32]:
    """What ONNX Runtime answers to `row(name)`."""
    session = onnxruntime.InferenceSession(build(name), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": row(name)})[0], np.float32)


def _reference() -> onnx.ModelProto:
    return _renamed(onnx.load_from_string(reference_model.build()), "reference")


def _mlp() -> onnx.ModelProto:
    return _dense("mlp", (784, 512, 256, 10), seed=8)


def _dense(name: str, widths: Sequence[int], *, seed: int) -> onnx.ModelProto:
    """Gemm and Relu in turn, a Softmax at the end."""
    rng, nodes, weights, value = np.random.default_rng(seed), [], {}, "x"
    last = len(widths) - 1
    for layer, (inside, outside) in enumerate(pairwise(widths), 1):
        weights[f"w{layer}"] = rng.normal(0, inside**-0.5, (inside, outside))
        weights[f"b{layer}"] = rng.normal(0, 0.1, outside)
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"sum{layer}"]))
        value = f"active{layer}"
        if layer < last:
            nodes.append(helper.make_node("Relu", [f"sum{layer}"], [value]))
    nodes.append(helper.make_node("Softmax", [f"sum{last}"], ["y"], axis=1))
    return _model(name, nodes, weights, (widths[-1],))


def _cnn() -> onnx.ModelProto:
    """Two convolutions of 3 x 3 (32 and 64 channels), a pool, one dense layer: 11 million multiplications a row."""
    rng = np.random.default_rng(9)
    weights = {
        "k1": rng.normal(0, 0.3, (32, 1, 3, 3)),
        "k2": rng.normal(0, 0.06, (64, 32, 3, 3)),
        "w": rng.normal(0, 0.01, (64 * 12 * 12, 10)),
        "b": rng.normal(0, 0.1, 10),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k1"], ["c1"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c1"], ["a1"]),
        helper.make_node("Conv", ["a1", "k2"], ["c2"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c2"], ["a2"]),
        helper.make_node("MaxPool", ["a2"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"], axis=1),
    ]
    return _model("cnn", nodes, weights, (10,))


def _model(
    name: str, nodes: list[onnx.NodeProto], weights: dict[str, NDArray[np.float64]], output: tuple[int, ...]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *SHAPES[name]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", *output])],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[OPSET], ir_version=IR_VERSION)


def _tree() -> onnx.ModelProto:
    """100 boosted trees of depth 3 on made-up rows; the probabilities only."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier

    rng = np.random.default_rng(10)
    rows = rng.normal(size=(1000, *SHAPES["tree"])).astype(np.float32)
    labels = (rows[:, :5].sum(axis=1) + rows[:, 5] * rows[:, 6] > 0).astype(int)
    trained = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=0).fit(rows, labels)
    model = to_onnx(trained, rows[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
    return _renamed(model, "tree")


def _renamed(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The graph with its input as `x` and its last output, of two classes, alone as `y`."""
    graph = model.graph
    names = {graph.input[0].name: "x", graph.output[-1].name: "y"}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    made = helper.make_graph(
        graph.node,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *SHAPES[name]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2])],
        graph.initializer,
    )
    return helper.make_model(made, opset_imports=list(model.opset_import), ir_version=IR_VERSION)
