"""Rows split by the values of a feature.

Rule: a bounded number of values has a segment of its own, the rest share `other`: those that the signature or the
baseline names come first, else those that were seen first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vedette.core.tensors import Array

MAX_VALUES = 20
MAX_SEGMENTS = 5
"""Features by which one monitor may split."""
MAX_TEXT = 100
OTHER = "other"
MISSING = "(missing)"


@dataclass(slots=True)
class Segments:
    """The values of each feature that have a segment."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def split(self, feature: str, column: Array, known: Sequence[str]) -> Iterator[tuple[str, NDArray[np.intp]]]:
        """Each value that occurs, with its rows; `known` are the values that come first."""
        if not len(column):
            return
        names, codes = named_values(column)
        allowed = self.values.setdefault(feature, [value_name(value) for value in known[:MAX_VALUES]])
        order = np.argsort(codes, kind="stable")
        parts = dict(zip(names, np.split(order, np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])))
        rest = []
        for name, rows in parts.items():
            if name not in allowed and len(allowed) < MAX_VALUES:
                allowed.append(name)
            if name in allowed:
                yield name, rows
            else:
                rest.append(rows)
        if rest:
            yield OTHER, np.sort(np.concatenate(rest))


def rows_in(values: Sequence[str], value: str, column: Array) -> NDArray[np.bool_]:
    """Which rows are in a feature's segment of this name; `values` are those that have one of their own."""
    names, codes = named_values(column)
    inside = [name not in values if value == OTHER and OTHER not in values else name == value for name in names]
    found: NDArray[np.bool_] = np.array(inside, np.bool_)[codes]
    return found


def named_values(column: Array) -> tuple[list[str], NDArray[np.intp]]:
    """The distinct values by name, and of each row which one it has."""
    if column.dtype == object:
        numbers: dict[str, int] = {}
        codes = [numbers.setdefault(value_name(value), len(numbers)) for value in column.tolist()]
        return list(numbers), np.array(codes, np.intp)
    distinct, codes_of = np.unique(column, return_inverse=True)
    names = [value_name(value) for value in distinct.tolist()]
    short: dict[str, int] = {}
    merged = np.array([short.setdefault(name, len(short)) for name in names], np.intp)
    return list(short), merged[codes_of]


def value_name(value: object) -> str:
    """A value in the name of a segment: bounded, and text that every store keeps."""
    if value is None or (isinstance(value, float) and value != value):
        return MISSING
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text[:MAX_TEXT].replace("\0", "�")
