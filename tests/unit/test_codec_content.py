"""Media types: what reads a Content-Type, and what Accept chooses."""

from __future__ import annotations

import pytest

from vedette.codec.content import FORMATS, NotAcceptable, UnsupportedMediaType, choose_accept, choose_format

OFFERED = "application/json, text/csv, application/jsonlines, application/x-npy"


@pytest.mark.parametrize(
    ("content_type", "media_type"),
    [
        ("", "application/json"),
        ("application/json", "application/json"),
        ("Application/JSON; charset=UTF-8", "application/json"),
        ("text/csv; label_size=0", "text/csv"),
        ('text/csv;charset="utf-8" ; label_size=0', "text/csv"),
        ("application/jsonlines", "application/jsonlines"),
        ("application/x-npy", "application/x-npy"),
    ],
)
def test_a_content_type_has_its_format(content_type: str, media_type: str) -> None:
    """Case and harmless parameters do not matter; none at all is JSON."""
    assert choose_format(content_type) is FORMATS[media_type]


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        ("text/libsvm", OFFERED),
        ("application/x-npz", "application/x-npy"),
        ("application/octet-stream", OFFERED),
        ("text/csv; label_size=1", "label_size"),
        ("text/csv; charset=latin-1", "UTF-8"),
        ("x" * 100_000, OFFERED),
    ],
)
def test_other_content_types_are_refused_with_what_is_offered(content_type: str, says: str) -> None:
    """The error is short and lists what would work."""
    with pytest.raises(UnsupportedMediaType, match=says) as caught:
        choose_format(content_type)
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("accept", "content_type", "media_type"),
    [
        ("", "text/csv", "text/csv"),
        ("", "application/vnd.other", "application/json"),
        ("*/*", "text/csv", "text/csv"),
        ("application/*", "text/csv", "application/json"),
        ("text/*", "application/json", "text/csv"),
        ("application/jsonlines", "text/csv", "application/jsonlines"),
        ("application/json;q=0.1, text/csv;q=0.9", "application/json", "text/csv"),
        ("text/html, */*;q=0.1", "application/x-npy", "application/x-npy"),
        ("*/*, application/json;q=0", "application/json", "text/csv"),
        ("TEXT/CSV;header=absent", "", "text/csv"),
        (
            "application/*;q=0.2, application/jsonlines;q=0.1, text/csv;q=0.15",
            "application/jsonlines",
            "application/json",
        ),
    ],
)
def test_accept_chooses_by_quality_and_then_the_request(accept: str, content_type: str, media_type: str) -> None:
    """The most specific range decides a type's q; among equals the request's own format answers."""
    assert choose_accept(accept, content_type) is FORMATS[media_type]


@pytest.mark.parametrize(
    "accept", ["text/html", "text/csv;q=0", "*/*;q=0", "text/csv;q=x", "text/csv;q=nan", "image/*"]
)
def test_an_accept_that_nothing_fits_is_refused(accept: str) -> None:
    """Nothing on offer, everything ruled out, or a q that is no number."""
    with pytest.raises(NotAcceptable):
        choose_accept(accept, "text/csv")
