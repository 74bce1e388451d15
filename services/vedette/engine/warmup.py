"""Runs on zeros: to warm a runtime up and to measure it.

Rule: what is measured here is the model alone; protocols and queues measure themselves.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np

from vedette.core.errors import VedetteError
from vedette.core.models import TensorSpec
from vedette.core.tensors import DATATYPES, Array, Tensor
from vedette.engine.runtime import Runtime

_ENOUGH_S = 1.0
_ROUNDS = 30
_PROBED_ROWS = (16, 4, 2)
_PROBE_S = 0.25
"""A larger batch is tried only where it will likely take no longer than this; all rounds end after about twice this."""


def zero_feeds(inputs: Sequence[TensorSpec], *, rows: int = 1) -> dict[str, Tensor]:
    """Zeros (empty text for BYTES) for every input: `rows` where the first dimension is open, else 1 where open."""
    return {spec.name: Tensor(spec.name, spec.datatype, _zeros(spec, rows)) for spec in inputs}


def measure(runtime: Runtime, rows: int = 1, *, runs: int = 5) -> float:
    """Seconds that one run of `rows` rows takes: the median of `runs` runs after one that warms up.

    Blocks; fewer runs when they take over a second together. Raises what `run` raises: a model that cannot
    run on zeros is not ready.
    """
    feeds = zero_feeds(runtime.inputs, rows=rows)
    warming = _timed(runtime, feeds)
    taken: list[float] = []
    while len(taken) < runs and warming + sum(taken) < _ENOUGH_S:
        taken.append(_timed(runtime, feeds))
    return statistics.median(taken or [warming])


def measured(runtime: Runtime) -> tuple[float, float]:
    """What a run costs and what each of its rows adds, in seconds: (base_s, row_s). One row takes their sum.

    The quickest of up to thirty runs of one row and of sixteen, in turn: what is slower than the quickest was
    interrupted, and a busy machine does that to most. Half a second at most where a run is short; a model of
    long runs is measured on 4 rows, on 2, or, over an eighth of a second a row, on one alone: then row_s is 0.
    It is 0, too, where the model takes no more than one row. Blocks; raises what `run` raises for one row.
    """
    feeds = zero_feeds(runtime.inputs)
    warming = _timed(runtime, feeds)
    one = min(warming, _timed(runtime, feeds)) if warming < _ENOUGH_S else warming
    rows = next((rows for rows in _PROBED_ROWS if one * rows <= _PROBE_S), 1)
    try:
        return _told_apart(runtime, one, rows)
    except VedetteError:
        return one, 0.0  # it takes one row at a time: every larger request fails in the same way


def _told_apart(runtime: Runtime, one: float, rows: int) -> tuple[float, float]:
    """(base_s, row_s) from runs of one row, of which one has taken `one`, and of `rows`."""
    if rows == 1:
        return one, 0.0
    single, several = zero_feeds(runtime.inputs), zero_feeds(runtime.inputs, rows=rows)
    began = time.perf_counter()
    many = _timed(runtime, several)
    for _ in range(_ROUNDS):
        if time.perf_counter() - began > _PROBE_S:
            break
        one = min(one, _timed(runtime, single))
        many = min(many, _timed(runtime, several))
    row_s = max(0.0, many - one) / (rows - 1)
    return max(one - row_s, 0.0), row_s


def _timed(runtime: Runtime, feeds: dict[str, Tensor]) -> float:
    began = time.perf_counter()
    runtime.run(feeds, ())
    return time.perf_counter() - began


def _zeros(spec: TensorSpec, rows: int) -> Array:
    open_sizes = [rows] + [1] * len(spec.shape)
    shape = tuple(open_sizes[i] if dim < 0 else dim for i, dim in enumerate(spec.shape))
    if spec.datatype == "BYTES":
        return np.full(shape, b"", dtype=object)
    return np.zeros(shape, dtype=DATATYPES[spec.datatype].dtype)
