"""statistics.json against pandas and numpy on the same data: every figure, however the data is cut into chunks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer

from vedette.core.tensors import Array
from vedette.monitor.reference_data.statistics import BucketCounts, bucket_edges, counted, statistics_document
from vedette.profiles import ColumnLayout, Columns, Layout, Profile


def objects(values: Any) -> Array:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def mixed_frame(rows: int = 5_000) -> pd.DataFrame:
    """Numbers of several sizes with missing ones, a constant, integers, texts."""
    rng = np.random.default_rng(11)
    frame = pd.DataFrame(
        {
            "normal": rng.normal(size=rows),
            "skewed": rng.lognormal(3.0, 2.0, rows),
            "whole": rng.integers(-5, 50, rows).astype(float),
            "constant": np.full(rows, 7.25),
            "tiny": rng.normal(size=rows) * 1e-100,
            "colour": rng.choice(["red", "blue", "grün"], rows).astype(object),
        }
    )
    for column, share in (("normal", 0.1), ("colour", 0.2)):
        frame.loc[rng.random(rows) < share, column] = None
    return frame


def columns_of(frame: pd.DataFrame) -> Columns:
    return {
        name: objects([None if v is None or v != v else v for v in frame[name]])
        if frame[name].dtype == object
        else frame[name].to_numpy()
        for name in frame
    }


def document(columns: Columns, cuts: tuple[int, ...] = ()) -> tuple[dict[str, Any], Profile]:
    """The document in two passes over these chunks."""
    rows = len(next(iter(columns.values())))
    edges = [0, *sorted(cuts), rows]
    chunks = [{n: v[a:b] for n, v in columns.items()} for a, b in pairwise(edges) if b > a]
    profile = Profile()
    for chunk in chunks:
        profile.fold(chunk)
    buckets = BucketCounts(profile)
    for chunk in chunks:
        buckets.fold(chunk)
    return statistics_document(profile, buckets.counts), profile


def pandas_buckets(values: pd.Series) -> list[int]:
    """Ten intervals of equal width, closed on the left, the last one on both sides."""
    low, high = values.min(), values.max()
    edges = low + (high - low) * np.arange(11) / 10
    edges[-1] = high
    counts = [int(((values >= a) & (values < b)).sum()) for a, b in pairwise(edges)]
    counts[-1] += int((values == high).sum())
    return counts


def check(feature: dict[str, Any], values: pd.Series) -> None:
    """Compare one feature of the document with pandas."""
    present = values.dropna()
    kind = "string_statistics" if values.dtype == object else "numerical_statistics"
    assert set(feature) == {"name", "inferred_type", kind}
    figures = feature[kind]
    assert figures["common"] == {"num_present": len(present), "num_missing": int(values.isna().sum())}
    if kind == "string_statistics":
        counts = present.value_counts()
        assert feature["inferred_type"] == "String"
        assert figures["distinct_count"] == present.nunique()
        buckets = figures["distribution"]["categorical"]["buckets"]
        assert {b["value"]: b["count"] for b in buckets} == counts.to_dict()
        assert [b["count"] for b in buckets] == sorted(counts, reverse=True)
        return
    assert feature["inferred_type"] == ("Integral" if (present == present.round()).all() else "Fractional")
    expected = [present.mean(), present.sum(), present.std(ddof=0), present.min(), present.max()]
    np.testing.assert_allclose([figures[n] for n in ("mean", "sum", "std_dev", "min", "max")], expected, rtol=1e-9)
    kll = figures["distribution"]["kll"]
    assert len(kll["buckets"]) == 10
    assert (kll["buckets"][0]["lower_bound"], kll["buckets"][-1]["upper_bound"]) == (present.min(), present.max())
    assert all(a["upper_bound"] == b["lower_bound"] for a, b in pairwise(kll["buckets"]))
    widths = np.array([b["upper_bound"] - b["lower_bound"] for b in kll["buckets"]])
    np.testing.assert_allclose(widths, np.full(10, (present.max() - present.min()) / 10), rtol=1e-9)
    assert all(isinstance(b["count"], float) for b in kll["buckets"])
    assert sum(b["count"] for b in kll["buckets"]) == len(present)
    assert kll["sketch"]["parameters"] == {"c": 0.64, "k": 2048.0}
    check_sketch(kll["sketch"]["data"], present.to_numpy())


def check_sketch(levels: list[list[float]], values: Array) -> None:
    """Weights add up; every item is a value; small data is one level with all of it; ranks are close."""
    weights = np.concatenate([np.full(len(level), 2.0**h) for h, level in enumerate(levels)])
    items = np.concatenate([np.array(level) for level in levels])
    assert weights.sum() == len(values)
    assert np.isin(items, values).all()
    if len(values) <= 2_000:
        assert len(levels) == 1
        assert levels[0] == sorted(values.tolist())
    for share in (0.1, 0.5, 0.9):
        point = np.quantile(values, share)
        assert abs(weights[items <= point].sum() / len(values) - (values <= point).mean()) < 0.005


def test_every_figure_of_the_breast_cancer_data() -> None:
    """569 rows of 30 numbers, recomputed by pandas."""
    frame = load_breast_cancer(as_frame=True).data
    made, _ = document(columns_of(frame), cuts=(100, 101, 400))
    assert (made["version"], made["dataset"]) == (0.0, {"item_count": 569})
    assert [feature["name"] for feature in made["features"]] == list(frame.columns)
    for feature in made["features"]:
        check(feature, frame[feature["name"]])
        kll = feature["numerical_statistics"]["distribution"]["kll"]
        assert [b["count"] for b in kll["buckets"]] == pandas_buckets(frame[feature["name"]])


def test_every_figure_of_a_mixed_table() -> None:
    """Missing values, constants, tiny numbers, texts; more rows than a sketch holds."""
    frame = mixed_frame()
    made, _ = document(columns_of(frame), cuts=(1, 2_500))
    for feature in made["features"]:
        check(feature, frame[feature["name"]])
        if feature["name"] != "colour":
            buckets = feature["numerical_statistics"]["distribution"]["kll"]["buckets"]
            edges = np.array([b["lower_bound"] for b in buckets] + [buckets[-1]["upper_bound"]])
            if feature["name"] != "constant":
                expected = np.histogram(frame[feature["name"]].dropna(), edges)[0]
                assert [b["count"] for b in buckets] == expected.tolist()


def test_a_constant_column_is_in_the_last_bucket() -> None:
    """All ten have no width; the last one is the closed one."""
    made, _ = document({"c": np.full(5, 2.0)})
    buckets = made["features"][0]["numerical_statistics"]["distribution"]["kll"]["buckets"]
    assert buckets == [{"lower_bound": 2.0, "upper_bound": 2.0, "count": c} for c in (*[0.0] * 9, 5.0)]


def test_columns_without_numbers() -> None:
    """Counts, and nothing that JSON cannot say."""
    made, _ = document({"n": np.array([np.nan, np.nan]), "t": objects([None, None]), "i": np.array([np.inf, np.nan])})
    assert made["features"] == [
        {
            "name": "n",
            "inferred_type": "Unknown",
            "numerical_statistics": {"common": {"num_present": 0, "num_missing": 2}},
        },
        {
            "name": "t",
            "inferred_type": "Unknown",
            "string_statistics": {
                "common": {"num_present": 0, "num_missing": 2},
                "distinct_count": 0.0,
                "distribution": {"categorical": {"buckets": []}},
            },
        },
        {
            "name": "i",
            "inferred_type": "Fractional",
            "numerical_statistics": {"common": {"num_present": 1, "num_missing": 1}},
        },
    ]


def test_figures_beyond_float64_are_left_out() -> None:
    """A sum of huge values is no JSON number; the rest stays."""
    made, _ = document({"h": np.array([1.7e308, 1.7e308, -1.7e308, 1.7e308])})
    figures = made["features"][0]["numerical_statistics"]
    assert "sum" not in figures
    assert figures["max"] == 1.7e308
    assert sum(b["count"] for b in figures["distribution"]["kll"]["buckets"]) == 4


def test_numbers_among_texts_are_in_their_buckets() -> None:
    """A numeric column of which some values are no numbers."""
    values = objects(["1", "x", "2.5", None, "11", "inf"])
    profile = Profile(Layout({"n": ColumnLayout("numeric")}))
    profile.fold({"n": values})
    buckets = BucketCounts(profile)
    buckets.fold({"n": values})
    assert buckets.counts["n"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]


def test_without_a_second_pass_the_sketch_counts() -> None:
    """As of a window: the same while the sketch holds every value, close to it afterwards."""
    rng = np.random.default_rng(2)
    for rows, tolerance in ((1_000, 0.0), (100_000, 0.005)):
        values = rng.normal(size=rows)
        exact, profile = document({"n": values})
        read = statistics_document(profile)

        def counts(made: dict[str, Any]) -> Any:
            buckets = made["features"][0]["numerical_statistics"]["distribution"]["kll"]["buckets"]
            return np.array([bucket["count"] for bucket in buckets])

        assert np.abs(counts(exact) - counts(read)).max() <= tolerance * rows


numbers = st.one_of(st.floats(allow_nan=True, allow_infinity=True, width=32), st.integers(-3, 3).map(float))


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_chunks_do_not_change_the_document(values: list[float], cuts: list[int]) -> None:
    """Wherever the rows are cut, every exact figure is the same to the last bit."""
    columns: Columns = {
        "n": np.array(values),
        "t": objects([None if v != v else str(int(v)) if abs(v) < 10 else "far" for v in values]),
    }
    whole, _ = document(columns)
    cut, _ = document(columns, tuple(min(c, len(values)) for c in cuts))
    assert cut == whole


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.7e308, 1.7e308), (1e-320, 3e-320), (5.0, 5.0), (-3.0, 0.1)])
def test_edges_go_from_the_smallest_to_the_largest(low: float, high: float) -> None:
    """Ascending and finite, also where the width itself leaves float64; every value is in a bucket."""
    values = np.sort(np.array([low, high, low / 2 + high / 2]))
    profile = Profile()
    profile.fold({"n": values})
    edges = bucket_edges(profile.columns["n"])
    assert (edges[0], edges[-1]) == (low, high)
    assert (np.diff(edges) >= 0).all()
    assert counted(values, edges).sum() == 3
