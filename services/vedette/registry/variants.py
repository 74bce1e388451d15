"""That the variants of one endpoint look alike from outside.

Rule: clients see one metadata document, the first variant's; whatever they build a request from must hold for
every variant that the request may reach, else it is answered wrongly without an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from vedette.core.errors import InvalidArgument
from vedette.core.models import CaptureSettings, Signature, TensorSpec

Named = tuple[str, Signature]
"""A variant's name and the signature of all its steps together."""


def check_alike(variants: Sequence[Named]) -> None:
    """Refuse variants (shadows among them) that would read a request, or name its classes, differently from the first.

    Raises:
        InvalidArgument: names the variant and what differs: inputs, feature names, class names or categories.
    """
    (first, shown), *others = variants
    for name, signature in others:
        difference = _difference(signature, shown)
        if difference:
            raise InvalidArgument(
                f"variant {name!r} does not look like variant {first!r} to callers: {difference}; "
                "an endpoint has one metadata document, so deploy them at two endpoints"
            )


def check_excluded(capture: CaptureSettings, signature: Signature) -> None:
    """Refuse columns to leave out of the capture that do not exist, or that cannot be cut out of their tensor.

    A feature is a column of the one input that holds them all, and can be cut where that input's width is known.

    Raises:
        InvalidArgument: names the column.
    """
    tensors = {spec.name for spec in (*signature.inputs, *signature.outputs)}
    whole = [spec.shape[-1:] for spec in signature.inputs] == [(len(signature.feature_names),)]
    for column in capture.exclude:
        if column in tensors or (whole and column in signature.feature_names):
            continue
        if column in signature.feature_names:
            raise InvalidArgument(
                f"capture: column {column[:80]!r} cannot be cut out of the model's inputs; exclude the whole input"
            )
        raise InvalidArgument(f"capture: there is no column {column[:80]!r} to exclude")


def _difference(signature: Signature, shown: Signature) -> str:
    """What of `signature` is not as in `shown`; empty: nothing that a caller depends on."""
    for what in ("inputs", "feature_names"):
        mine, theirs = _names(signature, what), _names(shown, what)
        if mine != theirs:
            return f"{what} {_listed(mine)} in place of {_listed(theirs)}"
    for spec, other in zip(signature.inputs, shown.inputs, strict=True):
        if spec.datatype != other.datatype or not _same_shape(spec, other):
            return f"input {spec.name!r} is {_form(spec)} in place of {_form(other)}"
    if signature.label_names and shown.label_names and signature.label_names != shown.label_names:
        return f"label_names {_listed(signature.label_names)} in place of {_listed(shown.label_names)}"
    for feature in sorted(signature.categories.keys() | shown.categories.keys()):
        if signature.categories.get(feature) != shown.categories.get(feature):
            return f"other categories of feature {feature[:80]!r}"
    return ""


def _names(signature: Signature, what: str) -> list[str]:
    return [spec.name for spec in signature.inputs] if what == "inputs" else list(signature.feature_names)


def _same_shape(spec: TensorSpec, other: TensorSpec) -> bool:
    """Rows aside, dimensions agree where both are fixed."""
    pairs = zip(spec.shape[1:], other.shape[1:], strict=False)
    return len(spec.shape) == len(other.shape) and all(a == b or a < 0 or b < 0 for a, b in pairs)


def _form(spec: TensorSpec) -> str:
    return f"{spec.datatype} {list(spec.shape)}"


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names) or "none"
    return text if len(text) <= 160 else f"{text[:160]}..."
