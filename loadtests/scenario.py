"""The parts of the Locust scenario that need no Locust: requests from a model's metadata, the ramp, and the verdict.

Rule: everything the scenario decides is decided here, so that it can be tested without a load generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES: dict[str, str] = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8", "INT8": "i1", "INT16": "i2",
    "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4", "FP64": "f8",
}  # fmt: skip
"""The protocol's datatypes that numpy has; BYTES is written as strings, BF16 is not made up here."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input as the model's metadata tell it; -1 in the shape is a dimension that the caller chooses."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def tensor(self, rows: int, rng: np.random.Generator) -> NDArray[Any]:
        """Values of a plausible size; the first free dimension is the rows, any other 1.

        Raises:
            ValueError: the datatype is none that can be made up.
        """
        shape = tuple(rows if at == 0 and size < 1 else max(size, 1) for at, size in enumerate(self.shape))
        if self.datatype == "BYTES":
            return np.full(shape, "a", object)
        if self.datatype not in DTYPES:
            raise ValueError(f"no values of datatype {self.datatype} for {self.name} can be made up")
        values = rng.normal(size=shape)
        if self.datatype.startswith("FP"):
            return np.asarray(np.round(values, 4).astype(DTYPES[self.datatype]))
        return np.asarray((np.abs(values) > 1).astype(DTYPES[self.datatype]))


def inputs_of(metadata: Mapping[str, Any]) -> list[Input]:
    """The inputs of a V2 metadata document.

    Raises:
        ValueError: it is none.
    """
    try:
        found = [
            Input(entry["name"], entry["datatype"], tuple(int(size) for size in entry["shape"]))
            for entry in metadata["inputs"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no model metadata: {str(metadata)[:200]}") from error
    if not found:
        raise ValueError("the model has no inputs")
    return found


def json_requests(inputs: Sequence[Input], rows: int, *, count: int = 16, seed: int = 1) -> list[dict[str, Any]]:
    """`count` different V2 requests, so that a cache in the way is not all that is measured."""
    rng = np.random.default_rng(seed)
    return [{"inputs": [_described(one, one.tensor(rows, rng)) for one in inputs]} for _ in range(count)]


def _described(one: Input, values: NDArray[Any]) -> dict[str, Any]:
    return {
        "name": one.name, "datatype": one.datatype, "shape": list(values.shape), "data": values.ravel().tolist()
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ramp:
    """From nobody to `users` in `ramp_s`, then as many for `hold_s`."""

    users: int
    ramp_s: float
    hold_s: float

    def users_at(self, seconds: float) -> int | None:
        """How many there are; None when it is over. Somebody is there from the start."""
        if seconds > self.ramp_s + self.hold_s:
            return None
        if seconds >= self.ramp_s:
            return self.users
        return max(1, round(self.users * seconds / self.ramp_s))


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service level objective allows; None: it does not say."""

    p50_ms: float | None = None
    p99_ms: float | None = None
    error_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one kind of request has seen."""

    name: str
    requests: int
    failures: int
    p50_ms: float
    p99_ms: float

    @property
    def error_percent(self) -> float:
        """Failed requests in a hundred; nothing asked is nothing right."""
        return 100.0 * self.failures / self.requests if self.requests else 100.0


def violations(seen: Seen, limits: Limits) -> list[str]:
    """What is over a limit, in words."""
    checks = (
        ("p50", seen.p50_ms, limits.p50_ms, "ms"),
        ("p99", seen.p99_ms, limits.p99_ms, "ms"),
        ("errors", seen.error_percent, limits.error_percent, "%"),
    )
    return [
        f"{seen.name}: {what} {value:g} {unit} is over {limit:g} {unit}"
        for what, value, limit, unit in checks
        if limit is not None and value > limit
    ]


def verdict(everything: Sequence[Seen], limits: Limits) -> tuple[str, bool]:
    """The summary that ends a run, and whether the objective was met. A run without requests has not met it."""
    lines = [f"{'SLO':<28}{'requests':>10}{'errors':>9}{'p50 ms':>9}{'p99 ms':>9}"]
    lines += [
        f"{seen.name:<28}{seen.requests:>10}{seen.error_percent:>8.2f}%{seen.p50_ms:>9.1f}{seen.p99_ms:>9.1f}"
        for seen in everything
    ]
    broken = [line for seen in everything for line in violations(seen, limits)]
    if not any(seen.requests for seen in everything):
        broken.append("nothing was asked")
    return "\n".join([*lines, *(broken or ["met"])]), not broken
