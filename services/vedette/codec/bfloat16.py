"""BF16 as numpy can hold it: uint16 bit patterns, the upper half of an FP32.

Rule: widening is exact; narrowing rounds to nearest, ties to even, as hardware does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def widen(patterns: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The exact FP32 values of BF16 bit patterns."""
    return (patterns.astype(np.uint32) << 16).view(np.float32)


def narrow(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The nearest BF16 bit patterns; what is over the largest finite BF16 becomes infinite, NaN stays NaN."""
    bits = np.asarray(values, np.float32, order="C").view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
