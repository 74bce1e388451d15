"""What profiles must have in common to be merged and compared: kinds of columns, edges of bins, known categories.

Rule: a layout is taken from the baseline's profile once and never changes; windows are folded over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vedette.profiles.column import ColumnProfile
    from vedette.profiles.profile import Profile

Kind = Literal["numeric", "text"]

BINS = 20
"""Bins of equal frequency: each holds about 5 % of the baseline, so none of its shares is too small to divide by."""


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """How one column is counted."""

    kind: Kind
    edges: tuple[float, ...] = ()
    """Of a numeric column: the baseline's minimum, its 5 %, 10 %, ... 95 % quantiles and its maximum.

    A value that takes up several quantiles, and each value of a column with at most 20 of them, has a bin of its own,
    one float wide. Empty when the baseline had no finite value."""
    categories: tuple[str, ...] = ()
    """Of a text column: those that the baseline counted by name, at most 1,000."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a baseline and how each is counted."""

    columns: Mapping[str, ColumnLayout]

    @staticmethod
    def of(profile: Profile) -> Layout:
        """The layout under which windows are comparable with `profile`; what its own layout fixes stays as it is."""
        return Layout({name: column_layout(column) for name, column in profile.columns.items()})


def column_layout(column: ColumnProfile) -> ColumnLayout:
    """How values are counted that are comparable with this column's."""
    if column.layout.edges or column.layout.categories:
        return column.layout
    if column.kind == "text":
        return ColumnLayout("text", categories=tuple(sorted(column.categories.counts)))
    return ColumnLayout("numeric", edges=tuple(_edges(column).tolist()))


def _edges(column: ColumnProfile) -> NDArray[np.float64]:
    if not column.moments.count:
        return np.zeros(0)
    ends = np.array([column.moments.minimum, column.moments.maximum])
    values = np.union1d(column.quantiles.points()[0], ends)
    if len(values) <= BINS:
        cuts = atoms = values
    else:
        inner, repeats = np.unique(column.quantiles.quantile(np.arange(1, BINS) / BINS), return_counts=True)
        cuts, atoms = np.concatenate((ends, inner)), inner[repeats > 1]
    behind = np.nextafter(atoms[atoms < np.finfo(np.float64).max], np.inf)
    return np.unique(np.concatenate((cuts, behind)))
