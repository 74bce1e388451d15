"""The classification extension: the top k of an output as text, "value:index" or "value:index:label".

Rule: the first dimension is the batch, the rest are classes; equal values keep the order of their index.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vedette.codec import bfloat16
from vedette.codec.binary import object_array
from vedette.codec.predictions import texts
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Array, Tensor, datatype_of, element_count


def classify(tensor: Tensor, k: int, label_names: Sequence[str] = ()) -> Tensor:
    """The `k` largest of each row as BYTES of shape [batch, k]; of a vector, [k]. NaN comes last.

    Fewer classes than `k` give them all; an index past `label_names` has no label.

    Raises:
        InvalidArgument: `k` is not positive, or the output has no classes to order.
    """
    if k < 1:
        raise InvalidArgument(f"output {tensor.name!r}: classification must ask for at least 1 class")
    if tensor.datatype == "BYTES" or not tensor.array.ndim:
        raise InvalidArgument(f"output {tensor.name!r} of {tensor.datatype} has no classes to order")
    values = _numbers(tensor)
    rows = values.reshape(len(values), element_count(values.shape[1:])) if values.ndim > 1 else values[np.newaxis]
    order = _descending(rows)[:, :k]
    top = np.take_along_axis(rows, order, axis=1)
    shown = texts(Tensor(tensor.name, datatype_of(top), top))
    elements = [_entry(value, index, label_names) for value, index in zip(shown, order.ravel().tolist())]
    shape = order.shape if values.ndim > 1 else order.shape[1:]
    return Tensor(tensor.name, "BYTES", object_array(elements).reshape(shape))


def _numbers(tensor: Tensor) -> Array:
    if tensor.datatype == "BF16":
        return bfloat16.widen(tensor.array.astype(np.uint16, copy=False))
    return tensor.array.view(np.uint8) if tensor.datatype == "BOOL" else tensor.array


def _descending(rows: Array) -> NDArray[np.intp]:
    """Indices of each row from the largest value down, the lower index first among equals."""
    ranked = np.where(np.isnan(rows), -np.inf, rows) if rows.dtype.kind == "f" else rows
    ascending = np.argsort(ranked[:, ::-1], axis=1, kind="stable")
    last: int = rows.shape[1] - 1
    order: NDArray[np.intp] = last - ascending[:, ::-1]
    return order


def _entry(value: str, index: int, label_names: Sequence[str]) -> bytes:
    label = f":{label_names[index]}" if index < len(label_names) else ""
    return f"{value}:{index}{label}".encode()
