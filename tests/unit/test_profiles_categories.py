"""Counts of categories: exact while they fit, bounded and honest beyond; types and keys of texts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import InvalidArgument
from vedette.profiles.categories import Categories
from vedette.profiles.texts import MAX_KEY, counted, key_of, number_of, type_of, written

names = st.lists(st.sampled_from("abcdefghij"), max_size=60)


def folded(*chunks: list[str], limit: int = 1000, known: str = "") -> Categories:
    """The counts of some values, chunk by chunk."""
    categories = Categories(dict.fromkeys(known, 0), limit=limit)
    for chunk in chunks:
        categories.fold(Counter(chunk))
    return categories


@given(names, names, names)
def test_counts_are_exact_in_any_order_while_they_fit(a: list[str], b: list[str], c: list[str]) -> None:
    """Ten categories of at most a thousand: merging is associative, commutative and the whole."""
    x, y, z = (folded(chunk, known="abc") for chunk in (a, b, c))
    whole = folded([*a, *b, *c], known="abc")
    assert whole.counts == dict(sorted(Counter([*a, *b, *c]).items(), key=lambda pair: (-pair[1], pair[0])))
    assert x.merge(y).merge(z) == z.merge(x.merge(y)) == folded(c, a, b, known="abc") == whole
    assert whole.other == 0


@given(names, names, names, st.integers(1, 4))
def test_beyond_the_limit_what_is_promised_holds_in_any_order(
    a: list[str], b: list[str], c: list[str], limit: int
) -> None:
    """Known ones exact, totals exact, others too low by at most the slack and never too high."""
    x, y, z = (folded(chunk, limit=limit, known="ab") for chunk in (a, b, c))
    truth = Counter([*a, *b, *c])
    for merged in (x.merge(y).merge(z), z.merge(y.merge(x)), folded(c, a, b, limit=limit, known="ab")):
        assert merged.total == sum(truth.values())
        assert merged.known == {name: truth[name] for name in "ab"}
        assert len(merged.fresh) <= limit
        assert all(truth[name] - merged.slack <= merged.fresh.get(name, 0) <= truth[name] for name in "cdefghij")


def test_a_frequent_category_survives_a_million_others() -> None:
    """Bounded memory, and what matters stays: 30 % of the rows under one name."""
    categories = Categories()
    for chunk in range(100):
        categories.fold({"often": 4_286, **{f"{chunk}-{n}": 1 for n in range(10_000)}})
    assert len(categories.fresh) <= 1000
    assert 428_600 - categories.slack <= categories.counts["often"] <= 428_600
    assert categories.slack < 1_000
    assert categories.total == 1_428_600


def test_other_layouts_are_refused() -> None:
    """Known categories that differ cannot be added up exactly."""
    with pytest.raises(InvalidArgument):
        folded(known="ab").merge(folded(known="abc"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((text, "Integral") for text in ("0", "-12", "+7", "007", "9" * 400)),
        *((text, "Fractional") for text in ("1.5", "-.5", "1.", "1e5", "-2.5E-3", "0" * 40 + ".5")),
        *((text, "Boolean") for text in ("true", "False", "TRUE")),
        *((text, "String") for text in ("", " ", "a", "1,5", "--1", "1e", ".", "nan", "inf", "0x1f", "١", "tRUE")),
        *((text, "String") for text in ("9" * 401, "1 2", "1_000", "12a", "+")),
    ],
)
def test_texts_have_the_type_they_parse_to(text: str, kind: str) -> None:
    """Decimal numbers and booleans; what only Python takes for a number is a text."""
    assert type_of(text) == kind
    assert (number_of(text) is not None) == (kind in ("Integral", "Fractional"))


@given(st.text())
def test_a_number_by_type_is_one_for_python_too(text: str) -> None:
    """`number_of` cannot fail on what `type_of` calls a number."""
    assert number_of(text) == (float(text) if type_of(text) in ("Integral", "Fractional") else None)


def test_keys_are_bounded_and_differ_where_texts_differ() -> None:
    """Ten megabytes become 200 characters; the digest covers the whole text, lone surrogates included."""
    texts = ["x" * 10_000_000 + end for end in ("a", "b", "\ud800")]
    keys = [key_of(text) for text in texts]
    assert len(set(keys)) == 3
    assert {len(key) for key in keys} == {MAX_KEY}
    assert key_of("y" * MAX_KEY) == "y" * MAX_KEY
    assert key_of("\ud800").encode().startswith(b"?~")
    assert key_of("\ud800") != key_of("\ud801")


def test_what_is_no_text_is_counted_as_a_person_would_write_it() -> None:
    """1, 1.0 and True are one key of a dict, and lists are none; all are told apart."""
    cells = np.empty(9, dtype=object)
    cells[:] = [1, 1.0, True, None, float("nan"), "1", b"1", [2], 2.5]
    assert counted(cells) == ({"1": 4, "True": 1, "[2]": 1, "2.5": 1}, 2)


def test_texts_are_counted_without_being_written_anew() -> None:
    """None is missing; an empty text is a text."""
    assert counted(np.array(["a", None, "", "a"], dtype=object)) == ({"a": 2, "": 1}, 1)
    assert written("") == ""
