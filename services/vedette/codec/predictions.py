"""A model's outputs as rows: one prediction for each row of the input.

Rule: the first dimension is the row; a scalar output is one row. Values that a format cannot carry are
an error that says which format can.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from vedette.codec import bfloat16
from vedette.codec.jsondata import decoded_texts, to_json
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Array, Tensor, element_count

_PLAIN = re.compile(r'[^,"\r\n\ufeff]+')


def row_count(outputs: Sequence[Tensor]) -> int:
    """The number of rows that all outputs have.

    Raises:
        InvalidArgument: they differ, or there are no outputs.
    """
    counts = {tensor.array.shape[0] if tensor.array.ndim else 1 for tensor in outputs}
    if len(counts) != 1:
        shapes = ", ".join(f"{tensor.name!r} {list(tensor.array.shape)}" for tensor in outputs[:8])
        raise InvalidArgument(f"the outputs are not rows of one number ({shapes}); use the V2 protocol")
    return counts.pop()


def row_size(tensor: Tensor) -> int:
    """Values in one row of the tensor."""
    return element_count(tensor.array.shape[1:])


def json_rows(outputs: Sequence[Tensor]) -> list[object] | Array:
    """A prediction for each row: the bare value or array of an only output, else an object by output name.

    Raises:
        InvalidArgument: as `row_count`; NaN, infinities or BYTES that are not UTF-8.
    """
    count = row_count(outputs)
    columns = [_json_values(tensor).reshape(count, *tensor.array.shape[1:]) for tensor in outputs]
    if len(outputs) == 1:
        return columns[0] if columns[0].dtype != object else columns[0].tolist()
    rows = zip(*map(_row_values, columns))
    return [{tensor.name: value for tensor, value in zip(outputs, row)} for row in rows]


def _row_values(column: Array) -> list[object]:
    """Each row's value: floats as they are, which keeps FP32 short; whole numbers as Python's, of which orjson takes
    every kind that ONNX Runtime gives (its INT64 is numpy's `longlong`)."""
    kind = column.dtype.kind
    return list(column) if kind == "f" or (column.ndim > 1 and kind != "O") else column.tolist()


def _json_values(tensor: Tensor) -> Array:
    """The tensor as numbers or text that JSON has."""
    array = _wide(tensor)
    if array.dtype == object:
        return array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidArgument(
            f"output {tensor.name!r} holds NaN or infinite values, which JSON cannot carry; "
            "ask for text/csv, or for binary outputs of the V2 protocol"
        )
    return array


def texts(tensor: Tensor) -> list[str]:
    """Every element as the text of a CSV cell, in order; floats as short as they read back the same."""
    array = _wide(tensor).reshape(-1)
    if array.dtype == object:
        return [_quoted(text) for text in array.tolist()]
    if not array.size:
        return []
    cells = to_json(array)[1:-1].decode().split(",")
    if array.dtype.kind == "f":  # JSON has written null for these
        for index in np.flatnonzero(~np.isfinite(array)).tolist():
            cells[index] = str(array[index])
    return cells


def _wide(tensor: Tensor) -> Array:
    """The tensor with BF16 as FP32 and BYTES as an object array of str."""
    array = np.ascontiguousarray(tensor.array).reshape(tensor.array.shape)
    if tensor.datatype == "BF16":
        return bfloat16.widen(array.astype(np.uint16, copy=False))
    if tensor.datatype == "BYTES":
        return decoded_texts(tensor.name, array)
    return array


def _quoted(text: str) -> str:
    """The text as a CSV cell: in quotes unless it is plain, so that empty cells and byte order marks survive."""
    return text if _PLAIN.fullmatch(text) else '"' + text.replace('"', '""') + '"'
