"""Media types: which format reads a request and which writes its answer (SageMaker and KServe V1).

Rule: a table; a format is a module with `decode` and `encode`. V2 requests have their own media rules and
do not pass through here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vedette.codec import csv, instances, jsonlines, npy
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.core.tensors import Tensor


class UnsupportedMediaType(InvalidArgument):
    """No format reads this Content-Type (HTTP may answer 415)."""


class NotAcceptable(InvalidArgument):
    """No format writes what Accept asks for (HTTP may answer 406)."""


@dataclass(frozen=True, slots=True)
class Format:
    """One media type and its two directions."""

    media_type: str
    decode: Callable[[bytes, Signature], list[Tensor]]
    encode: Callable[[Sequence[Tensor], Signature], bytes]


FORMATS: dict[str, Format] = {
    form.media_type: form
    for form in (
        Format("application/json", instances.decode, instances.encode),
        Format("text/csv", csv.decode, csv.encode),
        Format("application/jsonlines", jsonlines.decode, jsonlines.encode),
        Format("application/x-npy", npy.decode, npy.encode),
    )
}
_DEFAULT = FORMATS["application/json"]
_OFFERED = ", ".join(FORMATS)


def choose_format(content_type: str) -> Format:
    """The format that reads a Content-Type; an empty one is application/json, as in SageMaker's toolkits.

    Raises:
        UnsupportedMediaType: lists what is offered.
    """
    media_type, parameters = _parse(content_type)
    if not media_type:
        return _DEFAULT
    if media_type == "application/x-npz":
        raise UnsupportedMediaType("application/x-npz is an archive and not accepted; send application/x-npy")
    form = FORMATS.get(media_type)
    if form is None:
        raise UnsupportedMediaType(f"content type {media_type[:80]!r} is not supported; offered are {_OFFERED}")
    if parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"charset {parameters['charset'][:40]!r} is not supported; send UTF-8")
    if parameters.get("label_size", "0") != "0":
        raise UnsupportedMediaType("label_size must be 0: a request for predictions carries no labels")
    return form


def choose_accept(accept: str, content_type: str = "") -> Format:
    """The format for the answer: the best of `accept` by its q-values, the request's own where it leaves a choice.

    Raises:
        NotAcceptable: nothing on offer is accepted.
    """
    own = FORMATS.get(_parse(content_type)[0], _DEFAULT)
    wanted = [_preference(part) for part in accept.split(",") if part.strip()]
    if not wanted:
        return own
    offers = [own, *(form for form in FORMATS.values() if form is not own)]
    best = max(offers, key=lambda form: _quality(form.media_type, wanted))  # the first among equals
    if _quality(best.media_type, wanted) <= 0:
        raise NotAcceptable(f"nothing in {accept[:160]!r} is on offer; offered are {_OFFERED}")
    return best


def _parse(value: str) -> tuple[str, dict[str, str]]:
    """A media type in lower case and its parameters."""
    media_type, *rest = value.split(";")
    parameters: dict[str, str] = {}
    for part in rest:
        name, _, text = part.partition("=")
        parameters[name.strip().lower()] = text.strip().strip('"')
    return media_type.strip().lower(), parameters


def _preference(part: str) -> tuple[str, float]:
    media_range, parameters = _parse(part)
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = -1.0
    if not 0 <= quality <= 1:
        raise NotAcceptable(f"Accept: {part.strip()[:80]!r} has a q that is not a number from 0 to 1")
    return media_range, quality


def _quality(media_type: str, wanted: Sequence[tuple[str, float]]) -> float:
    """The q of the most specific range that fits (RFC 9110, section 12.5.1); 0: none does."""
    for media_range in (media_type, media_type.split("/")[0] + "/*", "*/*"):
        fitting = [quality for name, quality in wanted if name == media_range]
        if fitting:
            return max(fitting)
    return 0.0
