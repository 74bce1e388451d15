"""The sketch keeps its rank error in any order and however it is merged; hostile bytes are DataLoss."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import DataLoss
from vedette.profiles.quantiles import K, Quantiles

RANK_ERROR = 0.0014
"""Of k = 2048 with 99 % confidence for one rank."""


def sketch(*chunks: np.ndarray) -> Quantiles:
    """A sketch of chunks, each ascending, as profiles fold them."""
    quantiles = Quantiles()
    for chunk in chunks:
        quantiles.fold(np.sort(np.asarray(chunk, dtype=np.float64)))
    return quantiles


def worst_rank(quantiles: Quantiles, values: np.ndarray) -> float:
    """The largest error of 200 ranks."""
    ordered = np.sort(values)
    points = ordered[np.linspace(0, len(values) - 1, 200).astype(int)]
    return float(np.max(np.abs(quantiles.cdf(points) - np.searchsorted(ordered, points, side="right") / len(values))))


@pytest.mark.parametrize("chunk", [500, 20_000, 400_000])
@pytest.mark.parametrize("order", ["shuffled", "ascending", "descending", "repeated"])
def test_ranks_are_within_the_stated_error(chunk: int, order: str) -> None:
    """Chunk by chunk, in orders that a stream may have; 200 ranks, so twice the bound of one."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=400_000)
    if order == "repeated":
        values = np.round(values, 1)
    if order.endswith("scending"):
        values = np.sort(values)[:: 1 if order == "ascending" else -1]
    quantiles = sketch(*np.split(values, len(values) // chunk))
    assert not quantiles.exact
    assert 0 < quantiles.rank_error < RANK_ERROR
    assert worst_rank(quantiles, values) < 2 * RANK_ERROR


def test_merged_sketches_answer_for_the_whole() -> None:
    """Any tree of merges stays within the error of one sketch."""
    parts = np.random.default_rng(6).lognormal(size=(16, 25_000))
    left = Quantiles()
    for part in parts:
        left = left.merge(sketch(part))
    pairs = [sketch(part) for part in parts]
    while len(pairs) > 1:
        pairs = [one.merge(two) for one, two in zip(pairs[::2], pairs[1::2])]
    for merged in (left, pairs[0]):
        assert merged.count == parts.size
        assert worst_rank(merged, parts.ravel()) < 2 * RANK_ERROR


def test_merging_leaves_both_as_they_were() -> None:
    """The parts are still windows of their own."""
    one, two = sketch(np.arange(9.0)), sketch(np.arange(5.0))
    merged = one.merge(two)
    assert (one.count, two.count, merged.count) == (9, 5, 14)


@given(st.lists(st.floats(-1e9, 1e9), max_size=60), st.lists(st.floats(-1e9, 1e9), max_size=60))
def test_small_sketches_are_exact(first: list[float], second: list[float]) -> None:
    """Up to some thousand values nothing is thrown away, and merging is exact too."""
    merged = sketch(np.array(first)).merge(sketch(np.array(second)))
    values, counts = np.unique([*first, *second], return_counts=True)
    assert merged.exact
    assert merged.rank_error == 0.0
    assert [points.tolist() for points in merged.points()] == [values.tolist(), counts.tolist()]


@given(st.lists(st.integers(0, 30).map(float), min_size=1, max_size=80))
def test_quantiles_and_bins_are_numpys_on_small_data(values: list[float]) -> None:
    """`quantile` is numpy's inverted CDF, `counts` numpy's histogram."""
    quantiles = sketch(np.array(values))
    shares = np.arange(1, 20) / 20
    assert quantiles.quantile(shares).tolist() == np.quantile(values, shares, method="inverted_cdf").tolist()
    edges = np.array([3.0, 7.0, 8.5, 20.0])
    counts, below, above = quantiles.counts(edges)
    assert counts.tolist() == np.histogram(values, edges)[0].tolist()
    assert (below, above) == (sum(v < 3 for v in values), sum(v > 20 for v in values))


def test_an_empty_sketch_answers_nan() -> None:
    """No value, no quantile, no warning."""
    empty = Quantiles()
    assert np.isnan(empty.cdf([0.0, 1.0])).all()
    assert np.isnan(empty.quantile([0.5])).all()
    assert [len(points) for points in empty.points()] == [0, 0]
    assert empty.levels() == []


@pytest.mark.parametrize("count", [0, 1, 2, 100, K, 3 * K, 300_000])
def test_the_levels_are_those_of_the_library(count: int) -> None:
    """Our reading of the bytes against the library's own iterator: same values, same weights."""
    quantiles = sketch(np.random.default_rng(count).normal(size=count))
    ours = sorted((value, 2**level) for level, values in enumerate(quantiles.levels()) for value in values.tolist())
    assert ours == sorted(quantiles._sketch)
    assert quantiles.points()[1].sum() == count


@pytest.mark.parametrize("count", [0, 1, 2, 5_000, 100_000])
def test_bytes_bring_the_same_sketch_back(count: int) -> None:
    """And it goes on from there."""
    quantiles = sketch(np.random.default_rng(1).normal(size=count))
    back = Quantiles.from_bytes(quantiles.to_bytes())
    assert back.to_bytes() == quantiles.to_bytes()
    back.fold(np.ones(3))
    assert back.count == count + 3


def test_damaged_bytes_are_refused_or_harmless() -> None:
    """Bytes changed, taken out and put in, most of them in the header: DataLoss, or a sketch that still works."""
    rng = random.Random(7)
    sources = [sketch(np.arange(float(count))).to_bytes() for count in (0, 1, 2, 60, 5_000)]
    refused = 0
    for _ in range(3_000):
        data = bytearray(rng.choice(sources))
        at = rng.randrange(min(len(data), 64))
        match rng.randrange(3):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randrange(1, 30)]
            case _:
                data[at:at] = bytes(rng.randrange(1, 20))
        try:
            back = Quantiles.from_bytes(bytes(data))
        except DataLoss:
            refused += 1
            continue
        back.fold(np.arange(9.0))
        assert back.merge(back).count == 2 * back.count
    assert refused > 1_500
