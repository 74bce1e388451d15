"""Count, sum and sum of squares of a column, kept as exact integers, so that no order of adding changes a bit.

Rule: a float64 is an integer times 2**-1074 and its square an integer times 2**-2148; sums are kept in those units
and rounded once, when they are read.
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
"""A window holds integers up to 2**20: products of two, 8,192 of them added, stay within 2**53, so that float64 BLAS
adds them without rounding, in whatever order."""
_PLAIN = (2.0**-400, 2.0**400)
"""Magnitudes between which no window, nor a product of two, leaves float64."""


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
        """Add finite values; fastest when they are sorted, for then neighbours are of one magnitude."""
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
        merged._extend(other.count, other.minimum, other.maximum)
        merged.count = self.count + other.count
        return merged

    def _extend(self, count: int, minimum: float, maximum: float) -> None:
        if not count:
            return
        # Zeros are unsigned, or the first one met would decide the sign of the minimum.
        self.minimum = (minimum if not self.count else min(self.minimum, minimum)) + 0.0
        self.maximum = (maximum if not self.count else max(self.maximum, maximum)) + 0.0
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
        """The population variance (divided by the count), rounded once; infinite when it leaves float64."""
        return _ratio(*self._variance())

    @property
    def std(self) -> float:
        """The population standard deviation: the root of the exact variance."""
        return _root(*self._variance())

    def _variance(self) -> tuple[int, int]:
        """Numerator and denominator: (n * sum of squares - sum ** 2) / n ** 2."""
        return self.count * self.squares - self.total**2, self.count**2 << _SQUARE_BITS


def _ratio(numerator: int, denominator: int) -> float:
    if not denominator:
        return math.nan
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def _root(numerator: int, denominator: int) -> float:
    """The square root of a ratio by way of integers, for the ratio itself may be outside of float64."""
    if not denominator:
        return math.nan
    shift = max(0, 130 - numerator.bit_length() + denominator.bit_length())
    shift += shift % 2
    return _ratio(math.isqrt((numerator << shift) // denominator), 1 << shift // 2)


def _exact_sums(values: Floats) -> tuple[int, int]:
    """Sum and sum of squares of at most 8,192 finite values, in the units of `Moments`."""
    sizes = np.abs(values)
    largest = float(sizes.max())
    if largest == 0.0:
        return 0, 0
    smallest = float(sizes.min()) or float(sizes.min(where=sizes > 0, initial=largest))
    if smallest > _PLAIN[0] and largest < _PLAIN[1]:
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
    """The sums of values of at most 2**exponent.

    Each value is cut into windows of 20 bits on one grid; sums of windows and of products of windows are exact.
    """
    windows: list[tuple[Floats, int]] = []
    total, squares, rest = 0, 0, values
    while rest.any():
        exponent -= _WINDOW
        # Adding and taking away 1.5 * 2**52 grid units rounds to the grid: the rest is at most half a unit.
        anchor = math.ldexp(1.5, 52 + exponent)
        window = rest + anchor
        window -= anchor
        rest = rest - window
        total += _integer(float(window.sum()), exponent) << (exponent + _SUM_BITS)
        for other, unit in windows:
            squares += _integer(float(window @ other), exponent + unit) << (exponent + unit + _SQUARE_BITS + 1)
        squares += _integer(float(window @ window), 2 * exponent) << (2 * exponent + _SQUARE_BITS)
        windows.append((window, exponent))
    return total, squares


def _integer(value: float, exponent: int) -> int:
    """How many units of 2**exponent a value holds."""
    return int(math.ldexp(value, -exponent))
