"""Count, sum and sum of squares of a column, kept as exact integers, so that no order of adding changes a bit.

Rule: a float64 is an integer times 2**-1074 and its square an integer times 2**-2148; sums are kept in those units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SUM_BITS = 1074
_SQUARE_BITS = 2148
_WINDOW = 20
_CHUNK = 8192
"""Products of two 20-bit windows, 8,192 of them added: below 2**53, so float64 BLAS adds them without rounding."""
_PLAIN = (2.0**-400, 2.0**400)
"""Outside of these magnitudes the scale factors of the windows would leave float64."""


@dataclass(slots=True)
class Moments:
    """What is known of the finite values of a column; NaN where there were none."""

    count: int = 0
    total: int = 0
    """The sum in units of 2**-1074."""
    squares: int = 0
    """The sum of squares in units of 2**-2148."""
    minimum: float = math.nan
    maximum: float = math.nan

    def fold(self, values: Floats) -> None:
        """Add finite values, in any order."""
        if not len(values):
            return
        self._extend(len(values), float(values.min()), float(values.max()))
        for start in range(0, len(values), _CHUNK):
            total, squares = _exact_sums(values[start : start + _CHUNK])
            self.total += total
            self.squares += squares

    def merge(self, other: Moments) -> Moments:
        """Both together; exactly what folding all values into one gives."""
        merged = Moments(self.count, self.total + other.total, self.squares + other.squares, self.minimum, self.maximum)
        if other.count:
            merged._extend(other.count, other.minimum, other.maximum)
        return merged

    def _extend(self, count: int, minimum: float, maximum: float) -> None:
        self.minimum = minimum if not self.count else min(self.minimum, minimum)
        self.maximum = maximum if not self.count else max(self.maximum, maximum)
        self.count += count

    @property
    def sum(self) -> float:
        """The exact sum, rounded once; infinite when it leaves float64."""
        return _ratio(self.total, 1 << _SUM_BITS)

    @property
    def mean(self) -> float:
        """The exact mean, rounded once."""
        return _ratio(self.total, self.count << _SUM_BITS)

    @property
    def variance(self) -> float:
        """The population variance (divided by the count), rounded once."""
        return _ratio(*self._variance())

    @property
    def std(self) -> float:
        """The population standard deviation: the root of the exact variance."""
        return _root(*self._variance())

    def _variance(self) -> tuple[int, int]:
        """Numerator and denominator: (n * sum of squares - sum ** 2) / n ** 2."""
        return self.count * self.squares - self.total**2, (self.count**2) << _SQUARE_BITS


def _ratio(numerator: int, denominator: int) -> float:
    if not denominator:
        return math.nan
    try:
        return numerator / denominator
    except OverflowError:
        return math.copysign(math.inf, numerator)


def _root(numerator: int, denominator: int) -> float:
    """The square root of a ratio, through integers: the ratio itself may be outside of float64."""
    if not denominator:
        return math.nan
    shift = max(0, 130 - numerator.bit_length() + denominator.bit_length())
    shift += shift % 2
    return _ratio(math.isqrt((numerator << shift) // denominator), 1 << (shift // 2))


def _exact_sums(values: Floats) -> tuple[int, int]:
    """Sum and sum of squares of at most 8,192 finite values, in the units of `Moments`."""
    sizes = np.abs(values)
    largest = float(sizes.max())
    if largest == 0.0:
        return 0, 0
    if largest < _PLAIN[1] and float(np.min(sizes, where=sizes > 0, initial=largest)) > _PLAIN[0]:
        return _windowed_sums(values, math.frexp(largest)[1])
    plain = (sizes > _PLAIN[0]) & (sizes < _PLAIN[1])
    total, squares = _exact_sums(values[plain]) if plain.any() else (0, 0)
    for value in values[~plain].tolist():
        numerator, denominator = value.as_integer_ratio()
        units = (numerator << _SUM_BITS) // denominator
        total += units
        squares += units * units
    return total, squares


def _windowed_sums(values: Floats, exponent: int) -> tuple[int, int]:
    """The sums of values below 2**exponent, cut into windows of 20 bits whose products add without rounding."""
    windows, rest = [], values
    while rest.any():
        exponent -= _WINDOW
        window = np.trunc(rest * 2.0**-exponent)
        rest = rest - window * 2.0**exponent
        windows.append(window)
    cut = np.stack(windows)
    total = squares = 0
    products = (cut @ cut.T).tolist()
    for row, first in enumerate(cut.sum(axis=1).tolist()):
        bits = exponent + _WINDOW * (len(windows) - 1 - row)
        total += int(first) << (bits + _SUM_BITS)
        for column in range(row + 1):
            other = exponent + _WINDOW * (len(windows) - 1 - column)
            squares += (int(products[row][column]) << (bits + other + _SQUARE_BITS)) * (1 if row == column else 2)
    return total, squares
