"""The rows of the drift demo: real measurements, split in two, and the same with cells that look larger.

Rule: a window gets each held-out row at most once, because rows that repeat make a sample look larger than it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGER = {"mean radius": 1.25, "mean perimeter": 1.25, "mean area": 1.25**2, "worst radius": 1.25}
"""What a microscope whose scale is off by a quarter does to lengths and areas."""

HELD_OUT = 0.25


@dataclass(frozen=True, slots=True)
class Rows:
    """Breast-cancer measurements (569 x 30): `reference` for the baseline, `held_out` to replay."""

    features: tuple[str, ...]
    reference: NDArray[np.float64]
    held_out: NDArray[np.float64]

    def shifted(self) -> NDArray[np.float64]:
        """The held-out rows as the wrong scale shows them."""
        factors: NDArray[np.float64] = np.array([LARGER.get(name, 1.0) for name in self.features])
        return np.multiply(self.held_out, factors)


def load_rows(seed: int) -> Rows:
    """Real rows split at random by `seed`.

    Raises:
        ImportError: scikit-learn, whose data this is, is not installed.
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    order = np.random.default_rng(seed).permutation(len(data.data))
    cut = round(len(order) * HELD_OUT)
    names = tuple(map(str, data.feature_names))
    return Rows(names, data.data[order[cut:]], data.data[order[:cut]])


def orders(count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """For each window, every row's number once, in an order of its own."""
    generator = np.random.default_rng(seed)
    while True:
        yield generator.permutation(count)
