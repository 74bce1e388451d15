"""Distances against SciPy on samples, and within the rank error on sketches; documented answers where there is none."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats
from scipy.spatial import distance as scipy_distance

from vedette.core.errors import InvalidArgument
from vedette.profiles import Categories, Layout, Profile, Quantiles
from vedette.profiles import distances as d

samples = st.lists(st.floats(-1e6, 1e6) | st.integers(-3, 3).map(float), min_size=1, max_size=50)
tallies = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=12).filter(
    lambda pairs: any(one for one, _ in pairs) and any(two for _, two in pairs)
)


def sides(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both sides."""
    one, two = np.array(pairs, dtype=float).T
    return one, two


def scipys_ks(first: ArrayLike, second: ArrayLike) -> float:
    """SciPy's statistic; its p-value warns on tiny samples, and nobody asks for it here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(stats.ks_2samp(first, second, method="asymp").statistic)


def sketch(values: np.ndarray) -> Quantiles:
    """A sketch of a sample."""
    quantiles = Quantiles()
    quantiles.fold(np.sort(values))
    return quantiles


@given(samples, samples)
def test_ks_and_wasserstein_are_scipys(first: list[float], second: list[float]) -> None:
    """On samples with ties, of different sizes; and on sketches that still hold everything, the same."""
    ks, area = scipys_ks(first, second), stats.wasserstein_distance(first, second)
    for one, two in ((first, second), (sketch(np.array(first)), sketch(np.array(second)))):
        assert d.ks(one, two) == pytest.approx(ks, abs=1e-12)
        assert d.deequ_simple(one, two) == d.ks(one, two)
        assert d.wasserstein(one, two) == pytest.approx(area, rel=1e-9, abs=1e-9)
        assert d.wasserstein(one, two, scale=4.0) == pytest.approx(area / 4, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0])
def test_sketches_are_within_their_rank_error(shift: float) -> None:
    """Each CDF is off by at most 0.14 % with 99 % confidence; all points at once by about as much again."""
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=200_000), rng.normal(shift, size=100_000)
    one, two = sketch(first), sketch(second)
    error = 2 * (one.rank_error + two.rank_error)
    assert d.ks(one, two) == pytest.approx(scipys_ks(first, second), abs=error)
    area = stats.wasserstein_distance(first, second)
    assert d.wasserstein(one, two) == pytest.approx(area, abs=error * 9)  # over a range of nine deviations
    assert d.ks(one, second) == pytest.approx(scipys_ks(first, second), abs=error)


@given(tallies)
def test_distances_of_counts_are_scipys(pairs: list[tuple[int, int]]) -> None:
    """Jensen-Shannon, PSI through entropies, and the norms by their definitions."""
    one, two = sides(pairs)
    p, q = one / one.sum(), two / two.sum()
    assert d.jensen_shannon(one, two) == pytest.approx(scipy_distance.jensenshannon(p, q, base=2), abs=1e-7)
    assert d.hellinger(one, two) == pytest.approx(math.sqrt(max(0.0, 1 - np.sum(np.sqrt(p * q)))), abs=1e-7)
    assert d.tvd(one, two) == pytest.approx(scipy_distance.cityblock(p, q) / 2, abs=1e-12)
    assert d.l_infinity(one, two) == pytest.approx(scipy_distance.chebyshev(p, q), abs=1e-12)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=2, max_size=12))
def test_psi_is_the_sum_of_both_relative_entropies(pairs: list[tuple[int, int]]) -> None:
    """Where no share is below the floor."""
    one, two = sides(pairs)
    p, q = one / one.sum(), two / two.sum()
    if min(p.min(), q.min()) >= 1e-4:
        assert d.psi(one, two) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), abs=1e-12)


def test_psi_of_an_empty_bin_is_finite() -> None:
    """A bin that one side lacks costs what a share of 0.0001 costs; one that both lack costs nothing."""
    assert d.psi([50, 50, 0], [50, 0, 50]) == pytest.approx(2 * (0.5 - 1e-4) * math.log(0.5 / 1e-4))
    assert d.psi([50, 50, 0], [50, 50, 0]) == 0.0


@given(tallies)
def test_the_unmerged_test_is_scipys_chisquare(pairs: list[tuple[int, int]]) -> None:
    """Statistic and p-value, expected counts scaled to the observed total."""
    one, two = sides([(expected + 1, observed) for expected, observed in pairs])
    result = d.chi_squared(one, two, merge=False)
    if len(one) < 2 or not two.sum():
        assert math.isnan(result.p_value)
        return
    oracle = stats.chisquare(two, one * two.sum() / one.sum())
    assert result.statistic == pytest.approx(oracle.statistic, rel=1e-9, abs=1e-9)
    assert result.p_value == pytest.approx(oracle.pvalue, rel=1e-7, abs=1e-12)
    assert result.degrees == len(one) - 1


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 10, 99, 100, 999, 2_000])
def test_the_tail_is_scipys(degrees: int) -> None:
    """From certainty to where nothing is left; odd and even degrees have formulas of their own."""
    for statistic in (0.0, 1e-9, 0.5, 3.0, degrees * 0.5, degrees, degrees * 2.0, 5_000.0):
        oracle = stats.chi2.sf(statistic, degrees)
        assert d.chi_squared_tail(statistic, degrees) == pytest.approx(oracle, rel=1e-7, abs=1e-300)


@pytest.mark.parametrize(
    ("expected", "observed", "joined_expected", "joined_observed"),
    [
        # At most 20 % of the categories below 5: as they are.
        ([100, 50, 30, 16, 4], [100, 50, 30, 16, 4], [100, 50, 30, 16, 4], [100, 50, 30, 16, 4]),
        # Two of five below 5: the smallest goes into the next smallest, and 7 is not below.
        ([100, 50, 43, 4, 3], [90, 60, 40, 6, 4], [100, 50, 43, 7], [90, 60, 40, 10]),
        # One of four is a quarter.
        ([100, 50, 46, 4], [90, 50, 50, 10], [100, 50, 50], [90, 50, 60]),
        # What was joined is still small and is joined again.
        ([100, 94, 2, 2, 1, 1], [98, 90, 3, 3, 3, 3], [100, 94, 6], [98, 90, 12]),
        # Of two categories both need 10.
        ([95, 5], [90, 10], None, None),
        ([90, 10], [80, 20], [90, 10], [80, 20]),
        # Expected in none of the baseline's rows: joined, however few they are.
        ([50, 30, 15, 5, 0], [50, 30, 15, 4, 1], [50, 30, 15, 5], [50, 30, 15, 5]),
    ],
)
def test_small_categories_are_joined_as_deequ_does(
    expected: list[int], observed: list[int], joined_expected: list[int] | None, joined_observed: list[int] | None
) -> None:
    """Worked by hand from the rule; then SciPy's test of what is left."""
    result = d.chi_squared(expected, observed)
    if joined_expected is None or joined_observed is None:
        assert math.isnan(result.p_value)
        assert result.degrees == 0
        return
    oracle = stats.chisquare(joined_observed, joined_expected)
    assert (result.statistic, result.p_value) == pytest.approx((oracle.statistic, oracle.pvalue))
    assert result.degrees == len(joined_expected) - 1


def test_thousands_of_small_categories_are_joined_at_once() -> None:
    """Two thousand categories of one row each: no quadratic work."""
    result = d.chi_squared(np.ones(20_000), np.ones(20_000))
    assert (result.statistic, result.p_value) == (0.0, 1.0)


def test_the_robust_distance_takes_off_what_chance_gives() -> None:
    """Reference figures: 0.255 with 100 rows on both sides, 0.025 with 10,000."""
    assert d.deequ_robust(1.0, 100, 100) == pytest.approx(1 - 0.2546, abs=1e-4)
    assert d.deequ_robust(1.0, 10_000, 10_000) == pytest.approx(1 - 0.02546, abs=1e-5)
    assert d.deequ_robust(0.2, 100, 100) == 0.0
    assert math.isnan(d.deequ_robust(0.5, 0, 10))
    assert math.isnan(d.deequ_robust(math.nan, 5, 10))


OF_VALUES: list[Callable[..., float]] = [d.ks, d.wasserstein, d.deequ_simple]
OF_COUNTS: list[Callable[..., float]] = [d.psi, d.jensen_shannon, d.hellinger, d.tvd, d.l_infinity]


@pytest.mark.parametrize("distance", OF_VALUES)
def test_values_meet_empty_constant_and_single(distance: Callable[..., float]) -> None:
    """Empty: NaN. Equal: 0. No warning in any case; the input is not written."""
    empty, one, many = np.zeros(0), np.array([3.0]), np.full(50, 3.0)
    assert math.isnan(distance(empty, one))
    assert math.isnan(distance(one, np.array([math.nan, math.inf])))
    assert math.isnan(distance(Quantiles(), Quantiles()))
    assert distance(one, many) == 0.0
    assert distance(one, [4.0]) == 1.0
    values = np.array([2.0, math.nan, 1.0])
    values.flags.writeable = False
    assert distance(values, [1.0, 2.0]) == 0.0


def test_wasserstein_in_units_of_a_constant_baseline() -> None:
    """Infinite when anything moved, 0 when nothing did; and floats as far apart as they go."""
    assert d.wasserstein([1.0], [2.0], scale=0.0) == math.inf
    assert d.wasserstein([1.0], [1.0], scale=0.0) == 0.0
    assert d.wasserstein([-1.7e308], [1.7e308]) == math.inf
    assert d.wasserstein([-1.7e308, 1.7e308], [-1.7e308, 1.7e308]) == 0.0


@pytest.mark.parametrize("distance", OF_COUNTS)
def test_counts_meet_empty_equal_and_disjoint(distance: Callable[..., float]) -> None:
    """One side empty, or no categories: NaN. Equal shares: 0. Bad counts: refused."""
    assert math.isnan(distance([], []))
    assert math.isnan(distance([0, 0], [1, 2]))
    assert math.isnan(distance([1, 2], [0, 0]))
    assert distance([5], [50]) == 0.0
    assert distance([1, 3], [2, 6]) == pytest.approx(0.0, abs=1e-7)
    if distance is not d.psi:
        assert distance([1, 0], [0, 1]) == pytest.approx(1.0)
    for bad in ([1], [1, -1], [1, math.nan], [1, math.inf]):
        with pytest.raises(InvalidArgument):
            distance([1, 1], bad)


def test_the_chi_squared_test_meets_empty_input() -> None:
    """NaN where there is nothing to test."""
    for expected, observed in (([], []), ([0, 0], [1, 1]), ([5, 5], [0, 0]), ([5], [5])):
        result = d.chi_squared(expected, observed)
        assert math.isnan(result.statistic)
        assert math.isnan(result.p_value)


def test_bins_of_two_profiles() -> None:
    """The baseline's counts come from its sketch, within the rank error, or exactly when it has the same bins."""
    rng = np.random.default_rng(4)
    values = rng.normal(size=60_000)
    baseline, window = Profile(), None
    baseline.fold({"x": values})
    layout = Layout.of(baseline)
    window, refolded = Profile(layout), Profile(layout)
    window.fold({"x": rng.normal(0.5, size=5_000)})
    refolded.fold({"x": values})
    edges = np.array(layout.columns["x"].edges)
    truth = np.concatenate(([0], np.histogram(values, edges)[0], [0]))
    expected, observed = d.binned(baseline.columns["x"], window.columns["x"])
    exact, _ = d.binned(refolded.columns["x"], window.columns["x"])
    assert exact.tolist() == truth.tolist()
    assert expected == pytest.approx(truth, abs=0.0028 * 60_000)
    assert (expected.sum(), observed.sum()) == (60_000, 5_000)
    assert len(expected) == len(observed) == len(edges) + 1
    assert d.psi(expected, observed) == pytest.approx(d.psi(exact, observed), rel=0.02)


def test_categories_of_two_profiles() -> None:
    """By name; a new one is seen; what has no name is compared with what has none."""
    baseline = Categories(fresh={"a": 5, "b": 3})
    window = Categories(known={"a": 4, "b": 0}, fresh={"new": 2}, other=1)
    names, one, two = d.paired(baseline, window)
    assert (names, one.tolist(), two.tolist()) == (["a", "b", "new", d.OTHER], [5, 3, 0, 0], [4, 0, 2, 1])
    names, one, two = d.paired({"a": 1}, {"b": 2})
    assert (names, one.tolist(), two.tolist()) == (["a", "b"], [1, 0], [0, 2])


def test_a_baseline_with_more_categories_than_it_names_finds_no_new_ones() -> None:
    """The window's rare categories may be among those that the baseline could not name."""
    baseline = Categories(fresh={"a": 5}, other=9)
    window = Categories(known={"a": 4}, fresh={"rare": 2, "rarer": 1}, other=3)
    names, one, two = d.paired(baseline, window)
    assert (names, one.tolist(), two.tolist()) == (["a", d.OTHER], [5, 9], [4, 6])
