"""The converted graph beside its original, row by row.

Rule: converters differ in ways that no test of their own shows (float32 thresholds behind a scaler have
moved a probability by 0.08), so every conversion is compared on the caller's own rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vedette.core.errors import InvalidArgument
from vedette.sdk.convert.conversion import imported

TOLERANCE = 1e-4
"""Largest difference that passes: absolute up to 1, relative beyond."""


def compare(onnx: bytes, feeds: Mapping[str, Any], expected: Mapping[str, Any], rows: Any) -> float:
    """Run the graph on `feeds` and return the largest difference to what the original gave.

    `expected` holds the original's `probabilities`, `prediction` or `label` by output name; `rows` is what
    the original was given, for the message.

    Raises:
        InvalidArgument: they differ by more than `TOLERANCE`; shows the worst row.
    """
    got = _run(onnx, feeds)
    largest = 0.0
    for name, want in expected.items():
        have = np.asarray(got[name]).reshape(np.shape(want))
        if name == "label":
            _check_labels(have, want, expected.get("probabilities"), rows)
        else:
            largest = max(largest, _check_values(name, have, want, rows))
    return largest


def _run(onnx: bytes, feeds: Mapping[str, Any]) -> dict[str, Any]:
    ort = imported("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _check_values(name: str, have: Any, want: Any, rows: Any) -> float:
    want = np.asarray(want, dtype=np.float64)
    difference = np.abs(have.astype(np.float64) - want) / np.maximum(1.0, np.abs(want))
    difference = np.where(np.isnan(difference), np.inf, difference).reshape(len(want), -1).max(axis=1)
    worst = int(np.argmax(difference))
    if difference[worst] > TOLERANCE:
        raise InvalidArgument(
            f"the converted model differs from the original by {difference[worst]:.3g} (limit {TOLERANCE:g}) "
            f"on {int((difference > TOLERANCE).sum())} of {len(want)} rows; row {worst}: {name} is "
            f"{_short(have[worst])}, the original gives {_short(want[worst])}, for {_row(rows, worst)}. "
            "Trees behind a scaler lose thresholds to float32: train them on unscaled features"
        )
    return float(difference[worst])


def _check_labels(have: Any, want: Any, probabilities: Any, rows: Any) -> None:
    wrong = np.flatnonzero(have.astype(str) != np.asarray(want).astype(str))
    for row in wrong:
        if probabilities is not None and _tie(np.asarray(probabilities)[row]):
            continue
        raise InvalidArgument(
            f"the converted model differs from the original: row {row}: label is {have[row]}, "
            f"the original gives {want[row]}, for {_row(rows, int(row))}"
        )


def _tie(scores: Any) -> bool:
    """Whether the two best scores are so near that rounding may choose either."""
    best = np.sort(scores)[-2:]
    return bool(best[-1] - best[0] <= 2 * TOLERANCE)


def _short(values: Any) -> str:
    return np.array2string(np.asarray(values), precision=6, threshold=6, separator=", ")


def _row(rows: Any, index: int) -> str:
    if hasattr(rows, "iloc"):
        return str(rows.iloc[index].to_dict())[:300]
    return _short(np.asarray(rows)[index])
