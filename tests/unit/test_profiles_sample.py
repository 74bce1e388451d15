"""The sample of rows: the same whatever the order, fair, whole rows, bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.profiles import Profile, RowSample


def table(rows: list[int]) -> dict[str, np.ndarray]:
    """Rows whose columns all say which row it is."""
    text = np.empty(len(rows), dtype=object)
    text[:] = [str(row) for row in rows]
    return {"number": np.array(rows, dtype=np.float64), "text": text}


def sampled(*chunks: list[int], limit: int = 8) -> RowSample:
    """The sample of rows that are their own keys."""
    profile = Profile(sample_rows=limit)
    for chunk in chunks:
        profile.fold(table(chunk), [f"row-{row}" for row in chunk])
        _ = profile.sample  # else small tables are gathered and drawn from together
    return profile.sample


def drawn(sample: RowSample) -> list[int]:
    """The rows of a sample, in its order."""
    return [int(value) for value in sample.columns().get("number", np.zeros(0))]


@given(st.permutations(range(40)), st.integers(0, 40), st.integers(0, 40))
def test_the_same_rows_are_drawn_in_any_order_and_chunks(order: list[int], cut: int, other: int) -> None:
    """Folded, replayed in another order or merged from replicas."""
    first, last = sorted((cut, other))
    a, b, c = order[:first], order[first:last], order[last:]
    whole = drawn(sampled(list(range(40))))
    assert len(whole) == 8
    assert drawn(sampled(a, b, c)) == drawn(sampled(c, a, b)) == whole
    assert drawn(sampled(a).merge(sampled(b)).merge(sampled(c))) == whole
    assert drawn(sampled(c).merge(sampled(a).merge(sampled(b)))) == whole


def test_rows_stay_whole() -> None:
    """Columns of one row stay together."""
    columns = sampled(list(range(5_000)), list(range(5_000, 9_000)), limit=500).columns()
    assert len(columns["number"]) == 500
    assert [str(int(number)) for number in columns["number"]] == columns["text"].tolist()


def test_every_row_has_the_same_chance() -> None:
    """Keys that count up, as ids do: the sample's deciles are those of all rows, and no remainder is preferred."""
    rows = np.array(drawn(sampled(list(range(100_000)), limit=4_000)))
    counts = np.histogram(rows, bins=10, range=(0, 100_000))[0]
    assert np.sum((counts - 400) ** 2 / 400) < 27.9  # chi-squared, 9 degrees of freedom, 0.1 %
    assert np.bincount(rows % 4) == pytest.approx([1_000] * 4, abs=110)


def test_rows_without_keys_are_named_by_position() -> None:
    """The same table in the same order draws the same rows, whatever the chunks."""
    whole, parts = Profile(sample_rows=20), Profile(sample_rows=20)
    whole.fold(table(list(range(3_000))))
    for start in range(0, 3_000, 100):
        parts.fold(table(list(range(start, start + 100))))
    assert drawn(whole.sample) == drawn(parts.sample)
    assert len(drawn(whole.sample)) == 20


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_rows_of_one_key_are_told_apart_by_what_they_hold(first: list[int], second: list[int]) -> None:
    """Tables without keys share positions: merging them is commutative all the same, and keeps duplicates."""
    profiles = []
    for rows in (first, second):
        profile = Profile(sample_rows=10)
        profile.fold(table(rows))
        profiles.append(profile.sample)
    one, two = profiles
    assert drawn(one.merge(two)) == drawn(two.merge(one))
    assert len(one.merge(two)) == min(10, min(10, len(first)) + min(10, len(second)))


def test_a_sample_of_nothing_costs_nothing() -> None:
    """`sample_rows=0` switches it off."""
    sample = sampled(list(range(50)), limit=0)
    assert (len(sample), sample.columns()) == (0, {})


def test_long_texts_are_cut() -> None:
    """A sample of two thousand rows stays small."""
    text = np.empty(50, dtype=object)
    text[:] = ["x" * 1_000_000] * 50
    profile = Profile()
    profile.fold({"text": text})
    assert {len(value) for value in profile.sample.columns()["text"]} == {200}
