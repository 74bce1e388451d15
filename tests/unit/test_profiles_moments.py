"""Sums are exact: they equal rational arithmetic, whatever the magnitudes, the order and the chunks."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.profiles.moments import Moments

finite = st.floats(allow_nan=False, allow_infinity=False)
tables = st.lists(finite | st.floats(-1e3, 1e3) | st.integers(-5, 5).map(float), max_size=60)


def folded(*chunks: list[float]) -> Moments:
    """Moments of some values, chunk by chunk."""
    moments = Moments()
    for chunk in chunks:
        moments.fold(np.array(chunk, dtype=np.float64))
    return moments


def exact(values: list[float]) -> tuple[Fraction, Fraction]:
    """The sum and the sum of squares as fractions."""
    fractions = [Fraction(value) for value in values]
    return sum(fractions, Fraction()), sum((value * value for value in fractions), Fraction())


@given(tables)
def test_sums_equal_those_of_fractions(values: list[float]) -> None:
    """No bit is lost, from the smallest denormal to the largest float."""
    moments = folded(values)
    assert (Fraction(moments.total, 2**1074), Fraction(moments.squares, 2**2148)) == exact(values)


@pytest.mark.parametrize("scale", [1.0, 1e-130, 1e115, 1e-310, 1e-60])
def test_whole_chunks_are_exact_at_every_scale(scale: float) -> None:
    """More values than a chunk holds, of one magnitude or spread over many."""
    rng = np.random.default_rng(3)
    values = np.concatenate((rng.normal(size=9_000), rng.lognormal(0, 9, size=300), [0.0, -0.0])) * scale
    moments = folded(values.tolist())
    assert (Fraction(moments.total, 2**1074), Fraction(moments.squares, 2**2148)) == exact(values.tolist())


def test_the_largest_windows_do_not_overflow_a_chunk() -> None:
    """8,192 values whose first window is full: the sum of squares is the largest that a chunk can have."""
    values = [math.nextafter(2.0, 0.0)] * 8_192
    assert folded(values).squares == int(exact(values)[1] * 2**2148)


@given(tables, tables, tables)
def test_merging_is_associative_commutative_and_the_whole(a: list[float], b: list[float], c: list[float]) -> None:
    """Exactly, not nearly: the order of adding changes no bit."""
    x, y, z = folded(a), folded(b), folded(c)
    whole = repr(folded([*a, *b, *c]))
    assert repr(x.merge(y).merge(z)) == repr(x.merge(y.merge(z))) == repr(z.merge(y).merge(x)) == whole
    assert repr(folded(a, b, c)) == whole == repr(folded([*c, *a], b))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_mean_and_deviation_are_those_of_the_statistics_module(values: list[float]) -> None:
    """`statistics` works in exact fractions too; population formulas."""
    moments = folded(values)
    fractions = [Fraction(value) for value in values]
    assert moments.mean == float(statistics.mean(fractions))
    assert moments.variance == float(statistics.pvariance(fractions))
    assert moments.std == pytest.approx(statistics.pstdev(values), rel=1e-15)
    assert (moments.minimum, moments.maximum, moments.count) == (min(values), max(values), len(values))


def test_a_deviation_survives_where_its_variance_leaves_float64() -> None:
    """The root is taken of the exact ratio."""
    moments = folded([1e300, -1e300])
    assert (moments.std, moments.variance, moments.mean) == (1e300, math.inf, 0.0)
    tiny = folded([1e-300, -1e-300])
    assert (tiny.std, tiny.variance) == (1e-300, 0.0)


def test_a_sum_out_of_range_is_infinite_and_its_mean_is_not() -> None:
    """The sum is exact inside; only its float is not."""
    moments = folded([1.7e308] * 4)
    assert (moments.sum, moments.mean) == (math.inf, 1.7e308)
    assert folded([-1.7e308] * 4).sum == -math.inf


def test_of_nothing_nothing_is_known() -> None:
    """NaN, and no warning."""
    moments = folded([])
    assert moments.sum == 0.0
    assert all(map(math.isnan, (moments.mean, moments.std, moments.variance, moments.minimum, moments.maximum)))


def test_a_constant_has_no_variance_at_all() -> None:
    """Where floats would leave a residue."""
    moments = folded([0.1] * 1_000)
    assert (moments.variance, moments.std, moments.mean) == (0.0, 0.0, 0.1)


def test_zeros_have_no_sign() -> None:
    """Else the first zero met would decide what the minimum looks like."""
    assert math.copysign(1.0, folded([-0.0], [0.0]).minimum) == math.copysign(1.0, folded([0.0], [-0.0]).minimum) == 1.0
