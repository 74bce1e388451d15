"""Documents in the tables: what goes in comes out, old ones are read, broken ones are found."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import DataLoss, InvalidArgument
from vedette.core.models import EndpointConfig, ModelVersion, Signature, Variant
from vedette.core.ports import Deployment
from vedette.storage.records import document, parse
from vedette.testing.samples import deployment, endpoint_config, model_version

texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))


@given(
    st.builds(
        Signature,
        inputs=st.just(()),
        outputs=st.just(()),
        feature_names=st.lists(texts).map(tuple),
        categories=st.dictionaries(texts, st.lists(texts).map(tuple)),
        label_names=st.lists(texts).map(tuple),
        target=texts,
    )
)
def test_a_signature_survives_its_document(signature: Signature) -> None:
    """Any text that is valid Unicode and holds no NUL, in any place."""
    assert parse(document(signature), Signature) == signature


@given(st.text())
def test_only_unstorable_text_is_refused(text: str) -> None:
    """NUL and half surrogate pairs are; the six characters of their escape are not."""
    bad = "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
    for candidate in (text, text + "\\u0000", "\\\\u0000" + text):
        if bad:
            with pytest.raises(InvalidArgument):
                document({"text": candidate})
        else:
            assert json.loads(document({"text": candidate})) == {"text": candidate}


def test_a_document_of_an_earlier_version_is_read() -> None:
    """Fields that it does not have yet take their defaults; fields that went are ignored."""
    old = '{"model": "m", "variants": [{"name": "v", "version": 1}], "gone": 5}'
    assert parse(old, EndpointConfig) == EndpointConfig("m", (Variant("v", 1),))


@pytest.mark.parametrize("text", ["", "null", "{", "[]", '{"model": 5}', '{"model": "m"}'])
def test_a_broken_document_is_found(text: str) -> None:
    """As lost data, not as an exception of a library."""
    with pytest.raises(DataLoss):
        parse(text, EndpointConfig)


def test_every_record_survives_its_document() -> None:
    """The samples fill in every field."""
    for record, kind in (
        (model_version("m", 1, metadata={"a": "b"}), ModelVersion),
        (endpoint_config("m", 1, 2), EndpointConfig),
        (deployment("e"), Deployment),
    ):
        assert parse(document(record), kind) == record
