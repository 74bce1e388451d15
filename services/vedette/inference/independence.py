"""Whether each row of a model's answer depends on its own row of the input and on nothing else.

Only such a model may run requests of several callers at once. A softmax or a mean over the first dimension, an input
scaled by the largest value of the whole tensor (as dynamic quantization does), an output that is one for all rows, a
random number: all of them look batched from outside. So the model is tried: several rows together against each
alone, on values of several sizes.

Rule: what cannot be shown is not assumed; the answer is a reason why not, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vedette.core.errors import VedetteError
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import DATATYPES, Array, Tensor
from vedette.engine.runtime import Runtime

_SEED = 20_231
_ALONE = 4
"""Rows of a trial that are compared with a run of their own."""
_SLOW_S = 0.02
"""A model slower than this has the first trial only: each takes up to five runs, and memory by its rows."""
_TOLERANCE = {"FP16": 1e-2, "BF16": 8e-2}
_USUAL_TOLERANCE = 2e-5
"""Of the largest answer: kernels add up in another order for another number of rows (measured: below 2e-6)."""

Feeds = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Trial:
    rows: int
    scale: float
    uneven: bool = False
    """Rows of very different sizes: what one row does to the others shows best."""


_TRIALS = (
    _Trial(2, 1.0, uneven=True),
    _Trial(5, 1.0),
    _Trial(4, 1.0, uneven=True),
    _Trial(16, 10.0),
    _Trial(2, 1000.0),
    _Trial(7, 0.01),
)


def why_dependent(runtime: Runtime, signature: Signature, *, row_s: float = 0.0) -> str:
    """Why requests to this model must not share a run; empty: its rows were seen to be independent.

    `row_s`: seconds that a run of one row takes. Blocks for some runs: of 2 rows for a slow model, which may be
    as large in memory, and of up to 16 for a quick one. Values are drawn anew from the same seed.
    """
    for spec in (*runtime.inputs, *runtime.outputs):
        if spec.shape[:1] != (-1,):
            return f"tensor {spec.name!r} has no first dimension of any size"
    told_apart = False
    rng = np.random.default_rng(_SEED)
    for trial in _TRIALS[: 1 if row_s > _SLOW_S else len(_TRIALS)]:
        for feeds in _inputs(signature, runtime.inputs, trial, rng):
            try:
                reason, differs = _try(runtime, feeds, trial)
            except VedetteError:
                continue  # not an input of this model
            if reason:
                return reason
            told_apart = told_apart or differs
            break
    return "" if told_apart else "its answers to trial rows do not show whether rows are independent"


def _try(runtime: Runtime, feeds: Feeds, trial: _Trial) -> tuple[str, bool]:
    """Why the rows of this input are dependent, and whether the answers differ from row to row."""
    together = runtime.run(feeds, ())
    for output in together:
        if output.array.shape[:1] != (trial.rows,):
            return f"output {output.name!r} does not have a row for each row of the input", False
    differs = any(_differs(output.array) for output in together)
    for row in range(trial.rows - 1, -1, -max(1, trial.rows // _ALONE)):
        own = {name: Tensor(name, given.datatype, given.array[row : row + 1]) for name, given in feeds.items()}
        for output, alone in zip(together, runtime.run(own, ()), strict=True):
            if not _same(output, alone, row, trial):
                return f"a row of output {output.name!r} changes with the other rows of the input", True
    return "", differs


def _differs(array: Array) -> bool:
    return any(not _equal(array[:1], array[row : row + 1]) for row in range(1, len(array)))


def _equal(one: Array, other: Array) -> bool:
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def _same(together: Tensor, alone: Tensor, row: int, trial: _Trial) -> bool:
    whole, part, single = together.array, together.array[row : row + 1], alone.array
    if part.shape != single.shape:
        return False
    if together.datatype == "BF16":
        whole, part, single = (_widened(array) for array in (whole, part, single))
    if whole.dtype.kind != "f":
        return _equal(part, single)
    tolerance = _TOLERANCE.get(together.datatype, _USUAL_TOLERANCE)
    reference = single if trial.uneven else whole
    size = float(np.abs(reference, where=np.isfinite(reference), out=np.zeros(reference.shape)).max(initial=0.0))
    allowed = size * (50 * tolerance if trial.uneven else tolerance)
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(
            np.allclose(part.astype(np.float64), single.astype(np.float64), rtol=0, atol=allowed, equal_nan=True)
        )


def _widened(array: Array) -> Array:
    return (array.astype(np.uint32) << 16).view(np.float32)


def _inputs(
    signature: Signature, specs: tuple[TensorSpec, ...], trial: _Trial, rng: np.random.Generator
) -> Iterator[Feeds]:
    """Inputs to try until the model takes one: whole numbers and open dimensions small, then smaller."""
    for largest, open_size in ((10, 3), (10, 1), (2, 1)):
        yield {
            spec.name: Tensor(
                spec.name, spec.datatype, _values(spec, trial, rng, largest, open_size, signature.categories)
            )
            for spec in specs
        }


def _values(
    spec: TensorSpec,
    trial: _Trial,
    rng: np.random.Generator,
    largest: int,
    open_size: int,
    categories: Mapping[str, tuple[str, ...]],
) -> Array:
    shape = (trial.rows, *(open_size if dim < 0 else dim for dim in spec.shape[1:]))
    dtype = DATATYPES[spec.datatype].dtype
    if spec.datatype == "BYTES":
        return _words(spec, shape, rng, categories)
    if spec.datatype == "BF16":
        return (_reals(shape, trial, rng).astype(np.float32).view(np.uint32) >> 16).astype(dtype)
    if dtype.kind == "f":
        return _reals(shape, trial, rng).astype(dtype)
    whole = rng.integers(0, 2 if dtype.kind == "b" else largest, shape)
    whole[0] = 1 - whole[1] % 2  # never all rows alike
    return whole.astype(dtype)


def _reals(shape: tuple[int, ...], trial: _Trial, rng: np.random.Generator) -> Array:
    values = rng.normal(0, trial.scale, shape)
    if trial.uneven:
        values *= (100.0 ** np.arange(-1, shape[0] - 1)).reshape(-1, *(1,) * (len(shape) - 1))
    return np.clip(values, -3e4, 3e4)


def _words(
    spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator, categories: Mapping[str, tuple[str, ...]]
) -> Array:
    """Texts that the model may know: the categories of this input, else some for every kind of input."""
    known = categories.get(spec.name) or tuple(dict.fromkeys(word for words in categories.values() for word in words))
    words = np.empty(shape, dtype=object)
    pool = [word.encode() for word in known or ("0", "1", "2", "3.5", "10")]
    words.ravel()[:] = [pool[at] for at in rng.integers(0, len(pool), words.size)]
    return words
