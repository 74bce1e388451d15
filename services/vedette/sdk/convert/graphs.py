"""Small repairs of converted graphs: names, declared shapes, a reshape in front.

Rule: a repair never changes a number that comes out; the comparison that follows would show it.
"""

from __future__ import annotations

from typing import Any

from vedette.core.errors import InvalidArgument
from vedette.sdk.convert.conversion import imported

INPUT = "x"
"""The one input of a model that takes a matrix."""


def finish(model: Any, outputs: tuple[str, ...]) -> Any:
    """Give the graph's outputs their names in order, and shapes that hold for every batch."""
    _settle(model)
    names = [value.name for value in model.graph.output]
    if len(names) != len(outputs):
        raise InvalidArgument(
            f"classifiers and regressors can be converted; clusterers, detectors of outliers and transformers "
            f"cannot (this model's graph has the outputs {', '.join(names)}, not {', '.join(outputs)})"
        )
    for old, new in zip(names, outputs, strict=True):
        rename(model, old, new)
    for value in model.graph.output:
        dims = value.type.tensor_type.shape.dim
        if not dims:  # declared without a shape: labels are one number a row
            dims.add()
        _free(dims[0])
    for value in model.graph.input:
        _free(value.type.tensor_type.shape.dim[0])
    return model


def _settle(model: Any) -> None:
    """Let the same model have the same bytes: converters put a random name and sets without order into a graph."""
    model.graph.name = "model"
    versions: dict[str, int] = {}
    for used in model.opset_import:
        versions[used.domain] = max(used.version, versions.get(used.domain, 0))
    del model.opset_import[:]
    for domain in sorted(versions):
        model.opset_import.add(domain=domain, version=versions[domain])


def _free(dimension: Any) -> None:
    """Make a dimension the batch: onnxmltools declares LightGBM's labels as {1}, and ONNX Runtime warns each time."""
    dimension.Clear()
    dimension.dim_param = "N"


def rename(model: Any, old: str, new: str) -> None:
    """Rename a tensor everywhere in the graph; a tensor that has the new name already steps aside."""
    if old == new:
        return
    if new in _names(model):
        rename(model, new, f"{new}_inner")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        if value.name == old:
            value.name = new
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def flatten_input(model: Any, shape: tuple[int, ...]) -> None:
    """Let the graph take rows of `shape` (an image, say) where it took them flat."""
    onnx = imported("onnx")
    rename(model, INPUT, "flat")
    del model.graph.input[:]
    kind = onnx.TensorProto.FLOAT
    model.graph.input.append(onnx.helper.make_tensor_value_info(INPUT, kind, ["N", *shape]))
    model.graph.initializer.append(
        onnx.helper.make_tensor("flat_shape", onnx.TensorProto.INT64, [2], [0, _product(shape)])
    )
    model.graph.node.insert(0, onnx.helper.make_node("Reshape", [INPUT, "flat_shape"], ["flat"], name="flatten"))


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _names(model: Any) -> set[str]:
    produced = {name for node in model.graph.node for name in node.output}
    return produced | {value.name for value in (*model.graph.input, *model.graph.initializer)}
