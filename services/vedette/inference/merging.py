"""Several requests as one run of the model, and each caller's own part of what came out.

Requests are merged along the first dimension, and only by `Likeness`: equal in everything but rows. A run of
several that fails is repeated for each of them alone, because the error may be one caller's input.

Rule: here alone rows of different callers meet. What goes back to a caller is its own rows, or its own error.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vedette.core.errors import ModelFailed, Unavailable
from vedette.core.models import TensorSpec
from vedette.core.tensors import Array, Tensor
from vedette.engine.runtime import Runtime

Feeds = Mapping[str, Tensor]


@dataclass(slots=True)
class Part:
    """One request as a run sees it: checked against the signature already."""

    feeds: Feeds
    outputs: Sequence[str]
    """Names of the outputs to compute, in the order asked for."""
    rows: int


@dataclass(frozen=True, slots=True)
class Ran:
    """One execution of the model, and what it gave each of its parts."""

    outcomes: list[list[Tensor] | Exception]
    rows: int
    """Rows that the model saw, padding among them."""
    seconds: float
    again: bool = False
    """Whether this is one request alone, after a run with others or with padding failed."""


class Likeness:
    """What requests to one model must have in common to share a run.

    Names and datatypes of inputs are the signature's in every checked request, and so are dimensions that it
    fixes; what remains are the open ones beyond the first, and the outputs asked for. Parameters are not part of
    it: none reaches the model, they only come back to whoever sent them.
    """

    def __init__(self, inputs: Sequence[TensorSpec]) -> None:
        self._open = tuple(spec.name for spec in inputs if any(dim < 0 for dim in spec.shape[1:]))

    def key(self, part: Part) -> Hashable:
        """Equal for requests that may share a run. About 0.2 us where nothing is open."""
        outputs = tuple(part.outputs)
        return (outputs, *(part.feeds[name].array.shape[1:] for name in self._open)) if self._open else outputs


def run_together(
    runtime: Runtime, parts: Sequence[Part], *, buckets: Sequence[int], now: Callable[[], float]
) -> list[Ran]:
    """Run parts of equal keys at once; where that fails, each alone and as it came. Blocks; never raises.

    `buckets` (ascending): a run is filled up to the next of these sizes. Gives one `Ran`, or one for each part.
    """
    whole = _run(runtime, parts, buckets, now)
    as_it_came = len(parts) == 1 and whole.rows == parts[0].rows
    if as_it_came or not _may_be_one_callers(whole.outcomes[0]):
        return [whole]
    return [replace(_run(runtime, [part], (), now), again=True) for part in parts]


def _may_be_one_callers(outcome: list[Tensor] | Exception) -> bool:
    return isinstance(outcome, Exception) and not isinstance(outcome, Unavailable)


def _run(runtime: Runtime, parts: Sequence[Part], buckets: Sequence[int], now: Callable[[], float]) -> Ran:
    rows = sum(part.rows for part in parts)
    size = padded(rows, buckets)
    began = now()
    outcomes: list[list[Tensor] | Exception]
    try:
        if len(parts) == 1 and size == rows:
            outcomes = [runtime.run(parts[0].feeds, parts[0].outputs)]
        else:
            outcomes = list(_split(runtime.run(_merged(parts, size - rows), parts[0].outputs), parts, size))
    except Exception as error:  # noqa: BLE001 - it becomes the outcome of whoever takes part
        outcomes = [error] * len(parts)
    return Ran(outcomes, size, now() - began)


def padded(rows: int, buckets: Sequence[int]) -> int:
    """The size that a run of so many rows is filled up to; as it is where no bucket is large enough."""
    at = bisect_left(buckets, rows)
    return buckets[at] if at < len(buckets) else rows


def _merged(parts: Sequence[Part], padding: int) -> dict[str, Tensor]:
    """One input from all; padding repeats the last row, because the model is known to take that one."""
    feeds = {}
    for name, first in parts[0].feeds.items():
        arrays: list[Array] = [part.feeds[name].array for part in parts]
        if padding:
            arrays.append(np.repeat(arrays[-1][-1:], padding, axis=0))
        feeds[name] = Tensor(name, first.datatype, np.concatenate(arrays))
    return feeds


def _split(outputs: list[Tensor], parts: Sequence[Part], rows: int) -> list[list[Tensor]]:
    """Each part's rows of each output: views that stay contiguous.

    Raises:
        ModelFailed: an output has another number of rows than went in; nobody knows whose they are.
    """
    for tensor in outputs:
        if tensor.array.shape[:1] != (rows,):
            raise ModelFailed(f"output {tensor.name!r} does not have a row for each row of the input")
    shares, start = [], 0
    for part in parts:
        stop = start + part.rows
        shares.append([Tensor(tensor.name, tensor.datatype, tensor.array[start:stop]) for tensor in outputs])
        start = stop
    return shares
