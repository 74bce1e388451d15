"""Batches of captures for tests: one float input `x` with named features, labels and probabilities as outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vedette.codec.captures import CONTENT_TYPE, CaptureBatch, TensorColumn, encode_captures
from vedette.core.events import Message
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import Array

SIGNATURE = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 3)),),
    outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
    feature_names=("age", "height", "sex"),
    categories={"sex": ("f", "m")},
    label_names=("no", "yes"),
)


def rows_of(count: int, *, seed: int = 0, shift: float = 0.0) -> Array:
    """Rows of the three features; `shift` moves `age`."""
    draw = np.random.default_rng(seed)
    columns = (draw.normal(40 + shift, 10, count), draw.normal(170, 8, count), draw.integers(0, 2, count))
    return np.stack(columns, axis=1).astype(np.float32)


def column(name: str, datatype: str, values: Array) -> TensorColumn:
    """One row for each request."""
    return TensorColumn(name, datatype, values.reshape(-1), [(1, *values.shape[1:])] * len(values))


def batch(
    times: Sequence[float],
    *,
    rows: Array | None = None,
    endpoint: str = "e",
    variant: str = "A",
    version: str = "1",
    producer: str = "p",
    first: int = 0,
    codes: Sequence[str] | None = None,
    inference_ids: Sequence[str] | None = None,
) -> CaptureBatch:
    """A request of one row at each of these times."""
    count = len(times)
    x = rows_of(count, seed=first) if rows is None else rows
    labels = (x[:, 0] > 40).astype(np.int64)
    sure = np.stack([1 - labels * 0.8, labels * 0.8], axis=1).astype(np.float32)
    return CaptureBatch(
        endpoint,
        variant,
        "m",
        version,
        producer,
        np.arange(first, first + count, dtype=np.uint64),
        [f"{producer}-{number:06d}" for number in range(first, first + count)],
        list(inference_ids or [""] * count),
        np.array(times, np.float64),
        np.full(count, 100, np.int64),
        list(codes or ["OK"] * count),
        np.ones(count, np.int64),
        ["application/json"] * count,
        ["application/json"] * count,
        [""] * count,
        {"x": column("x", "FP32", x)},
        {"label": column("label", "INT64", labels), "probabilities": column("probabilities", "FP32", sure)},
    )


def message(captures: CaptureBatch) -> Message:
    """As the inference service publishes it."""
    number = int(captures.sequences[0]) if len(captures) else 0
    return Message(captures.endpoint, encode_captures(captures), CONTENT_TYPE, captures.producer, number)
