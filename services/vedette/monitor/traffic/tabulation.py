"""Captured tensors as a table: features and predictions by name, one row for each row that was answered.

Rule: the one place that names columns. Data never raises: what cannot be a column is counted and left out, so one
odd tensor costs neither the others nor the window.

- A feature has its name in the signature, else `<input>_<i>`; a numeric one with `categories` shows the name
  of its category.
- A label or value is `prediction`, a class probability `probability_<class>`, any other output `<output>_<i>`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.codec import bfloat16
from vedette.codec.captures import CaptureBatch, TensorColumn
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import Array, element_count
from vedette.monitor.quality.outcomes import PREDICTION, PROBABILITY

MAX_COLUMNS = 2_000
"""Columns of one tensor that are watched; a wider one (an image, say) is left out as a whole."""
MAX_TEXT = 4_096
"""Bytes of a text that are kept; the rest is cut off."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of the answered requests of a batch."""

    columns: dict[str, Array]
    """All of one length: numbers (NaN: missing) or object arrays of `str | None`."""
    requests: NDArray[np.intp]
    """Of each row, the place of its request in the batch."""
    counts: Counter[str]
    """Rows of tensors that are no columns, by reason: unknown_column, unreadable, too_wide."""

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return len(self.requests)


def tabulate(batch: CaptureBatch, signature: Signature) -> Table:
    """The table of a batch. Failed requests have no rows in it; a signature without inputs names nothing."""
    answered = np.array([code == "OK" for code in batch.codes], np.bool_)
    rows = np.where(answered, batch.rows, 0)
    table = Table({}, np.repeat(np.arange(len(batch)), rows), Counter())
    inputs = {name: _stacked(table, tensor, answered, rows) for name, tensor in batch.inputs.items()}
    widths = {name: found.shape[1] for name, found in inputs.items() if found is not None}
    names = feature_names(signature, widths, batch.excluded)
    for name, found in inputs.items():
        _add(table, found, names.get(name), signature.categories)
    specs = {spec.name: spec for spec in signature.outputs}
    for name, tensor in batch.outputs.items():
        found = _stacked(table, tensor, answered, rows)
        spec = specs.get(name, None if specs else TensorSpec(name, tensor.datatype, ()))
        if found is not None and spec is not None:
            _add(table, found, output_names(signature, spec, found.shape[1], taken=table.columns), {})
        elif found is not None:
            table.counts["unknown_column"] += table.rows
    return table


def feature_names(
    signature: Signature, widths: Mapping[str, int], excluded: Collection[str] = ()
) -> dict[str, list[str]]:
    """The names of the columns of each input, of which rows hold `widths` values, without the excluded ones.

    An input that the signature does not have is absent; so is one whose width fits no names.
    """
    found: dict[str, list[str]] = {}
    for tensor, whole in _whole_names(signature, widths).items():
        names = [name for name in whole if name not in excluded]
        if len(names) == widths.get(tensor):
            found[tensor] = names
    return found


def _whole_names(signature: Signature, widths: Mapping[str, int]) -> dict[str, list[str]]:
    """The names of the columns of each input as the model takes it."""
    specs = signature.inputs or tuple(TensorSpec(name, "", (-1, width)) for name, width in widths.items())
    sizes = [_width(spec, widths.get(spec.name, 0), alone=len(specs) == 1, signature=signature) for spec in specs]
    named = sum(sizes) == len(signature.feature_names)
    found: dict[str, list[str]] = {}
    start = 0
    for spec, size in zip(specs, sizes):
        names = [f"{spec.name}_{i}" for i in range(min(size, MAX_COLUMNS + 1))]
        found[spec.name] = list(signature.feature_names[start : start + size]) if named else names
        start += size
    return found


def column_names(signature: Signature) -> frozenset[str] | None:
    """Every column that a table of this signature can have; None where only its rows can tell."""
    named = len(signature.inputs) == 1 and signature.feature_names
    inputs_open = not named and any(-1 in spec.shape[1:] for spec in signature.inputs)
    if not signature.inputs or inputs_open or any(-1 in spec.shape[1:] for spec in signature.outputs):
        return None
    return cut_columns(signature, (), inputs=False, outputs=False)


def excluded_columns(batch: CaptureBatch, signature: Signature) -> frozenset[str]:
    """The columns of the signature that were cut out of a batch. No others: whoever published it chose its names."""
    answered = "OK" in batch.codes
    inputs, outputs = not answered or bool(batch.inputs), not answered or bool(batch.outputs)
    return cut_columns(signature, batch.excluded, inputs=inputs, outputs=outputs)


def cut_columns(signature: Signature, cut: Collection[str], *, inputs: bool, outputs: bool) -> frozenset[str]:
    """The columns that captures lack: cut out by name or with their tensor, or all inputs, or all outputs."""
    if inputs and outputs and not cut:
        return frozenset()
    found: set[str] = set()
    for tensor, names in _whole_names(signature, {}).items():
        found.update(names if not inputs or tensor in cut else (name for name in names if name in cut))
    taken: set[str] = set()
    for spec in signature.outputs:
        width = element_count(spec.shape[1:])
        columns = output_names(signature, spec, width if width <= MAX_COLUMNS else 0, taken=taken)
        taken.update(columns)
        if not outputs or spec.name in cut:
            found.update(columns)
    return frozenset(found)


def _width(spec: TensorSpec, seen: int, *, alone: bool, signature: Signature) -> int:
    """Values in a row of an input as the model takes it; an open one takes what its names say, or what was seen."""
    if -1 not in spec.shape[1:]:
        return element_count(spec.shape[1:])
    return len(signature.feature_names) if alone and signature.feature_names else seen


def output_names(signature: Signature, spec: TensorSpec, width: int, *, taken: Collection[str] = ()) -> list[str]:
    """The names of the columns of an output with `width` values a row; `taken` are those of other tensors."""
    floating = spec.datatype in ("FP16", "BF16", "FP32", "FP64")
    classes = signature.label_names if width == len(signature.label_names) and width > 1 else ()
    likely = "prob" in spec.name.lower()
    if floating and width > 1 and (likely or (classes and "logit" not in spec.name.lower())):
        return [f"{PROBABILITY}{classes[i] if classes else i}" for i in range(width)]
    if width == 1 and not (floating and likely) and PREDICTION not in taken:
        return [PREDICTION]
    return [f"{spec.name}_{i}" for i in range(width)]


def _stacked(table: Table, tensor: TensorColumn, answered: NDArray[np.bool_], rows: NDArray[np.int64]) -> Array | None:
    """The answered requests' rows of a tensor as (rows, width); None, and counted, when they are not such rows."""
    try:
        values = tensor.stacked()
    except InvalidArgument:
        table.counts["unreadable"] += table.rows
        return None
    lengths = np.array([shape[0] if shape else 0 for shape in tensor.shapes], np.int64)
    if not np.array_equal(np.where(answered, lengths, 0), rows):
        table.counts["unreadable"] += table.rows
        return None
    if values.shape[1] > MAX_COLUMNS:
        table.counts["too_wide"] += table.rows
        return None
    if not answered.all():
        values = values[np.repeat(answered, lengths)]
    if tensor.datatype == "BF16":
        return bfloat16.widen(values.astype(np.uint16, copy=False))
    return values


def _add(
    table: Table, values: Array | None, names: Sequence[str] | None, categories: Mapping[str, tuple[str, ...]]
) -> None:
    if values is None:
        return
    if names is None:
        table.counts["unknown_column"] += table.rows
        return
    for place, name in enumerate(names):
        column = values[:, place]
        if column.dtype == object:
            column = texts(column)
        elif name in categories:
            column = named_categories(column, categories[name])
        table.columns[name] = column


def texts(values: Array) -> Array:
    """Bytes as text; what is empty is missing, what is not UTF-8 shows replacement characters."""
    found = np.empty(len(values), object)
    found[:] = [value[:MAX_TEXT].decode(errors="replace") or None for value in values.tolist()]
    return found


def named_categories(values: Array, names: Sequence[str]) -> Array:
    """Category numbers as their names; NaN is missing, a number without a name is shown as a number."""
    numbers = values.astype(np.float64)
    known = (numbers >= 0) & (numbers < len(names)) & (np.floor(numbers) == numbers)
    table = np.array([*names, None], object)
    found = table[np.where(known, numbers, len(names)).astype(np.intp)]
    for place in np.flatnonzero(~known & ~np.isnan(numbers)).tolist():
        found[place] = f"{numbers[place]:g}"
    return found
