"""The services' JSON documents as the dataclasses of `vedette.core`, both ways.

Rule: field names are the same on both sides, so nothing is renamed here; fields that a newer server adds
are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

from vedette.core.errors import Internal, InvalidArgument
from vedette.entities.alerts import Webhook

Document = TypeVar("Document")


@dataclass(frozen=True, slots=True)
class SignatureDetails:
    """What a graph does not say about its columns and classes, given by whoever registers it."""

    feature_names: tuple[str, ...] = ()
    """Names of the columns in the order in which the model takes them."""
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Feature name -> the values it may have."""
    label_names: tuple[str, ...] = ()
    """Class names by class index."""
    kind: Literal["", "tabular", "image"] = ""
    target: str = ""
    """What is predicted."""


@dataclass(frozen=True, slots=True)
class Details:
    """All that a registration can say besides the files."""

    signature: SignatureDetails = SignatureDetails()
    metadata: dict[str, str] = field(default_factory=dict)
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The JSON document, without what was not said."""
        whole = plain(self)
        whole["signature"] = {key: value for key, value in whole["signature"].items() if value}
        return {key: value for key, value in whole.items() if value}


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A webhook with the signing secret that was just made for it."""

    webhook: Webhook
    secret: str
    """`whsec_...`, shown this once."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One violated check with the window it was found in."""

    execution: str
    monitor: str
    endpoint: str
    variant: str
    version: str
    segment: str
    start: float
    end: float
    check: str
    feature: str
    kind: str = ""
    value: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    description: str = ""


def ground_truth_lines(labels: Mapping[str, Any] | Iterable[Mapping[str, Any]] | bytes) -> bytes:
    """Labels as JSON Lines: `{"id": ..., "label": ...}` for a mapping, documents and bytes as they are.

    Raises:
        InvalidArgument: they are nothing of the kind.
    """
    if isinstance(labels, bytes):
        return labels
    documents = (
        [{"id": key, "label": label} for key, label in labels.items()] if isinstance(labels, Mapping) else labels
    )
    try:
        return b"".join(msgspec.json.encode(document, enc_hook=_scalar) + b"\n" for document in documents)
    except (TypeError, NotImplementedError, RecursionError, ValueError) as error:
        raise InvalidArgument(f"labels are a mapping of ids to labels, or documents: {error}") from error


def _scalar(value: Any) -> Any:
    """A numpy scalar as Python's."""
    if hasattr(value, "item"):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} is no label")


def plain(value: object) -> Any:
    """Dataclasses as dictionaries, lists and scalars, ready for JSON."""
    return msgspec.to_builtins(value)


def encode(value: object) -> bytes:
    """Dataclasses or plain values as JSON text."""
    return msgspec.json.encode(value)


def read(kind: type[Document], body: bytes) -> Document:
    """Parse an answer of the registry.

    Raises:
        Internal: it is not such a document: the server is of another version, or not vedette.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Internal(f"the server's answer is not a {kind.__name__} that this client knows: {error}") from error


def read_page(kind: type[Document], body: bytes) -> tuple[list[Document], str]:
    """Parse one page of a list: its items and the token of the next page, empty after the last."""
    page = read(_Page, body)
    try:
        return [msgspec.convert(item, type=kind) for item in page.items], page.next_page_token
    except msgspec.ValidationError as error:
        raise Internal(f"the server's list holds no {kind.__name__} that this client knows: {error}") from error


@dataclass(frozen=True, slots=True)
class _Page:
    items: list[Any]
    next_page_token: str = ""
