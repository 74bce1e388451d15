"""How far predicted values are from the true ones.

Rule: pure functions of two arrays of one length without missing values; what is undefined is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

REGRESSION_METRICS = ("mae", "mse", "rmse", "r2")


def regression_metrics(labels: Values, predictions: Values) -> dict[str, float]:
    """SageMaker's four; r2 is 1 - SSE/SST around the mean of the labels.

    For constant labels, where SST is 0, r2 is 1 if nothing is missed and else 0 (scikit-learn's convention).
    """
    if not labels.size:
        return dict.fromkeys(REGRESSION_METRICS, float("nan"))
    with np.errstate(over="ignore", invalid="ignore"):
        missed = labels - predictions
        mse = float(np.mean(missed**2))
        return {
            "mae": float(np.mean(np.abs(missed))),
            "mse": mse,
            "rmse": float(np.sqrt(mse)),
            "r2": _r2(labels, mse),
        }


def _r2(labels: Values, mse: float) -> float:
    spread = float(np.mean((labels - labels.mean()) ** 2))
    if labels.size < 2:
        return float("nan")
    if spread == 0.0:
        return float(mse == 0.0)
    return 1.0 - mse / spread
