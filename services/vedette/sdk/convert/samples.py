"""The rows that a conversion is made and compared with: their columns, and the tensors they become.

Rule: numbers travel as float32, as most clients send them; text as strings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vedette.core.errors import InvalidArgument
from vedette.sdk.convert.graphs import INPUT

MAX_CATEGORIES = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows as the original takes them, with the shape of what the graph will take."""

    rows: Any
    """What the original's predict gets: two-dimensional."""
    feature_names: tuple[str, ...]
    text_columns: tuple[str, ...] = ()
    row_shape: tuple[int, ...] = ()
    """Shape of one row as clients send it, where that is not flat (images)."""
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Columns of the flat rows."""
        return int(self.rows.shape[1])

    def matrix_feed(self) -> dict[str, Any]:
        """All columns as one tensor."""
        matrix = np.asarray(self.rows, dtype=np.float32)
        return {INPUT: matrix.reshape(len(matrix), *self.row_shape) if self.row_shape else matrix}

    def column_feeds(self) -> dict[str, Any]:
        """One tensor of one column for each feature."""
        return {name: self._column(name) for name in self.feature_names}

    def _column(self, name: str) -> Any:
        kind = object if name in self.text_columns else np.float32
        return np.asarray(self.rows[name], dtype=kind).reshape(-1, 1)


def sample_of(data: Any) -> Sample:
    """Look at the rows given.

    Raises:
        InvalidArgument: no rows, missing text, or values that are neither numbers nor text.
    """
    if len(data) == 0:
        raise InvalidArgument("the sample has no rows: pass real rows, they are what the conversion is compared on")
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        return _of_frame(data)
    array = np.asarray(data)
    if array.dtype.kind not in "biuf":
        raise InvalidArgument("the sample holds values that are not numbers: pass a DataFrame")
    if array.ndim < 2:
        raise InvalidArgument("the sample must be two-dimensional: rows and columns")
    flat = array.reshape(len(array), -1)
    return Sample(flat, (), row_shape=array.shape[1:] if array.ndim > 2 else ())


def _of_frame(frame: Any) -> Sample:
    names = tuple(str(name) for name in frame.columns)
    text = tuple(str(name) for name in frame.columns if not _is_number(frame[name]))
    categories = {}
    for name in text:
        values = frame[name]
        if values.isna().any():
            raise InvalidArgument(f"column {name} has missing text, which clients cannot send: fill it first")
        known = sorted({str(value) for value in values})
        categories[name] = tuple(known[:MAX_CATEGORIES])
    return Sample(frame, names, text_columns=text, categories=categories)


def _is_number(column: Any) -> bool:
    return getattr(column.dtype, "kind", "O") in "biuf"
