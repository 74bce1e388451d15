"""What can be said against a graph by reading it: before any library computes with it.

Rule: nothing here follows a path, allocates what a shape promises, or calls itself: the depth and the
numbers in the file are a stranger's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from vedette.core.errors import InvalidArgument
from vedette.core.models import FILE_NAME, GRAPH_FILE
from vedette.core.tensors import element_count
from vedette.engine.signature import check_tensor_name

MOST_NODES = 100_000
"""Nodes over all subgraphs and functions; ONNX Runtime's optimisers are worse than linear in them."""

_T = onnx.TensorProto
_BITS: dict[int, int] = {
    **dict.fromkeys((_T.COMPLEX128,), 128),
    **dict.fromkeys((_T.INT64, _T.UINT64, _T.DOUBLE, _T.COMPLEX64), 64),
    **dict.fromkeys((_T.FLOAT, _T.INT32, _T.UINT32), 32),
    **dict.fromkeys((_T.FLOAT16, _T.BFLOAT16, _T.INT16, _T.UINT16), 16),
    **dict.fromkeys((_T.INT8, _T.UINT8, _T.BOOL), 8),
    **dict.fromkeys((_T.FLOAT8E4M3FN, _T.FLOAT8E4M3FNUZ, _T.FLOAT8E5M2, _T.FLOAT8E5M2FNUZ), 8),
    **dict.fromkeys((_T.INT4, _T.UINT4), 4),
}
"""Type of a tensor -> bits of an element. Text is not here and never raw; other kinds cannot be raw here."""


def parse(data: bytes) -> onnx.ModelProto:
    """The model in `data`; protobuf itself refuses more than 100 levels of nesting.

    Raises:
        InvalidArgument: these bytes are not an ONNX model.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise InvalidArgument("this is not an ONNX model, or it is cut off or nested too deeply") from None
    if not model.HasField("graph") or not model.ir_version:
        raise InvalidArgument("this is not an ONNX model: it has no graph")
    return model


def check_model(model: onnx.ModelProto, files: Mapping[str, int]) -> None:
    """Check sizes, names and stored tensors against `files` (name -> bytes of every file uploaded).

    Raises:
        InvalidArgument: it says what is wrong, naming a tensor where there is one.
    """
    _check_values("input", model.graph.input)
    _check_values("output", model.graph.output)
    used = {GRAPH_FILE}
    for kind, stored in _contents(model):
        if kind == "tensor":
            used.update(_check_tensor(stored, files))
    unused = sorted(set(files) - used)
    if unused:
        raise InvalidArgument(f"file {unused[0][:80]!r} belongs to no tensor of the graph")


def _check_values(role: str, values: Any) -> None:
    names = [value.name for value in values]
    for name in names:
        check_tensor_name(role, name)
    if len(set(names)) != len(names):
        raise InvalidArgument(f"two {role}s of the graph have the same name")
    for value in values:
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and not tensor.HasField("shape"):
            raise InvalidArgument(
                f"{role} {value.name!r} declares no shape; give it one, with names for open dimensions"
            )


def _contents(model: onnx.ModelProto) -> Iterator[tuple[str, Any]]:
    """Every ("tensor", TensorProto) and ("node", NodeProto), wherever in the model; refuses too many nodes."""
    graphs: list[Any] = [model.graph, *model.functions]
    for training in model.training_info:
        graphs += [training.initialization, training.algorithm]
    nodes = 0
    while graphs:
        graph = graphs.pop()
        nodes += len(graph.node)
        if nodes > MOST_NODES:
            raise InvalidArgument(f"the graph has more than {MOST_NODES} nodes")
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (("tensor", sparse.values), ("tensor", sparse.indices))
        yield from (("tensor", tensor) for tensor in getattr(graph, "initializer", ()))
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        for attribute in (*attributes, *getattr(graph, "attribute_proto", ())):
            yield from _attribute_tensors(attribute)
            graphs += [attribute.g] if attribute.HasField("g") else []
            graphs += attribute.graphs


def _attribute_tensors(attribute: Any) -> Iterator[tuple[str, Any]]:
    if attribute.HasField("t"):
        yield "tensor", attribute.t
    yield from (("tensor", tensor) for tensor in attribute.tensors)
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for each in (*sparse, *attribute.sparse_tensors):
        yield from (("tensor", each.values), ("tensor", each.indices))


def _check_tensor(tensor: Any, files: Mapping[str, int]) -> set[str]:
    """The files that the tensor's data lies in."""
    shown = f"tensor {tensor.name[:80]!r}"
    if any(dim < 0 for dim in tensor.dims):
        raise InvalidArgument(f"{shown} has a negative dimension")
    bits = _BITS.get(tensor.data_type)
    size = None if bits is None else (element_count(list(tensor.dims)) * bits + 7) // 8
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return {_check_external(shown, tensor, size, files)}
    if tensor.external_data:
        raise InvalidArgument(f"{shown} names external data but does not say that it is external")
    if tensor.HasField("raw_data") and len(tensor.raw_data) != size:
        raise InvalidArgument(f"{shown} holds {len(tensor.raw_data)} bytes, which is not what its shape and type need")
    return set()


def _check_external(shown: str, tensor: Any, size: int | None, files: Mapping[str, int]) -> str:
    entries: dict[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data) or not set(entries) <= {"location", "offset", "length", "checksum"}:
        raise InvalidArgument(f"{shown} describes its external data in an unknown way")
    location = entries.get("location", "")
    if FILE_NAME.fullmatch(location) is None or location == GRAPH_FILE:
        raise InvalidArgument(f"{shown} keeps its data under {location[:80]!r}; only a bare file name may stand there")
    if location not in files:
        raise InvalidArgument(f"{shown} keeps its data in {location!r}, which is not among the files uploaded")
    offset, length = _whole(shown, entries.get("offset", "0")), _whole(shown, entries.get("length", str(size or 0)))
    if size is None or length != size:
        raise InvalidArgument(f"{shown} takes {length} bytes of {location!r}, which is not what its shape needs")
    if offset + length > files[location]:
        raise InvalidArgument(f"{shown} reaches beyond the end of {location!r}")
    return location


def _whole(shown: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise InvalidArgument(f"{shown} describes its external data with {text[:40]!r}, which is not a whole number")
    return int(text)
