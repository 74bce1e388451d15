"""Graphs that the engine's tests are made of, built here so that no binary lies in the repository."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str] | None
VALUE = helper.make_tensor_value_info
FLOAT, INT64, STRING, BFLOAT16, BOOL = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.STRING,
    TensorProto.BFLOAT16,
    TensorProto.BOOL,
)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    *,
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    **more: Any,
) -> onnx.ModelProto:
    """A model of opset 18; `more` goes to `make_graph`."""
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [*initializers, *more.pop("initializer", ())], **more)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def save(graph: onnx.ModelProto | bytes, folder: Path) -> Path:
    """Write `model.onnx` into a folder that is made for it."""
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(graph if isinstance(graph, bytes) else graph.SerializeToString())
    return path


def mlp(dims: Sequence[int] = (30, 64, 2), *, seed: int = 0) -> onnx.ModelProto:
    """The reference model: fully connected layers with ReLU between them; input `x`, output `y`."""
    random = np.random.default_rng(seed)
    nodes, weights, last = [], {}, "x"
    for layer, (rows, columns) in enumerate(itertools.pairwise(dims)):
        out = "y" if layer == len(dims) - 2 else f"h{layer}"
        weights[f"w{layer}"] = random.normal(size=(rows, columns)).astype(np.float32)
        weights[f"b{layer}"] = random.normal(size=columns).astype(np.float32)
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [out if out == "y" else f"g{layer}"]))
        if out != "y":
            nodes.append(helper.make_node("Relu", [f"g{layer}"], [out]))
        last = out
    return model(nodes, [VALUE("x", FLOAT, ["n", dims[0]])], [VALUE("y", FLOAT, ["n", dims[-1]])], weights=weights)


def identity(*elements: int, dims: Dims = ("n", 2)) -> onnx.ModelProto:
    """`y0 = x0`, `y1 = x1`, ... one pair for each element type."""
    nodes = [helper.make_node("Identity", [f"x{i}"], [f"y{i}"]) for i in range(len(elements))]
    inputs = [VALUE(f"x{i}", element, dims) for i, element in enumerate(elements)]
    return model(nodes, inputs, [VALUE(f"y{i}", element, dims) for i, element in enumerate(elements)])


def scale(factor: float, *, source: str = "x", target: str = "y", columns: int | str = 2) -> onnx.ModelProto:
    """`target = source * factor`, rows of `columns` FP32."""
    nodes = [helper.make_node("Mul", [source, "k"], [target])]
    dims = ["n", columns]
    return model(
        nodes, [VALUE(source, FLOAT, dims)], [VALUE(target, FLOAT, dims)], weights={"k": np.float32(factor).reshape(1)}
    )


def zipmap() -> onnx.ModelProto:
    """What a classifier looks like that was converted without `zipmap=False`."""
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, shape=None))
    )
    return model([node], [VALUE("x", FLOAT, ["n", 2])], [helper.make_value_info("y", kind)])


# --- graphs that ask for more than anybody has -------------------------------------------------------


def _added(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray[Any, Any]]) -> onnx.ModelProto:
    """`y = x + sum of what the nodes give as b`, so that no optimiser drops it."""
    nodes = [
        *nodes,
        helper.make_node("ReduceSum", ["b"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return model(nodes, [VALUE("x", FLOAT, ["n"])], [VALUE("y", FLOAT, ["n"])], weights=weights)


def _ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.int64)


def tiny_constant_of_shape() -> onnx.ModelProto:
    """About 140 bytes that ask for 2.8 GB."""
    return model(
        [helper.make_node("ConstantOfShape", ["s"], ["y"])],
        [VALUE("x", FLOAT, [1])],
        [VALUE("y", FLOAT, ["n"])],
        initializer=[helper.make_tensor("s", INT64, [1], [700_000_000])],
    )


def constant_of_shape() -> onnx.ModelProto:
    """Four petabytes of zeros: more than any machine can even promise."""
    return _added([helper.make_node("ConstantOfShape", ["s"], ["b"])], {"s": _ints(1 << 50)})


def expand() -> onnx.ModelProto:
    """One number, two to the fortieth times."""
    return _added([helper.make_node("Expand", ["k", "s"], ["b"])], {"k": np.ones(1, np.float32), "s": _ints(1 << 40)})


def tile() -> onnx.ModelProto:
    """A thousand numbers, nearly a million times: just under what Tile itself refuses."""
    return _added([helper.make_node("Tile", ["k", "s"], ["b"])], {"k": np.ones(1000, np.float32), "s": _ints(900_000)})


def count_up() -> onnx.ModelProto:
    """Range to two to the fortieth."""
    nodes = [
        helper.make_node("Range", ["a", "z", "d"], ["i"]),
        helper.make_node("Cast", ["i"], ["b"], to=FLOAT),
    ]
    scalars = {name: np.array(value, np.int64) for name, value in (("a", 0), ("z", 1 << 40), ("d", 1))}
    return _added(nodes, scalars)


def pad() -> onnx.ModelProto:
    """One number in a frame of a terabyte."""
    return _added(
        [helper.make_node("Pad", ["k", "s"], ["b"])], {"k": np.ones(1, np.float32), "s": _ints(1 << 39, 1 << 39)}
    )


def one_hot() -> onnx.ModelProto:
    """One index among two to the fortieth."""
    weights = {"i": _ints(0), "d": np.array(1 << 40, np.int64), "v": np.array([0, 1], np.float32)}
    return _added([helper.make_node("OneHot", ["i", "d", "v"], ["b"])], weights)


def _spin_body() -> onnx.GraphProto:
    nodes = [helper.make_node("Identity", ["c"], ["again"]), helper.make_node("Identity", ["v"], ["out"])]
    inputs = [VALUE("i", INT64, []), VALUE("c", BOOL, []), VALUE("v", FLOAT, ["n"])]
    return helper.make_graph(nodes, "body", inputs, [VALUE("again", BOOL, []), VALUE("out", FLOAT, ["n"])])


def endless_loop() -> onnx.ModelProto:
    """A loop of two to the sixtieth rounds."""
    node = helper.make_node("Loop", ["m", "", "x"], ["y"], body=_spin_body())
    inputs, outputs = [VALUE("x", FLOAT, ["n"])], [VALUE("y", FLOAT, ["n"])]
    return model([node], inputs, outputs, weights={"m": np.array(1 << 60, np.int64)})


def recursive_function() -> onnx.ModelProto:
    """A function of the model that calls itself."""
    call = helper.make_node("F", ["a"], ["b"], domain="mine")
    function = helper.make_function("mine", "F", ["a"], ["b"], [call], [helper.make_opsetid("mine", 1)])
    made = model(
        [helper.make_node("F", ["x"], ["y"], domain="mine")],
        [VALUE("x", FLOAT, ["n"])],
        [VALUE("y", FLOAT, ["n"])],
    )
    made.functions.append(function)
    made.opset_import.append(helper.make_opsetid("mine", 1))
    return made


def _field(number: int, payload: bytes) -> bytes:
    """One length-delimited field in protobuf's wire format."""
    size, head = len(payload), bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes(head) + bytes([size]) + payload


def nested_if(depth: int) -> bytes:
    """`depth` graphs, each in the attribute of a node of the one around it; by hand, as no library writes it."""
    graph = b""
    for _ in range(depth):
        attribute = _field(1, b"then_branch") + _field(6, graph) + b"\xa0\x01\x05"
        graph = _field(1, _field(4, b"If") + _field(5, attribute)) + _field(2, b"g")
    return b"\x08\x09" + _field(7, graph) + _field(8, b"\x10\x12")


def many_nodes(count: int) -> bytes:
    """`count` nodes, added to the reference model."""
    node = helper.make_node("Identity", ["x"], ["z"]).SerializeToString()
    extra = _field(7, _field(1, node) * count)
    return mlp().SerializeToString() + extra


BOMBS: dict[str, Callable[[], onnx.ModelProto | bytes]] = {
    "tiny_constant_of_shape": tiny_constant_of_shape,
    "constant_of_shape": constant_of_shape,
    "expand": expand,
    "tile": tile,
    "range": count_up,
    "pad": pad,
    "one_hot": one_hot,
    "loop": endless_loop,
    "recursive_function": recursive_function,
    "nested_if_2000": lambda: nested_if(2_000),
    "nodes": lambda: many_nodes(100_001),
}


# --- external data -------------------------------------------------------------------------------


def external(kind: str, location: str, **entries: str) -> onnx.ModelProto:
    """The reference graph with one tensor's data elsewhere: `kind` is where that tensor stands.

    `dense`: an initializer; `values`, `indices`: halves of a sparse one; `attribute`: a Constant node's value.
    """
    tensor = TensorProto(name="e", data_type=INT64 if kind == "indices" else FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    inputs, outputs = [VALUE("x", FLOAT, ["n", 2])], [VALUE("y", FLOAT, ["n", 2])]
    add = helper.make_node("Add", ["x", "e"], ["y"])
    if kind == "dense":
        return model([add], inputs, outputs, initializer=[tensor])
    if kind == "attribute":
        constant = helper.make_node("Constant", [], ["e"])
        attribute = constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
        attribute.t.CopyFrom(tensor)
        return model([constant, add], inputs, outputs)
    whole = {
        "values": numpy_helper.from_array(np.ones(2, np.float32), "e"),
        "indices": numpy_helper.from_array(_ints(0, 1)),
    }
    whole[kind] = tensor
    sparse = onnx.SparseTensorProto(values=whole["values"], indices=whole["indices"], dims=[2])
    sparse.values.name = "e"
    return model([add], inputs, outputs, sparse_initializer=[sparse])


EXTERNAL_KINDS = ("dense", "values", "indices", "attribute")
