"""SageMaker's statistics.json from a profile, figure by figure as Model Monitor computes them.

Rule: the standard deviation divides by N; buckets are 10, of equal width, half open and the last one closed. They
are exact where the caller has counted them over the data (`BucketCounts`, a second pass), or the column's sketch
still holds every value; else they are read off the sketch, within its rank error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import datasketches
import msgspec
import numpy as np
from numpy.typing import NDArray

from vedette.core.tensors import Array
from vedette.monitor.reference_data.constraints import inferred_type
from vedette.profiles import Categories, ColumnProfile, Columns, Profile, Quantiles
from vedette.profiles.column import NUMBERS
from vedette.profiles.texts import number_of

BUCKETS = 10
SKETCH = {"c": 0.64, "k": 2048.0}
"""Parameters of the sketch as Model Monitor writes them; ours has the same k."""

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class BucketCounts:
    """Exact counts in the ten buckets of each numeric column, for a second pass over what `profile` was folded from."""

    def __init__(self, profile: Profile) -> None:
        self._edges = {name: bucket_edges(column) for name, column in profile.columns.items() if _has_numbers(column)}
        self.counts: dict[str, Counts] = {name: np.zeros(BUCKETS, np.int64) for name in self._edges}

    def fold(self, columns: Columns) -> None:
        """Count the rows of a chunk; what is missing, infinite or no number is in no bucket."""
        for name in self._edges.keys() & columns.keys():
            values = columns[name]
            numbers = values.astype(np.float64) if values.dtype.kind in NUMBERS else _numbers(values)
            numbers.sort()
            self.counts[name] += counted(numbers, self._edges[name])


def statistics_document(profile: Profile, buckets: Mapping[str, Counts] | None = None) -> dict[str, Any]:
    """The document; `buckets` are exact counts by column where the caller has them (`BucketCounts`)."""
    given = buckets or {}
    features = [_feature(name, column, given.get(name)) for name, column in profile.columns.items()]
    return {"version": 0.0, "dataset": {"item_count": profile.rows}, "features": features}


def statistics_file(profile: Profile, buckets: Mapping[str, Counts] | None = None) -> bytes:
    """The bytes of statistics.json."""
    return msgspec.json.format(msgspec.json.encode(statistics_document(profile, buckets)), indent=2)


def bucket_edges(column: ColumnProfile) -> Floats:
    """Eleven edges from the smallest to the largest value."""
    low, high = column.moments.minimum, column.moments.maximum
    steps = np.arange(BUCKETS + 1) / BUCKETS
    width = high - low
    edges = low + width * steps if math.isfinite(width) else low * (1 - steps) + high * steps
    edges[-1] = high
    return np.minimum(np.maximum.accumulate(edges), high)


def counted(ascending: Floats, edges: Floats) -> Counts:
    """How many of the sorted values lie in each bucket: half open, the last one closed."""
    places = np.searchsorted(ascending, edges, side="left")
    places[-1] = np.searchsorted(ascending, edges[-1], side="right")
    return np.diff(places).astype(np.int64)


def sketch_levels(quantiles: Quantiles) -> list[list[float]]:
    """What a sketch holds, by compactor: an item of level h stands for 2**h values."""
    pairs = np.array(list(datasketches.kll_doubles_sketch.deserialize(quantiles.to_bytes())), np.float64).reshape(-1, 2)
    if not len(pairs):
        return []
    levels = np.log2(pairs[:, 1]).astype(np.int64)
    return [np.sort(pairs[levels == level, 0]).tolist() for level in range(int(levels.max()) + 1)]


def _numbers(texts: Array) -> Floats:
    """What a profile takes for numbers among texts."""
    numbers = [number_of(text) for text in texts.tolist() if text is not None]
    return np.array([number for number in numbers if number is not None], np.float64)


def _feature(name: str, column: ColumnProfile, buckets: Counts | None) -> dict[str, Any]:
    feature: dict[str, Any] = {"name": name, "inferred_type": inferred_type(column)}
    present = {"common": {"num_present": column.present, "num_missing": column.missing}}
    if column.kind == "text":
        return feature | {"string_statistics": present | _text(column.categories, column.distinct.estimate)}
    return feature | {"numerical_statistics": present | (_numeric(column, buckets) if _has_numbers(column) else {})}


def _has_numbers(column: ColumnProfile) -> bool:
    return column.kind == "numeric" and column.moments.count > 0


def _numeric(column: ColumnProfile, buckets: Counts | None) -> dict[str, Any]:
    moments, edges = column.moments, bucket_edges(column)
    counts = column.quantiles.counts(edges)[0] if buckets is None else buckets
    shown = [
        {"lower_bound": low, "upper_bound": high, "count": float(count)}
        for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist())
    ]
    sketch = {"parameters": SKETCH, "data": sketch_levels(column.quantiles)}
    figures = {
        "mean": moments.mean,
        "sum": moments.sum,
        "std_dev": moments.std,
        "min": moments.minimum,
        "max": moments.maximum,
    }
    finite = {name: value for name, value in figures.items() if math.isfinite(value)}  # JSON has no infinity
    return finite | {"distribution": {"kll": {"buckets": shown, "sketch": sketch}}}


def _text(categories: Categories, estimate: float) -> dict[str, Any]:
    counts = categories.counts
    distinct = float(len(counts)) if not categories.other else float(round(estimate))
    buckets = [{"value": value, "count": count} for value, count in counts.items()]
    return {"distinct_count": distinct, "distribution": {"categorical": {"buckets": buckets}}}
