"""Small ONNX graphs with plain answers, as bytes: what tests deploy.

Rule: each function says what its graph computes; nothing is trained, downloaded or random.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
"""ONNX's number for each datatype of the protocol."""

Shape = Sequence[int | str]
"""Dimensions; a name stands for one of any size."""


def model(nodes, inputs, outputs, constants=None) -> bytes:
    """A graph from nodes, `{name: (datatype, shape)}` for inputs and outputs, and arrays by name."""

    def infos(tensors):
        return [helper.make_tensor_value_info(name, ONNX_TYPES[kind], shape) for name, (kind, shape) in tensors.items()]

    kept = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "graph", infos(inputs), infos(outputs), kept)
    made: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return made.SerializeToString()


def identity(datatype: str = "FP32", shape: Shape = ("rows", 4)) -> bytes:
    """y = x, for any datatype."""
    return model([helper.make_node("Identity", ["x"], ["y"])], {"x": (datatype, shape)}, {"y": (datatype, shape)})


def scaled(factor: float = 2.0, columns: int = 4) -> bytes:
    """y = x * factor: which version answered can be read from the answer."""
    shape = ("rows", columns)
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    return model([node], {"x": ("FP32", shape)}, {"y": ("FP32", shape)}, {"factor": np.float32(factor)})


def sum_and_difference(columns: int = 4) -> bytes:
    """sum = a + b, difference = a - b: two inputs and two outputs."""
    tensor = ("FP32", ("rows", columns))
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    return model(nodes, {"a": tensor, "b": tensor}, {"sum": tensor, "difference": tensor})


def row_sum(columns: int = 4) -> bytes:
    """y = the sum of each row, as one column: a regression."""
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
    return model(
        [node], {"x": ("FP32", ("rows", columns))}, {"y": ("FP32", ("rows", 1))}, {"axes": np.array([1], np.int64)}
    )


def square_root(columns: int = 4) -> bytes:
    """y = sqrt(x): NaN for what is negative."""
    tensor = ("FP32", ("rows", columns))
    return model([helper.make_node("Sqrt", ["x"], ["y"])], {"x": tensor}, {"y": tensor})


def lookup() -> bytes:
    """y = (10, 20, 30)[index]: the run refuses an index outside the table."""
    node = helper.make_node("Gather", ["table", "index"], ["y"])
    return model(
        [node],
        {"index": ("INT64", ("rows",))},
        {"y": ("FP32", ("rows",))},
        {"table": np.array([10, 20, 30], np.float32)},
    )


def reshaped() -> bytes:
    """y = x in the given shape: the run fails, through no rule of the protocol, when the counts differ."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    return model([node], {"x": ("FP32", ("count",)), "shape": ("INT64", (1,))}, {"y": ("FP32", ("same",))})


def slow(size: int = 512, rounds: int = 40) -> bytes:
    """y = x after `rounds` multiplications with the identity matrix: takes long, the same for any values."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("MatMul", ["value", "eye"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, [size, size]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [size, size]),
        ],
    )
    nodes = [
        helper.make_node("ConstantOfShape", ["extent"], ["square"]),
        helper.make_node("EyeLike", ["square"], ["eye"], dtype=TensorProto.FLOAT),
        helper.make_node("Expand", ["x", "extent"], ["start"]),
        helper.make_node("Loop", ["rounds", "", "start"], ["last"], body=body),
        helper.make_node("Slice", ["last", "zero", "one", "zero"], ["y"]),
    ]
    constants = {
        "rounds": np.int64(rounds),
        "extent": np.array([size, size], np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
    }
    return model(nodes, {"x": ("FP32", (1, 1))}, {"y": ("FP32", (1, size))}, constants)
