"""Distinct counts: within the stated error, and the same registers whatever the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.profiles.distinct import MAX_RANK, Distinct
from vedette.profiles.hashing import mixed, text_hashes

STANDARD_ERROR = 1.04 / 64


def counted(*chunks: np.ndarray) -> Distinct:
    """The distinct count of hashes, chunk by chunk."""
    distinct = Distinct()
    for chunk in chunks:
        distinct.fold(chunk)
    return distinct


@pytest.mark.parametrize("count", [1, 10, 1_000, 9_000, 12_000, 100_000, 3_000_000])
@pytest.mark.parametrize("values", ["integers", "floats"])
def test_estimates_are_within_four_standard_errors(count: int, values: str) -> None:
    """Over the whole range, also where linear counting hands over; floats whose low bits are all zero too."""
    bits = np.arange(count, dtype=np.uint64) if values == "integers" else np.arange(count, dtype=float).view(np.uint64)
    estimate = counted(mixed(bits)).estimate
    assert estimate == pytest.approx(count, rel=4 * STANDARD_ERROR, abs=0.01)


def test_texts_that_differ_by_a_number_are_told_apart() -> None:
    """Checksums are linear; the mixing after them is not."""
    assert counted(text_hashes(f"id-{n:08d}" for n in range(50_000))).estimate == pytest.approx(50_000, rel=0.065)


def test_nothing_is_nothing() -> None:
    """No value: zero."""
    assert Distinct().estimate == 0.0


hashes = st.lists(st.integers(0, 2**64 - 1), max_size=50).map(lambda values: np.array(values, dtype=np.uint64))


@given(hashes, hashes, hashes)
def test_merging_is_exact(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """Associative, commutative, idempotent, and the whole."""
    x, y, z = counted(a), counted(b), counted(c)
    whole = counted(np.concatenate((a, b, c))).registers.tolist()
    assert x.merge(y).merge(z).registers.tolist() == z.merge(x.merge(y)).registers.tolist() == whole
    assert counted(c, a, b, a).registers.tolist() == whole


@given(hashes)
def test_a_register_is_the_longest_run_of_zeros(values: np.ndarray) -> None:
    """Against the definition, bit by bit: leading zeros of the lower 52 bits, plus one."""
    expected = [0] * 4096
    for value in values.tolist():
        rank = 52 - (value & (2**52 - 1)).bit_length() + 1
        expected[value >> 52] = max(expected[value >> 52], rank)
    assert counted(values).registers.tolist() == expected


def test_a_tail_of_zeros_has_the_highest_rank() -> None:
    """And may come twice."""
    zero = np.zeros(1, dtype=np.uint64)
    assert counted(zero, zero).registers[0] == MAX_RANK
