"""The calibrated default: its tests against SciPy's and statsmodels', its level and its power."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loadtests.detectors import POPULATIONS, false_alarms, null_windows, numbered, power, profiled
from scipy import stats
from statsmodels.stats.multitest import multipletests
from tests.unit.checks_tables import compared, results, run, texts

from vedette.entities.monitors import CheckSettings
from vedette.monitor import significance
from vedette.monitor.checks import drift, make_check
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import Pair
from vedette.monitor.significance import (
    Independence,
    auc_p_value,
    chi_squared_p_value,
    deequ_chi_squared,
    displacement,
    displacement_p_value,
    holm,
    independence,
    merged_counts,
)
from vedette.profiles import Layout, Profile, Quantiles

EXPECTED_ALARMS = 4
"""Over 60 windows at a level of 1 % more than so many have a chance of 1 in 2,700."""


def sketch(values: Any) -> Quantiles:
    made = Quantiles()
    made.fold(np.asarray(values, dtype=float))
    return made


# The statistics, against those that others wrote.


@pytest.mark.parametrize("rows", [(50, 70), (400, 1500), (2000, 1000)])
def test_distances_of_numbers_are_scipys(rows: tuple[int, int]) -> None:
    """While sketches hold every value: KS, AUC and Wasserstein distance to the last digits, with ties."""
    rng = np.random.default_rng(rows)
    one, two = rng.normal(size=rows[0]).round(1), rng.normal(0.2, 1.3, size=rows[1]).round(1)
    moved = displacement(sketch(one), sketch(two), scale=one.std())
    assert moved.rank_error == 0
    assert moved.ks == pytest.approx(stats.ks_2samp(one, two).statistic, abs=1e-12)
    assert moved.wasserstein == pytest.approx(stats.wasserstein_distance(one, two) / one.std(), rel=1e-12)
    assert moved.auc == pytest.approx(stats.mannwhitneyu(two, one).statistic / (rows[0] * rows[1]), abs=1e-12)


def test_distances_of_large_samples_are_scipys_within_the_rank_error() -> None:
    """Sketches of 100,000 values; the Wasserstein distance hardly suffers."""
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=100_000), rng.normal(0.1, 1, size=100_000)
    moved = displacement(sketch(one), sketch(two), scale=1.0)
    assert 0 < moved.rank_error < 0.003
    assert abs(moved.ks - stats.ks_2samp(one, two).statistic) <= moved.rank_error
    assert abs(moved.auc - stats.mannwhitneyu(two, one).statistic / 1e10) <= moved.rank_error
    assert moved.wasserstein == pytest.approx(stats.wasserstein_distance(one, two), abs=0.005)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3])
def test_the_p_value_of_numbers_is_the_smaller_of_scipys_doubled(shift: float) -> None:
    """Kolmogorov-Smirnov in the limit and Mann-Whitney without corrections for ties and continuity."""
    rng = np.random.default_rng(2)
    one, two = rng.normal(size=900), rng.normal(shift, 1, size=1500)
    n, m = len(one), len(two)
    ks = stats.kstwobign.sf(stats.ks_2samp(one, two).statistic * np.sqrt(n * m / (n + m)))
    mann_whitney = stats.mannwhitneyu(one, two, method="asymptotic", use_continuity=False).pvalue
    moved = displacement(sketch(one), sketch(two), scale=1.0)
    assert displacement_p_value(moved, n, m) == pytest.approx(min(1, 2 * min(ks, mann_whitney)), rel=1e-6)


def test_the_p_value_of_an_area_is_scipys() -> None:
    """Mann-Whitney, one-sided."""
    rng = np.random.default_rng(3)
    one, two = rng.normal(size=60), rng.normal(0.4, 1, size=80)
    test = stats.mannwhitneyu(two, one, alternative="greater", method="asymptotic", use_continuity=False)
    assert auc_p_value(test.statistic / 4800, 60, 80) == pytest.approx(test.pvalue, rel=1e-9)


def test_the_p_value_of_categories_is_scipys() -> None:
    """The chi-squared test of homogeneity."""
    table = np.array([[50.0, 30.0, 20.0, 9.0], [400.0, 310.0, 250.0, 40.0]])
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert chi_squared_p_value(table[0], table[1]) == pytest.approx(expected, rel=1e-12)
    assert chi_squared_p_value(table[0, :1], table[1, :1]) == 1.0


def test_deequs_chi_squared_is_scipys_with_the_baseline_as_truth() -> None:
    """Expected counts are scaled to the observed total; nothing is merged when no cell is small."""
    baseline, window = np.array([500.0, 300.0, 200.0]), np.array([40.0, 40.0, 20.0])
    expected = stats.chisquare(window, baseline / baseline.sum() * window.sum()).pvalue
    assert deequ_chi_squared(baseline, window) == pytest.approx(expected, rel=1e-9)


def test_deequs_chi_squared_merges_small_categories() -> None:
    """The smallest into the next smallest: a new category (expected 0) joins the rare one, and is not lost."""
    baseline, window = np.array([600.0, 300.0, 100.0, 0.0]), np.array([60.0, 30.0, 5.0, 25.0])
    merged = stats.chisquare([60, 30, 30], np.array([0.6, 0.3, 0.1]) * 120).pvalue
    assert deequ_chi_squared(baseline, window) == pytest.approx(merged, rel=1e-9)
    assert np.isnan(deequ_chi_squared(np.array([9.0, 1.0]), np.array([15.0, 5.0]))), "two cells, one expects 2 of 20"


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    """The adjusted p-values, with ties and ones."""
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), abs=1e-12)


# Rare categories and caps.


def category_pair(baseline: list[str], window: list[str]) -> Pair:
    evidence = compared({"c": texts(baseline)}, {"c": texts(window)})
    assert evidence.baseline
    return Pair("c", evidence.baseline.columns["c"], evidence.window.columns["c"])


def test_rare_categories_are_one_cell() -> None:
    """Hundreds of names that occur once say nothing each; the merged table keeps every row."""
    names = [f"id{n}" for n in range(300)]
    before, after = merged_counts(category_pair(names + ["a"] * 300, names[:100] + ["a"] * 100), Independence())
    assert before.tolist() == [300, 300]
    assert after.tolist() == [100, 100]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=300), st.lists(st.integers(0, 12), min_size=1, max_size=300))
def test_merging_keeps_rows_and_leaves_no_rare_cell(baseline: list[int], window: list[int]) -> None:
    """Every expected count is at least five, or there is a single cell."""
    before, after = merged_counts(category_pair([*map(str, baseline)], [*map(str, window)]), Independence())
    assert (before.sum(), after.sum()) == (len(baseline), len(window))
    table = np.stack((before, after))
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    assert table.shape[1] == 1 or expected.min() >= 5 - 1e-9


def test_identifiers_over_the_cap_of_categories_are_no_drift() -> None:
    """A column of ids has new values in every window; that is its nature."""
    rng = np.random.default_rng(4)
    before, after = (texts([f"id{n}" for n in rng.integers(0, 10**9, 8000)]) for _ in range(2))
    found = run(compared({"id": before}, {"id": after}), "drift")["id"]
    assert (found.outcome, found.value) == ("ok", 0.0)


def test_a_thousand_frequent_categories_over_the_cap_do_not_drift_by_being_capped() -> None:
    """2,000 categories of which 1,000 are kept roughly: what the cap took is no difference."""
    rng = np.random.default_rng(5)
    shares = 1 / np.arange(1, 2001)
    names = np.array([f"c{n}" for n in range(2000)], dtype=object)
    before, after = (names[rng.choice(2000, 20_000, p=shares / shares.sum())] for _ in range(2))
    assert run(compared({"c": before}, {"c": after}), "drift")["c"].outcome == "ok"


def test_a_category_that_takes_over_above_the_cap_is_found() -> None:
    """An id that is suddenly in a third of all rows."""
    rng = np.random.default_rng(6)
    before = texts([f"id{n}" for n in rng.integers(0, 10**9, 8000)])
    after = texts([f"id{n}" for n in rng.integers(0, 10**9, 4000)])
    before[:100] = after[:1400] = "bot"
    amounts = rng.normal(size=12_000)
    evidence = compared({"id": before, "amount": amounts[:8000]}, {"id": after, "amount": amounts[8000:]})
    found = run(evidence, "drift")["id"]
    assert (found.outcome, found.value) == ("violated", pytest.approx(0.34, abs=0.02))


# How many independent rows there are.


def gaussian(rows: int, *, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(rows, 3))


@pytest.mark.parametrize(("rows", "pool"), [(500, 100), (5_000, 200), (10_000, 2_000), (1_500, 1_500)])
def test_rows_drawn_with_replacement_are_worth_what_the_design_effect_says(rows: int, pool: int) -> None:
    """n^2 / sum m_i^2 from the true numbers of repetitions, estimated from a sample of 2,000 rows."""
    drawn = np.random.default_rng(pool).integers(0, pool, rows)
    window = profiled(numbered(gaussian(pool, seed=7)[drawn]))
    worth = independence(profiled(numbered(gaussian(1000, seed=8))), window)
    true = rows / float((np.bincount(drawn) ** 2).sum())
    assert worth.window == pytest.approx(true, rel=0.1)
    assert worth.baseline == 1.0


def test_different_rows_count_nearly_in_full() -> None:
    """What a sample cannot exclude costs a little; a sample that holds all rows costs nothing."""
    worth = independence(profiled(numbered(gaussian(2000, seed=9))), profiled(numbered(gaussian(20_000, seed=10))))
    assert worth.baseline == 1.0
    assert 0.95 < worth.window < 1.0


def test_simple_rows_are_alike_by_chance_and_count_in_full() -> None:
    """Two coins make four kinds of rows: that rows are alike is no repetition, before and after a shift."""
    rng = np.random.default_rng(11)
    coins = profiled({name: (rng.random(1000) < 0.5).astype(float) for name in "ab"})
    shifted = profiled({"a": np.ones(1000), "b": (rng.random(1000) < 0.5).astype(float)})
    assert independence(coins, coins) == independence(coins, shifted) == Independence(1.0, 1.0)


def test_rows_that_are_alike_by_chance_on_both_sides_are_no_repetition() -> None:
    """Four hundred kinds of rows: 10,000 rows repeat them 25 times each, and are still 10,000 observations."""
    rng = np.random.default_rng(20)
    kinds = [profiled(numbered(rng.integers(0, 20, size=(10_000, 2)).astype(float))) for _ in range(2)]
    worth = independence(*kinds)
    assert min(worth.baseline, worth.window) > 0.4
    fresh = numbered(rng.normal(size=(10_000, 2)))
    assert independence(profiled(fresh), kinds[1]).window < 0.05, "against rows that are all different they do repeat"


def test_a_feed_stuck_on_one_row_is_drift() -> None:
    """However often it comes it is one row; but that is exactly what someone should look at."""
    rng = np.random.default_rng(12)
    baseline = numbered(rng.normal(size=(1000, 5)))
    stuck = numbered(np.repeat(rng.normal(size=(1, 5)), 500, axis=0))
    assert any(result.outcome == "violated" for result in results(compared(baseline, stuck), "drift"))


# Level and power, shortened; loadtests/detectors.py has the whole study.


@pytest.mark.parametrize("baseline_rows", [400, 10_000])
@pytest.mark.parametrize("population", [*POPULATIONS, "resampled"])
def test_windows_without_drift_stay_quiet(population: str, baseline_rows: int) -> None:
    """Any alarm in at most 1 % of windows of 30 columns, also when rows repeat."""
    found = false_alarms(population, baseline_rows=baseline_rows, windows=60, seed=1)
    assert found["alarms"] <= found["test_alone"] <= EXPECTED_ALARMS


def test_without_counting_independent_rows_resampled_windows_would_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of repeated rows is what holds the level: taken away, more than a tenth of windows alarm."""
    monkeypatch.setattr(drift, "independence", lambda baseline, window: Independence())
    assert false_alarms("resampled", baseline_rows=10_000, windows=60, seed=1)["alarms"] > 6


def test_a_quarter_of_a_standard_deviation_in_one_column_of_thirty_is_found() -> None:
    """At 10,000 rows in window and baseline: every time, here."""
    found = power(shift=0.25, rows=10_000, baseline_rows=10_000, windows=40)
    assert found["found"] == 40


def test_certainty_alone_is_no_alarm() -> None:
    """A shift of 0.05 standard deviations in 60,000 rows is certain and of no importance."""
    rng = np.random.default_rng(13)
    found = run(compared({"x": rng.normal(size=60_000)}, {"x": rng.normal(0.05, 1, 60_000)}), "drift")["x"]
    assert found.p_value is not None
    assert found.p_value < 1e-6
    assert found.outcome == "ok"


def test_size_alone_is_no_alarm() -> None:
    """Twenty-five rows lie far from the baseline by chance."""
    rng = np.random.default_rng(14)
    found = run(compared({"x": rng.normal(size=1000)}, {"x": rng.normal(0.2, 1, 25)}), "drift")["x"]
    assert found.value is not None
    assert found.value > 0.1
    assert found.outcome == "ok"


def test_the_size_of_the_baseline_counts() -> None:
    """The same change of the same window is certain against many rows and not against thirty."""
    window = {"x": stats.norm.ppf((np.arange(2000) + 0.5) / 2000) + 0.4}
    large, small = ({"x": stats.norm.ppf((np.arange(n) + 0.5) / n)} for n in (2000, 30))
    assert run(compared(large, window), "drift")["x"].outcome == "violated"
    assert run(compared(small, window), "drift")["x"].outcome == "ok"


def test_the_rank_error_of_sketches_is_taken_off() -> None:
    """With millions of rows the error of the sketch exceeds that of the sample; alone it must not look certain."""
    rng = np.random.default_rng(15)
    moved = displacement(sketch(rng.normal(size=400_000)), sketch(rng.normal(size=400_000)), scale=1.0)
    assert moved.rank_error > 0
    assert displacement_p_value(moved, 1e9, 1e9) > 1e-3, "as if each stood for a billion rows"


def test_every_column_counts_in_the_correction() -> None:
    """The same change is less certain among a hundred columns than alone."""
    rng = np.random.default_rng(16)
    before, after = rng.normal(size=(500, 100)), rng.normal(size=(500, 100))
    after[:, 0] += 0.25
    alone = run(compared({"f0": before[:, 0]}, {"f0": after[:, 0]}), "drift")["f0"]
    among = run(compared(numbered(before), numbered(after)), "drift")["f0"]
    assert alone.p_value is not None
    assert among.p_value == pytest.approx(min(1.0, 100 * alone.p_value), rel=0.2)


def test_predictions_are_columns_like_any_other() -> None:
    """Prediction drift is part of the same family."""
    rng = np.random.default_rng(17)
    before = {"x": rng.normal(size=800), "prediction": texts(["no", "yes"])[rng.integers(0, 2, 800)]}
    after = {"x": rng.normal(size=800), "prediction": texts(["yes"] * 800)}
    found = run(compared(before, after), "drift")
    assert (found["x"].outcome, found["prediction"].outcome) == ("ok", "violated")
    assert found["prediction"].value == pytest.approx(0.5, abs=0.05)


def test_a_constant_that_moves_is_drift_and_one_that_stays_is_not() -> None:
    """There is no standard deviation to measure by: the share of values that moved counts."""
    before = {"x": np.full(500, 3.0), "y": np.full(500, 3.0)}
    found = run(compared(before, {"x": np.full(300, 3.0), "y": np.full(300, 3.001)}), "drift")
    assert (found["x"].outcome, found["x"].value) == ("ok", 0.0)
    assert (found["y"].outcome, found["y"].value) == ("violated", 1.0)


def test_missing_and_infinite_values_are_left_to_data_quality() -> None:
    """Finite values are compared; a column without any is skipped with the reason."""
    rng = np.random.default_rng(18)
    before = {"x": rng.normal(size=500), "y": rng.normal(size=500)}
    after = {"x": np.concatenate((rng.normal(size=300), [np.nan, np.inf, -np.inf] * 50)), "y": np.full(450, np.nan)}
    found = run(compared(before, after), "drift")
    assert found["x"].outcome == "ok"
    assert found["y"].description == "The window has 0 values to compare here; 20 are needed."


def test_a_column_that_the_baseline_does_not_have_is_named() -> None:
    """Skipped, not left out; a hostile caller's thousand columns are bounded."""
    rng = np.random.default_rng(19)
    window = {f"new{n}": rng.normal(size=50) for n in range(500)} | {"x": rng.normal(size=50)}
    found = run(compared({"x": rng.normal(size=50)}, window), "drift")
    assert found["new0"].description == "The baseline has no such column."
    assert len(found) == 101


def test_a_huge_score_stays_a_number() -> None:
    """A baseline that hardly varies and a window far away."""
    baseline = {"x": np.where(np.arange(100) % 2, 1.0, np.nextafter(1.0, 2.0))}
    found = run(compared(baseline, {"x": np.full(100, 1e300)}), "drift")["x"]
    assert (found.outcome, found.value) == ("violated", 1e12)


def test_a_window_that_was_stored_gives_the_same_answer() -> None:
    """Profiles travel as bytes between folding and evaluation."""
    evidence = next(null_windows("discrete", baseline_rows=400, windows=1))
    assert evidence.baseline
    stored = Evidence(Profile.from_bytes(evidence.window.to_bytes()), Profile.from_bytes(evidence.baseline.to_bytes()))
    check = make_check(CheckSettings("drift"))
    assert check.evaluate(stored) == check.evaluate(evidence)
    assert Layout.of(evidence.baseline) == evidence.window.layout
    assert significance.independence(evidence.baseline, evidence.window).window > 0
