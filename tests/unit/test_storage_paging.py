"""Page tokens: bound to their list, damaged ones found, pages cut right."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.core.errors import InvalidArgument
from vedette.storage.paging import Listing


def names(limit: int = 2, *filters: object) -> Listing:
    """A list of names with these filters."""
    return Listing("names", limit=limit, filters=filters)


def identity(item: str) -> str:
    """Items are their own keys."""
    return item


@given(st.lists(st.text(max_size=20), unique=True, max_size=20), st.integers(1, 7))
def test_pages_put_together_are_the_list(items: list[str], limit: int) -> None:
    """Whatever the items and the limit, following the tokens gives each item once, in order."""
    items.sort()
    collected, token = [], ""
    while True:
        start = names(limit).start(token, "")
        rest = [item for item in items if not token or item > start]
        page, token = names(limit).page(rest[: limit + 1], identity)
        collected += page
        assert len(page) <= limit
        if not token:
            break
    assert collected == items


@given(st.text(max_size=63), st.text(max_size=10), st.text(max_size=10))
@example("\U00010000" * 63, "", "")
@example("\0" * 63, "", "")
def test_a_token_is_good_for_its_filters_only(key: str, mine: str, other: str) -> None:
    """The same filters read it; others refuse it."""
    _, token = names(1, mine).page([key, "next"], identity)
    assert names(5, mine).start(token, "") == key
    if mine != other:
        with pytest.raises(InvalidArgument):
            names(1, other).start(token, "")


@given(st.text(max_size=700))
def test_made_up_tokens_are_refused(token: str) -> None:
    """Any text but the empty one."""
    if token:
        with pytest.raises(InvalidArgument):
            names().start(token, "")


@given(st.integers(0, 30), st.sampled_from(string.ascii_letters + string.digits + "-_"))
def test_a_changed_character_is_found(position: int, character: str) -> None:
    """Anywhere in the token."""
    _, token = names(1).page(["some-name1", "next"], identity)
    position %= len(token)
    changed = token[:position] + character + token[position + 1 :]
    if changed != token:
        with pytest.raises(InvalidArgument):
            names(1).start(changed, "")


def test_a_number_is_no_name() -> None:
    """A token that holds another kind of key than the list has is refused even if it is sealed."""
    _, token = names(1).page(["a", "b"], lambda _: 7)
    assert names(1).start(token, 0) == 7
    with pytest.raises(InvalidArgument):
        names(1).start(token, "")


def test_the_last_page_has_no_token() -> None:
    """Also when it is full."""
    assert names(2).page(["a", "b"], identity) == (["a", "b"], "")
    assert names(2).page([], identity) == ([], "")
