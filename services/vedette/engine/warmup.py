"""Runs on zeros: to warm a runtime up and to measure it.

Rule: what is measured here is the model alone; protocols and queues measure themselves.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np

from vedette.core.models import TensorSpec
from vedette.core.tensors import DATATYPES, Array, Tensor
from vedette.engine.runtime import Runtime

_ENOUGH_S = 1.0


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
