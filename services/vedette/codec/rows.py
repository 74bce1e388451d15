"""Rows of values to the tensors of a signature: what CSV, instances and JSON Lines have in common.

Rule: inputs take the columns of a row in the order of the signature, each as many as one row of it holds.
Row formats are forgiving where spreadsheets and data frames are careless and nowhere else: whole numbers
written `5.0` fit integer inputs, a missing value is NaN in a floating input, and a numeric column with
`categories` also takes a category's name, as its index. A text that reads as a number is that number.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from vedette.codec import bfloat16
from vedette.codec.binary import object_array
from vedette.codec.jsondata import VALUE_TYPES
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import DATATYPES, Array, Tensor, element_count

Row = Sequence[object]

_PLAIN: dict[str, Any] = {datatype: list[list[kind]] for datatype, kind in VALUE_TYPES.items()}  # type: ignore[valid-type]
"""What msgspec makes of rows when every cell is plain."""

_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,5})?\s*")
_NOT_FINITE = re.compile(r"\s*[+-]?(?:nan|inf|infinity)\s*", re.IGNORECASE)
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,40}\s*")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a row: `inputs` side by side, `widths[i]` of them for input i."""

    inputs: tuple[TensorSpec, ...]
    widths: tuple[int, ...]
    names: tuple[str, ...]
    """Feature names when there is one for each column, else empty."""
    categories: dict[str, tuple[str, ...]]

    @property
    def total(self) -> int:
        """Values in a row."""
        return sum(self.widths)

    def name(self, column: int) -> str:
        """A column by its feature name, or by its number counted from 1, for errors."""
        return repr(self.names[column]) if self.names else str(column + 1)


def columns_of(signature: Signature, row_width: int) -> Columns:
    """How rows of `row_width` values are laid out; it settles a single open dimension of a single input.

    Raises:
        InvalidArgument: the model's inputs are not rows of values, or a row of it has another width.
    """
    widths = tuple(_width(spec, row_width, alone=len(signature.inputs) == 1) for spec in signature.inputs)
    total = sum(widths)
    if total != row_width:
        raise InvalidArgument(
            f"a row has {row_width} values where the model takes {total}{_explain(signature, widths)}"
        )
    names = signature.feature_names if len(signature.feature_names) == total else ()
    return Columns(signature.inputs, widths, names, signature.categories)


def row_width(signature: Signature) -> int | None:
    """Values in a row, or None when the model leaves it open (or takes no rows at all)."""
    widths = [
        element_count(spec.shape[1:]) if spec.shape and -1 not in spec.shape[1:] else None for spec in signature.inputs
    ]
    return None if None in widths else sum(width for width in widths if width is not None)


def _width(spec: TensorSpec, row_width: int, *, alone: bool) -> int:
    if not spec.shape:
        raise InvalidArgument(f"input {spec.name!r} is a scalar, not rows; use the V2 protocol")
    trailing = spec.shape[1:]
    if -1 not in trailing:
        return element_count(trailing)
    known = element_count([dim for dim in trailing if dim != -1])
    if not alone or trailing.count(-1) > 1 or not known or row_width % known:
        raise InvalidArgument(
            f"input {spec.name!r} of shape {list(spec.shape)} leaves open how many values a row has; "
            "use the V2 protocol, or nested JSON instances by input name"
        )
    return row_width


def _explain(signature: Signature, widths: tuple[int, ...]) -> str:
    if len(widths) == 1:
        return ""
    parts = [f"{width} for {spec.name!r}" for spec, width in zip(signature.inputs[:8], widths)]
    return f" ({', '.join(parts)}{', ...' if len(widths) > 8 else ''})"


def tensors_of(columns: Columns, rows: Sequence[Row], *, numbers: Sequence[int], text: bool = False) -> list[Tensor]:
    """The inputs made of `rows`, each as long as the columns; `numbers` are the rows' numbers in errors.

    With `text` every value is a string from a text format, else a value from JSON.

    Raises:
        InvalidArgument: names the row, the column and the value that does not fit.
    """
    tensors: list[Tensor] = []
    start = 0
    for spec, width in zip(columns.inputs, columns.widths):
        end = start + width
        values = rows if width == columns.total else [row[start:end] for row in rows]
        array = _Cells(columns, spec, start, numbers, text).array(values)
        tensors.append(Tensor(spec.name, spec.datatype, array.reshape(_shape(spec, len(rows), width))))
        start = end
    return tensors


def _shape(spec: TensorSpec, rows: int, width: int) -> tuple[int, ...]:
    known = element_count([dim for dim in spec.shape[1:] if dim != -1])
    return (rows, *(width // known if dim == -1 else dim for dim in spec.shape[1:]))


@dataclass(frozen=True, slots=True)
class _Cells:
    """One input's cells: fast when all are plain, one by one when a cell is missing, a category or wrong."""

    columns: Columns
    spec: TensorSpec
    start: int
    numbers: Sequence[int]
    text: bool

    def array(self, rows: Sequence[Row]) -> Array:
        if self.spec.datatype == "BYTES":
            return self._bytes(rows)
        values = self._plain(rows)
        if values is None:
            values = [[self._value(v, r, c) for c, v in enumerate(row)] for r, row in enumerate(rows)]
        try:
            return cast_values(self.spec.datatype, values)
        except (OverflowError, FloatingPointError) as error:
            raise InvalidArgument(
                f"input {self.spec.name!r}: a value is out of the range of {self.spec.datatype}"
            ) from error

    def _plain(self, rows: Sequence[Row]) -> Any:
        try:  # msgspec converts 30 million cells a second; the loop in `array` two million
            return msgspec.convert(rows, _PLAIN[self.spec.datatype], strict=not self.text)
        except msgspec.ValidationError:
            return None

    def _bytes(self, rows: Sequence[Row]) -> Array:
        flat: list[object] = []
        for r, row in enumerate(rows):
            for c, value in enumerate(row):
                if not isinstance(value, str):
                    raise self._wrong(value, r, c)
                flat.append(value.encode())
        return object_array(flat)

    def _value(self, value: object, r: int, c: int) -> object:
        """One cell as a value of the datatype."""
        kind = VALUE_TYPES[self.spec.datatype]
        if isinstance(value, str):
            value = self._from_text(value, r, c)
        if value is None and kind is float:
            return math.nan
        if kind is bool:
            if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
                return bool(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if kind is float:
                return value
            if isinstance(value, int) or value.is_integer():
                return int(value)
        raise self._wrong(value, r, c)

    def _from_text(self, value: str, r: int, c: int) -> object:
        """A number, a boolean, a category's index, or None for an empty cell."""
        if self.text:
            if not value.strip():
                return None
            if _INTEGER.fullmatch(value):
                return int(value)
            if _NUMBER.fullmatch(value) or _NOT_FINITE.fullmatch(value):
                return self._number(value, r, c)
            if self.spec.datatype == "BOOL" and value.strip().lower() in _BOOLEANS:
                return _BOOLEANS[value.strip().lower()]
        names = self.columns.names
        known = self.columns.categories.get(names[self.start + c], ()) if names else ()
        if value in known:
            return known.index(value)
        raise self._wrong(value, r, c, known)

    def _number(self, value: str, r: int, c: int) -> float:
        number = float(value)
        if math.isinf(number) and not _NOT_FINITE.fullmatch(value):
            raise self._wrong(value, r, c)
        return number

    def _wrong(self, value: object, r: int, c: int, known: Sequence[str] = ()) -> InvalidArgument:
        place = f"{'line' if self.text else 'instance'} {self.numbers[r]}, column {self.columns.name(self.start + c)}"
        shown = "nothing" if value is None else reprlib.repr(value)
        hint = f", nor one of its categories {', '.join(map(repr, known[:8]))}" if known else ""
        return InvalidArgument(f"{place}: {shown} is not a value of {self.spec.datatype}{hint}")


def cast_values(datatype: str, values: object) -> Array:
    """Numbers, nested or an array, as an array of the datatype; NaN and infinities stay.

    Raises:
        OverflowError, FloatingPointError: a number is out of the datatype's range.
    """
    with np.errstate(over="raise"):
        if datatype != "BF16":
            return np.asarray(values, DATATYPES[datatype].dtype)
        wide = np.asarray(values, np.float32)
    patterns = bfloat16.narrow(wide)
    if (np.isfinite(wide) & ((patterns & 0x7F80) == 0x7F80)).any():
        raise OverflowError
    return patterns


def joined(blocks: Sequence[list[Tensor]]) -> list[Tensor]:
    """Blocks of rows of the same inputs as one."""
    if len(blocks) == 1:
        return blocks[0]
    return [
        Tensor(parts[0].name, parts[0].datatype, np.concatenate([part.array for part in parts]))
        for parts in zip(*blocks)
    ]
