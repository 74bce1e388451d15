"""How many different values a column has: HyperLogLog in numpy.

Rule: registers only grow, so any order and any merging gives the same ones. Source: Flajolet et al., "HyperLogLog",
2007, with linear counting below 2.5 m; hashes have 64 bits, so there is no correction for large counts.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

PRECISION = 12
_REGISTERS = 1 << PRECISION
_TAIL = 64 - PRECISION


class Distinct:
    """An estimate of the number of different values; standard error 1.6 %."""

    __slots__ = ("registers",)

    def __init__(self, registers: NDArray[np.uint8] | None = None) -> None:
        self.registers = np.zeros(_REGISTERS, dtype=np.uint8) if registers is None else registers

    def fold(self, hashes: Hashes) -> None:
        """Add values by their hashes (`mixed`, or 64 good bits of any other function)."""
        if not len(hashes):
            return
        places = (hashes >> np.uint64(_TAIL)).astype(np.intp)
        tails = hashes & np.uint64((1 << _TAIL) - 1)
        limits = np.ldexp(1.0, _TAIL - self.registers.astype(np.int64))
        fresh = np.flatnonzero(tails < limits[places])
        ranks = _TAIL + 1 - np.frexp(tails[fresh].astype(np.float64))[1]
        np.maximum.at(self.registers, places[fresh], ranks.astype(np.uint8))

    def merge(self, other: Distinct) -> Distinct:
        """Both together: exactly what folding all values into one gives."""
        return Distinct(np.maximum(self.registers, other.registers))

    @property
    def estimate(self) -> float:
        """About how many different values there were."""
        zeros = int(np.count_nonzero(self.registers == 0))
        raw = 0.7213 / (1 + 1.079 / _REGISTERS) * _REGISTERS**2 / float(np.exp2(-self.registers.astype(float)).sum())
        if zeros and raw <= 2.5 * _REGISTERS:
            return _REGISTERS * math.log(_REGISTERS / zeros)
        return raw


def mixed(bits: Hashes) -> Hashes:
    """64 well mixed bits for each 64 bits: the finaliser of splitmix64 (Steele, Lea, Flood, 2014)."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits
