"""Checks of one distance with a fixed threshold, against SciPy and Evidently on the same data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from tests.unit.checks_tables import Table, compared, profiled, run, texts

from vedette.core.models import Signature, TensorSpec
from vedette.entities.monitors import PROFILE_FILE
from vedette.monitor.evidence import Evidence
from vedette.monitor.reference_data.baseline import build
from vedette.monitor.reference_data.datasets import open_dataset
from vedette.profiles import Layout, Profile


def tables(rows: int = 1500) -> tuple[Table, Table]:
    """A baseline, and a window in which all columns have moved and a category is new."""
    rng = np.random.default_rng(rows)
    before = {"x": rng.normal(size=rows), "c": texts(list("abc"))[rng.choice(3, rows, p=[0.5, 0.3, 0.2])]}
    after = {
        "x": rng.normal(0.5, 1.2, size=rows),
        "c": texts(list("abcd"))[rng.choice(4, rows, p=[0.3, 0.3, 0.2, 0.2])],
    }
    return before, after


BEFORE, AFTER = tables()
CATEGORIES = np.array([[np.sum(table["c"] == name) / 1500 for name in "abcd"] for table in (BEFORE, AFTER)])


def bins() -> np.ndarray:
    """Shares of both over the layout's bins and beyond them, by numpy."""
    edges = np.array([-math.inf, *Layout.of(profiled(BEFORE)).columns["x"].edges, math.inf])
    edges[-2] = np.nextafter(edges[-2], math.inf)  # the last bin holds its upper edge
    return np.array([np.histogram(table["x"], edges)[0] / 1500 for table in (BEFORE, AFTER)])


def index_of(p: np.ndarray, q: np.ndarray) -> float:
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    return float(np.sum((q - p) * np.log(q / p)))


EXPECTED = {
    ("ks", "x"): stats.ks_2samp(BEFORE["x"], AFTER["x"]).statistic,
    ("wasserstein", "x"): stats.wasserstein_distance(BEFORE["x"], AFTER["x"]) / np.std(BEFORE["x"]),
    ("psi", "x"): index_of(*bins()),
    ("psi", "c"): index_of(*CATEGORIES),
    ("jensen_shannon", "x"): jensenshannon(*bins(), base=2),
    ("jensen_shannon", "c"): jensenshannon(*CATEGORIES, base=2),
    ("hellinger", "x"): math.sqrt(1 - np.sqrt(bins()[0] * bins()[1]).sum()),
    ("hellinger", "c"): math.sqrt(1 - np.sqrt(CATEGORIES[0] * CATEGORIES[1]).sum()),
    ("tvd", "c"): np.abs(CATEGORIES[0] - CATEGORIES[1]).sum() / 2,
    ("l_infinity", "c"): np.abs(CATEGORIES[0] - CATEGORIES[1]).max(),
    ("sagemaker", "c"): np.abs(CATEGORIES[0] - CATEGORIES[1]).max() - 1.8 * math.sqrt(3000 / 1500**2),
}


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """Both tables as the monitor sees them."""
    return compared(BEFORE, AFTER)


@pytest.mark.parametrize(("check", "feature"), EXPECTED)
def test_the_distance_is_the_one_of_the_books(evidence: Evidence, check: str, feature: str) -> None:
    """SciPy's value, or the formula over numpy's histogram, to nine digits."""
    found = run(evidence, check)[feature]
    assert found.value == pytest.approx(EXPECTED[check, feature], rel=1e-9)
    assert found.outcome == "violated"
    assert f"{found.value:.4g} exceeds {found.threshold:.4g}" in found.description


@pytest.mark.parametrize(("check", "feature"), EXPECTED)
def test_the_threshold_is_where_the_violation_begins(evidence: Evidence, check: str, feature: str) -> None:
    """Above it, not at it."""
    value = run(evidence, check)[feature].value
    assert value is not None
    assert run(evidence, check, threshold=value)[feature].outcome == "ok"
    assert run(evidence, check, threshold=value * 0.999)[feature].outcome == "violated"


@pytest.mark.parametrize(("check", "feature"), EXPECTED)
def test_the_same_data_is_at_distance_zero(check: str, feature: str) -> None:
    """And ok."""
    found = run(compared(BEFORE, BEFORE), check)[feature]
    assert found.value == pytest.approx(0, abs=1e-7)
    assert found.outcome == "ok"


def test_sagemakers_methods(evidence: Evidence) -> None:
    """Simple is the KS distance; Robust takes off what samples of these sizes may differ by."""
    simple, robust = (run(evidence, "sagemaker", method=method)["x"].value for method in ("Simple", "Robust"))
    assert simple == pytest.approx(EXPECTED["ks", "x"], abs=1e-12)
    assert robust == pytest.approx(EXPECTED["ks", "x"] - 1.8 * math.sqrt(3000 / 1500**2), abs=1e-12)


def test_chi_squared_is_deequs(evidence: Evidence) -> None:
    """A p-value: below the threshold is a violation; without a change it is not."""
    assert run(evidence, "chi_squared")["c"].outcome == "violated"
    _, other = tables(1501)
    before, after = ({"c": other["c"][half]} for half in (slice(0, 700), slice(700, 1501)))
    found = run(compared(before, after), "chi_squared")["c"]
    counts = np.array([[np.sum(table["c"] == name) for name in "abcd"] for table in (before, after)])
    expected = stats.chisquare(counts[1], counts[0] / 700 * 801).pvalue
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_a_check_of_one_kind_says_nothing_of_the_other(evidence: Evidence) -> None:
    """Unless there is nothing of its kind at all: then it says that."""
    assert set(run(evidence, "ks")) == {"x"}
    assert set(run(evidence, "tvd")) == {"c"}
    only = compared({"x": BEFORE["x"]}, {"x": AFTER["x"]})
    assert run(only, "tvd")[""].description == "The baseline has no column of kind text."


def test_distances_are_evidentlys(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same frames through Evidently's own metrics. It takes Jensen-Shannon in nats, and its numeric histograms
    have edges from both samples, so those are not compared."""
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        definition = DataDefinition(numerical_columns=["x"], categorical_columns=["c"])
        before, after = (Dataset.from_pandas(pd.DataFrame(dict(table)), definition) for table in (BEFORE, AFTER))
        methods = [("x", "wasserstein"), ("c", "psi"), ("c", "jensenshannon"), ("c", "hellinger")]
        report = Report([ValueDrift(column=column, method=method) for column, method in methods])
        theirs = [float(metric["value"]) for metric in report.run(after, before).dict()["metrics"]]
    ours = [
        run(evidence, check)[f].value for f, check in zip("xccc", ("wasserstein", "psi", "jensen_shannon", "hellinger"))
    ]
    assert ours[2] is not None
    ours[2] *= math.sqrt(math.log(2))
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_a_column_in_steps_does_not_drift_by_travelling_in_32_bits(tmp_path: Path) -> None:
    """A file says 0.1, the tensor 0.100000001: the baseline has the digits that arrive at the model."""
    rng = np.random.default_rng(7)
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["step", *(f"{n / 10}" for n in rng.integers(0, 10, 2000).tolist())]) + "\n")
    spec = TensorSpec("x", "FP32", (-1, 1))
    signature = Signature((spec,), (TensorSpec("y", "FP32", (-1, 1)),), feature_names=("step",))
    baseline = Profile.from_bytes(build(open_dataset(path, "csv"), signature).files[PROFILE_FILE])
    window = Profile(Layout.of(baseline))
    window.fold({"step": (rng.integers(0, 10, 2000) / 10).astype(np.float32)})
    for check in ("ks", "psi", "sagemaker"):
        found = run(Evidence(window, baseline), check)["step"]
        assert found.outcome == "ok", found.description
