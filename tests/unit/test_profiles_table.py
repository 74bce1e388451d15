"""Profiles of whole tables: merged equals whole, nothing in live data raises, layouts make windows comparable."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.core.errors import InvalidArgument
from vedette.profiles import ColumnLayout, ColumnProfile, Distinct, Layout, Profile
from vedette.profiles.hashing import mixed
from vedette.profiles.profile import MAX_UNKNOWN, OTHER_COLUMNS

Table = dict[str, np.ndarray]


def texts(values: list[Any]) -> np.ndarray:
    """A text column."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Up to 40 rows of a number, a whole number and a text, with everything that floats can be."""
    rows = draw(st.integers(0, 40))
    number = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf])
    text = st.none() | st.sampled_from(["red", "green", "1", "2.5", "true"]) | st.text(max_size=3)
    return {
        "x": np.array(draw(st.lists(number, min_size=rows, max_size=rows)), dtype=np.float64),
        "n": np.array(draw(st.lists(st.integers(-9, 9), min_size=rows, max_size=rows)), dtype=np.int64),
        "t": texts(draw(st.lists(text, min_size=rows, max_size=rows))),
    }


def keys(prefix: str, table: Mapping[str, np.ndarray]) -> list[str]:
    """A key for each row."""
    return [f"{prefix}{row}" for row in range(len(next(iter(table.values()))))]


def profiled(layout: Layout | None, *parts: tuple[str, Table], sample_rows: int = 9) -> Profile:
    """One profile of some tables, each with a prefix for its keys."""
    profile = Profile(layout, sample_rows=sample_rows)
    for place, (prefix, table) in enumerate(parts):
        profile.fold(table, keys(prefix, table))
        if place % 2:
            _ = profile.columns  # some tables are gathered, some summarised on their own
    return profile


def facts(profile: Profile) -> Any:
    """Everything that must be the same to the bit: all but the sketch, whose draws are its own."""
    return (
        profile.rows,
        profile.unknown_columns,
        {name: column_facts(column) for name, column in sorted(profile.columns.items())},
        profile.sample.hashes.tolist(),
        {name: repr(values.tolist()) for name, values in sorted(profile.sample.columns().items())},
    )


def column_facts(column: ColumnProfile) -> Any:
    """The exact parts of one column."""
    bins = column.bins
    return (
        column.layout,
        (column.rows, column.missing, column.infinite, column.types),
        repr(column.moments),
        (bins.counts.tolist(), bins.below, bins.above),
        (column.categories.counts, column.categories.other),
        column.distinct.registers.tobytes(),
        [points.tolist() for points in column.quantiles.points()],  # exact while small
    )


def registers_of(values: set[float]) -> list[int]:
    """What the distinct count of these values holds."""
    distinct = Distinct()
    distinct.fold(mixed(np.array(sorted(values), dtype=np.float64).view(np.uint64)))
    return distinct.registers.tolist()


LAYOUT = Layout.of(
    profiled(None, ("b", {"x": np.linspace(-2, 2, 99), "n": np.arange(99) % 7, "t": texts(["red", "blue", None] * 33)}))
)


@pytest.mark.parametrize("layout", [None, LAYOUT])
@settings(deadline=None, max_examples=60)
@given(a=tables(), b=tables(), c=tables())
def test_merged_is_whole_in_any_order(layout: Layout | None, a: Table, b: Table, c: Table) -> None:
    """Associative, commutative, and equal to one fold: counts, moments, bins, categories, distinct, sample."""
    x, y, z = (profiled(layout, part) for part in (("a", a), ("b", b), ("c", c)))
    whole = facts(profiled(layout, ("a", a), ("b", b), ("c", c)))
    assert facts(x.merge(y).merge(z)) == whole
    assert facts(z.merge(y.merge(x))) == whole
    assert facts(profiled(layout, ("c", c), ("a", a), ("b", b))) == whole
    assert facts(Profile.from_bytes(x.merge(z).merge(y).to_bytes())) == whole


@settings(deadline=None, max_examples=60)
@given(tables())
def test_a_column_says_what_numpy_and_counting_say(table: Table) -> None:
    """Against plain definitions."""
    profile = profiled(LAYOUT, ("", table))
    x, t = table["x"], table["t"].tolist()
    finite = x[np.isfinite(x)]
    column = profile.columns["x"]
    assert (column.rows, column.missing) == (len(x), int(np.isnan(x).sum()))
    assert column.infinite == int(np.isinf(x).sum())
    assert column.moments.count == column.quantiles.count == column.bins.total == len(finite)
    edges = column.bins.edges
    assert column.bins.counts.tolist() == np.histogram(finite, edges)[0].tolist()
    assert (column.bins.below, column.bins.above) == (int((finite < edges[0]).sum()), int((finite > edges[-1]).sum()))
    assert column.distinct.registers.tolist() == registers_of(set((finite + 0.0).tolist()))
    whole = sum(float(value).is_integer() for value in finite)
    assert (column.types["Integral"], column.types["Unknown"]) == (whole, column.missing)
    text = profile.columns["t"]
    assert text.categories.counts == Counter(value for value in t if value is not None)
    assert sum(text.types.values()) == len(t) == text.present + t.count(None)
    assert profile.columns["n"].types["Integral"] == len(t)


def test_folding_writes_nothing_into_its_input() -> None:
    """Columns may be views of messages."""
    table = {"x": np.array([3.0, -0.0, math.nan, 1.0]), "t": texts(["b", None, "a", "x" * 999])}
    before = repr(table)
    for column in table.values():
        column.flags.writeable = False
    profile = Profile()
    profile.fold(table)
    profile.to_bytes()
    assert repr(table) == before


def test_small_tables_are_taken_before_their_arrays_are_reused() -> None:
    """A caller may fill its buffer anew as soon as `fold` has returned."""
    buffer = np.ones(4)
    profile = Profile()
    for value in (1.0, 2.0, 3.0):
        buffer[:] = value
        profile.fold({"x": buffer})
    assert profile.columns["x"].moments.sum == 24.0


def test_small_tables_of_other_types_and_columns_are_kept_apart() -> None:
    """Gathering them must not turn whole numbers into fractions, nor mix up columns."""
    profile = Profile()
    profile.fold({"x": np.array([1, 2])})
    profile.fold({"x": np.array([0.5])})
    profile.fold({"x": np.array([True]), "y": np.array([3])})
    profile.fold({"y": np.array([4]), "x": np.array([5])})
    x, y = profile.columns["x"], profile.columns["y"]
    assert x.types == {"Integral": 3, "Fractional": 1, "String": 0, "Boolean": 1, "Unknown": 0}
    assert (x.moments.sum, y.moments.sum, x.rows, y.rows) == (9.5, 7.0, 5, 2)


def test_what_waits_is_bounded() -> None:
    """A megabyte of small tables, texts by their length: no more is held back."""
    profile = Profile()
    for _ in range(300):
        profile.fold({"t": texts(["x" * 30_000])})
        assert profile._pending_cells <= 1 << 17
        assert sum(len(table["t"][0]) for table, _ in profile._pending) <= 2 << 20
    for _ in range(300):
        profile.fold({"x": np.ones(1_000)})
        assert sum(table["x"].nbytes for table, _ in profile._pending) <= 1 << 20
    assert (profile.columns["t"].rows, profile.columns["x"].rows) == (300, 300_000)


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f4", ">f8", ">i4"])
def test_every_numeric_type_is_read(dtype: str) -> None:
    """By value, whatever the width and byte order."""
    profile = Profile()
    profile.fold({"x": np.array([0, 1, 1], dtype=dtype)})
    column = profile.columns["x"]
    expected = "Boolean" if dtype == "?" else "Integral"
    assert (column.kind, column.moments.sum, column.types[expected]) == ("numeric", 2.0, 3)


def test_columns_the_baseline_does_not_know_are_counted() -> None:
    """Under their names, up to a bound; the rest under one."""
    profile = Profile(LAYOUT)
    profile.fold({"x": np.ones(3), "y" * 10_000: np.ones(3), **{f"z{n}": np.ones(3) for n in range(5)}})
    assert set(profile.columns) == {"x", "n", "t"}
    assert len(profile.unknown_columns) == 6
    assert set(profile.unknown_columns.values()) == {3}
    assert max(map(len, profile.unknown_columns)) == 200
    profile.fold({f"w{n}": np.ones(2) for n in range(2_000)})
    assert len(profile.unknown_columns) == MAX_UNKNOWN + 1
    assert sum(profile.unknown_columns.values()) == 3 * 6 + 2 * 2_000
    assert profile.unknown_columns[OTHER_COLUMNS] == 2 * (2_000 - (MAX_UNKNOWN - 6))


def test_a_column_that_is_absent_has_fewer_rows() -> None:
    """Rows of the table, rows of the column: the difference was absent."""
    profile = Profile(LAYOUT)
    profile.fold({"x": np.ones(5)})
    assert (profile.rows, profile.columns["x"].rows, profile.columns["t"].rows) == (5, 5, 0)


def test_texts_in_a_numeric_column_count_by_their_own_type() -> None:
    """What parses joins the numbers; nothing raises."""
    profile = Profile(LAYOUT)
    profile.fold({"x": texts(["1", "0.5", "abc", None, "true", "9" * 400, "-0"])})
    column = profile.columns["x"]
    assert column.types == {"Integral": 3, "Fractional": 1, "String": 1, "Boolean": 1, "Unknown": 1}
    assert (column.moments.count, column.moments.sum, column.infinite) == (3, 1.5, 1)
    values = sorted(profile.sample.columns()["x"].tolist())
    assert len(values) == 7


def test_numbers_in_a_text_column_count_as_written() -> None:
    """Whole floats without a point; long integers with all of their digits."""
    profile = Profile(LAYOUT)
    profile.fold({"t": np.array([2.0, 2.5, math.nan, math.inf, 2.0])})
    profile.fold({"t": np.array([2**63 - 1, 2], dtype=np.int64)})
    profile.fold({"t": np.array([True])})
    column = profile.columns["t"]
    assert column.categories.counts == {"2": 3, "2.5": 1, "9223372036854775807": 1, "True": 1, "inf": 1}
    assert column.types == {"Integral": 4, "Fractional": 2, "String": 0, "Boolean": 1, "Unknown": 1}
    assert profile.columns["t"].missing == 1


@pytest.mark.parametrize(
    "values",
    [
        texts([[1], {"a": 1}, object, b"\xff", 3 + 4j]),
        np.array(["2020-01-01"] * 5, dtype="M8[D]"),
        np.array([1j] * 5),
        np.array(["a"] * 5, dtype="U5"),
        np.array([b"a"] * 5, dtype="S5"),
        texts(["x" * 10_000_000, "\ud800", "\0", "", None]),
    ],
)
@pytest.mark.parametrize("name", ["x", "t"])
def test_nothing_in_live_data_raises(values: np.ndarray, name: str) -> None:
    """Columns of any type, texts of any length; the profile stays small and can be written."""
    profile = Profile(LAYOUT)
    profile.fold({name: values})
    profile.fold({name: np.ones(2)})
    assert sum(profile.columns[name].types.values()) == 7
    assert len(Profile.from_bytes(profile.to_bytes()).to_bytes()) < 20_000


def test_a_million_categories_cost_bounded_memory() -> None:
    """In the profile and in its bytes."""
    profile = Profile(LAYOUT, sample_rows=100)
    for start in range(0, 1_000_000, 100_000):
        profile.fold({"t": texts([f"{n:x}" for n in range(start, start + 100_000)])})
    column = profile.columns["t"]
    assert len(column.categories.fresh) <= 1_000
    assert column.categories.total == 1_000_000
    assert column.distinct.estimate == pytest.approx(1_000_000, rel=0.065)
    assert len(profile.to_bytes()) < 60_000


def test_lengths_that_differ_are_refused_before_anything_is_counted() -> None:
    """A table that is none leaves the profile as it was."""
    profile = Profile()
    for table, names in (
        ({"x": np.ones(2), "y": np.ones(3)}, None),
        ({"x": np.ones(2)}, ["a"]),
        ({"x": np.ones((2, 2))}, None),
    ):
        with pytest.raises(InvalidArgument):
            profile.fold(table, names)
    assert (profile.rows, profile.columns) == (0, {})


def test_profiles_of_different_layouts_are_not_merged() -> None:
    """Nor a column of numbers with one of texts."""
    with pytest.raises(InvalidArgument):
        Profile(LAYOUT).merge(Profile())
    numbers, words = Profile(), Profile()
    numbers.fold({"x": np.ones(1)})
    words.fold({"x": texts(["a"])})
    with pytest.raises(InvalidArgument):
        numbers.merge(words)


def test_a_column_without_a_value_has_no_kind_of_its_own() -> None:
    """A chunk of nothing but missing values says nothing about the next."""
    nothing, blank, words, numbers = Profile(), Profile(), Profile(), Profile()
    nothing.fold({"x": texts([None, None])})
    blank.fold({"x": np.array([math.nan])})
    words.fold({"x": texts(["a"])})
    numbers.fold({"x": np.ones(1)})
    assert facts(nothing.merge(blank)) == facts(blank.merge(nothing))
    assert nothing.merge(numbers).columns["x"].kind == numbers.merge(nothing).columns["x"].kind == "numeric"
    assert blank.merge(words).columns["x"].kind == words.merge(blank).columns["x"].kind == "text"
    nothing.fold({"x": np.array([5.0])})
    column = nothing.columns["x"]
    assert (column.kind, column.rows, column.missing, column.moments.sum) == ("numeric", 3, 2, 5.0)


def test_two_columns_may_come_apart_and_late() -> None:
    """Without a layout a column begins when it is first seen; the sample shows missing values before."""
    early, late = Profile(), Profile()
    early.fold({"a": np.ones(2)}, ["1", "2"])
    late.fold({"a": np.ones(1), "t": texts(["z"])}, ["3"])
    merged = early.merge(late)
    assert (merged.columns["a"].rows, merged.columns["t"].rows) == (3, 1)
    assert sorted(merged.sample.columns()["t"].tolist(), key=str) == [None, None, "z"]


def edges_of(values: np.ndarray) -> np.ndarray:
    """The edges that a baseline of these values gives."""
    profile = Profile()
    profile.fold({"x": values})
    return np.array(Layout.of(profile).columns["x"].edges)


def test_bins_hold_equal_shares_of_a_baseline() -> None:
    """Twenty bins from minimum to maximum, each 5 % of it."""
    values = np.random.default_rng(2).lognormal(size=50_000)
    edges = edges_of(values)
    assert (len(edges), edges[0], edges[-1]) == (21, values.min(), values.max())
    assert np.histogram(values, edges)[0] / len(values) == pytest.approx([0.05] * 20, abs=0.004)


def test_few_values_have_a_bin_each() -> None:
    """Also rare ones: a class that 1 % predict is seen when it doubles."""
    edges = edges_of(np.repeat([0.0, 1.0, 2.0], [980, 10, 10]))
    profile = Profile(Layout.of(_profile_of(np.array([0.0, 1.0, 2.0]))))
    profile.fold({"x": np.array([0.0, 0.0, 2.0, 1.0, 2.0])})
    counts = profile.columns["x"].bins.counts.tolist()
    assert [count for count in counts if count] == [2, 1, 2]
    assert edges.tolist() == [0.0, 5e-324, 1.0, math.nextafter(1, 2), 2.0, math.nextafter(2, 3)]


def test_a_value_with_much_of_the_weight_has_a_bin_of_its_own() -> None:
    """Half of the values are zero: the other half keeps its bins, and zero cannot hide in one."""
    values = np.concatenate((np.zeros(5_000), np.random.default_rng(1).uniform(1, 2, 5_000)))
    edges = edges_of(values)
    assert edges[:2].tolist() == [0.0, 5e-324]
    assert np.histogram(values, edges)[0][0] == 5_000


@pytest.mark.parametrize("value", [0.0, 3.5, 1.7976931348623157e308, -1.7976931348623157e308])
def test_a_constant_column_has_one_bin(value: float) -> None:
    """And what differs from it lies outside."""
    layout = Layout.of(_profile_of(np.full(10, value)))
    profile = Profile(layout)
    profile.fold({"x": np.array([value, value, 1.0, 7.0])})
    bins = profile.columns["x"].bins
    assert bins.total == 4
    assert len(bins.counts) == 0 or bins.counts.sum() == 2


def test_a_baseline_read_twice_keeps_the_layout_of_its_first_reading() -> None:
    """Or its exact counts would belong to other bins than those of the windows."""
    table = {"x": np.random.default_rng(3).normal(size=30_000), "t": texts(["a", "b", None] * 10_000)}
    first = Profile(Layout({"x": ColumnLayout("numeric"), "t": ColumnLayout("text")}))
    first.fold(table)
    layout = Layout.of(first)
    again = Profile(layout)
    again.fold({**table, "t": texts(["a", "b", "c"] * 10_000)})
    assert len(layout.columns["x"].edges) == 21
    assert Layout.of(again) == layout == Layout.of(Profile.from_bytes(again.to_bytes()))


def test_an_empty_baseline_has_columns_without_bins() -> None:
    """A column that was never filled is counted all the same."""
    layout = Layout.of(_profile_of(np.array([math.nan])))
    profile = Profile(layout)
    profile.fold({"x": np.array([1.0])})
    assert (layout.columns["x"].edges, profile.columns["x"].moments.sum) == ((), 1.0)


def _profile_of(values: np.ndarray) -> Profile:
    profile = Profile()
    profile.fold({"x": values})
    return profile
