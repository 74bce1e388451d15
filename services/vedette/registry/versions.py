"""What a model version may look like: file names, the user's completion of the signature, approval.

Rule: pure functions on facts that others gathered; a contradiction is refused, never repaired or ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

from vedette.core.errors import Conflict, InvalidArgument, NotFound
from vedette.core.models import FILE_NAME, GRAPH_FILE, ApprovalStatus, ArtifactFile, ModelVersion, Signature, TensorSpec

DATA_SUFFIXES = (".data", ".onnx_data", ".bin", ".weights", ".weight", ".bias")
"""Endings of external data as the usual exporters write them."""
MAX_FILES = 64
MAX_VERSION = 2**31 - 1
MAX_NOTES = 64
MAX_NOTE_KEY = 128
MAX_NOTE_VALUE = 1024
MAX_DESCRIPTION = 4096
MAX_LABEL = 256


@dataclass(frozen=True, slots=True)
class Completion:
    """What the user adds to the graph's signature; empty: the graph's word stands."""

    feature_names: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    label_names: tuple[str, ...] = ()
    kind: Literal["", "tabular", "image"] = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """Everything a user says about a version beyond its bytes. `tags` go to the model."""

    signature: Completion = Completion()
    metadata: dict[str, str] = field(default_factory=dict)
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)


def check_file_name(name: str) -> str:
    """Return `name` if an upload may hold a file of that name: `model.onnx`, or external data beside it.

    Raises:
        InvalidArgument: a path, a hidden file, another graph or an ending that no exporter writes.
    """
    if FILE_NAME.fullmatch(name) is None:
        raise InvalidArgument(f"{name[:80]!r} is not a bare file name of letters, digits, '.', '_' and '-'")
    if name != GRAPH_FILE and PurePosixPath(name).suffix not in DATA_SUFFIXES:
        endings = ", ".join(DATA_SUFFIXES)
        raise InvalidArgument(f"{name!r}: a version is {GRAPH_FILE} and external data ending in {endings}")
    return name


def check_files(files: Sequence[ArtifactFile]) -> None:
    """Refuse an upload that is not one graph with at most a handful of data files.

    Raises:
        InvalidArgument: `model.onnx` is missing, or there are too many files.
    """
    if GRAPH_FILE not in {file.path for file in files}:
        raise InvalidArgument(f"the upload has no {GRAPH_FILE}")
    if len(files) > MAX_FILES:
        raise InvalidArgument(f"the upload has {len(files)} files; at most {MAX_FILES} are allowed")


def check_details(details: Details) -> None:
    """Refuse notes that are too many, too long or empty where a name is meant.

    Raises:
        InvalidArgument: says which.
    """
    check_notes(details.metadata, what="metadata")
    check_notes(details.tags, what="tags")
    check_description(details.description)


def check_notes(notes: Mapping[str, str], *, what: str) -> None:
    """Refuse metadata or tags beyond what a list of models can show."""
    if len(notes) > MAX_NOTES:
        raise InvalidArgument(f"{what}: at most {MAX_NOTES} entries are allowed")
    for key, value in notes.items():
        if not 1 <= len(key) <= MAX_NOTE_KEY or len(value) > MAX_NOTE_VALUE or _unprintable(key + value):
            raise InvalidArgument(
                f"{what}: {key[:40]!r} needs a key of 1 to {MAX_NOTE_KEY} printable characters "
                f"and a value of at most {MAX_NOTE_VALUE}"
            )


def check_description(text: str) -> None:
    """Refuse a description that is a document."""
    if len(text) > MAX_DESCRIPTION or "\0" in text:
        raise InvalidArgument(f"description: at most {MAX_DESCRIPTION} characters, without NUL")


def complete(graph: Signature, completion: Completion) -> Signature:
    """The graph's signature with the user's names.

    Raises:
        InvalidArgument: the two contradict each other.
    """
    _check_labels(completion.feature_names, "feature_names")
    _check_labels(completion.label_names, "label_names")
    _check_target(completion.target)
    _check_kind(graph, completion)
    if completion.feature_names:
        _check_columns(graph, len(completion.feature_names))
    _check_categories(graph, completion)
    if completion.label_names:
        _check_classes(graph, len(completion.label_names))
    return replace(
        graph,
        feature_names=completion.feature_names or graph.feature_names,
        categories=completion.categories or graph.categories,
        label_names=completion.label_names or graph.label_names,
        kind=completion.kind or graph.kind,
        target=completion.target or graph.target,
    )


def _unprintable(text: str) -> bool:
    return not text.isprintable()


def _check_labels(names: Sequence[str], what: str) -> None:
    for name in names:
        if not 1 <= len(name) <= MAX_LABEL or _unprintable(name):
            raise InvalidArgument(f"{what}: {name[:40]!r} is not 1 to {MAX_LABEL} printable characters")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InvalidArgument(f"{what}: {repeated[0]!r} stands there more than once")


def _check_target(target: str) -> None:
    if len(target) > MAX_LABEL or _unprintable(target):
        raise InvalidArgument(f"target: at most {MAX_LABEL} printable characters")


def _check_kind(graph: Signature, completion: Completion) -> None:
    if completion.kind == "tabular":
        deep = next((spec for spec in graph.inputs if len(spec.shape) > 2), None)
        if deep is not None:
            raise InvalidArgument(
                f"kind tabular: input {deep.name!r} has shape {list(deep.shape)}, not rows of columns"
            )
    if completion.kind == "image":
        odd = next((spec for spec in graph.inputs if spec.datatype == "BYTES" or len(spec.shape) < 2), None)
        if odd is not None:
            raise InvalidArgument(f"kind image: input {odd.name!r} is {odd.datatype} {list(odd.shape)}, not pixels")
        if completion.categories:
            raise InvalidArgument("kind image: pixels have no categories")


def _columns(spec: TensorSpec) -> int:
    """Columns that one input takes: [rows] is one, [rows, n] is n; -1 when the graph does not say."""
    if len(spec.shape) > 2 or not spec.shape:
        raise InvalidArgument(f"feature_names: input {spec.name!r} has shape {list(spec.shape)}, not rows of columns")
    return 1 if len(spec.shape) == 1 else spec.shape[1]


def _check_columns(graph: Signature, named: int) -> None:
    counts = [_columns(spec) for spec in graph.inputs]
    if -1 not in counts and sum(counts) != named:
        raise InvalidArgument(f"feature_names: {named} names were given, the model takes {sum(counts)} columns")


def _check_categories(graph: Signature, completion: Completion) -> None:
    known = set(completion.feature_names or graph.feature_names) or {spec.name for spec in graph.inputs}
    for feature, values in completion.categories.items():
        if feature not in known:
            raise InvalidArgument(f"categories: there is no feature {feature[:80]!r}")
        if not values:
            raise InvalidArgument(f"categories: {feature!r} has no values")
        _check_labels(values, f"categories of {feature!r}")


def _check_classes(graph: Signature, named: int) -> None:
    """A rank-2 floating output has a column per class; one column alone is a binary score."""
    widths = [
        spec.shape[1]
        for spec in graph.outputs
        if len(spec.shape) == 2 and spec.datatype in {"FP16", "BF16", "FP32", "FP64"}
    ]
    wide = [width for width in widths if width > 1]
    if -1 in widths or not widths:
        return
    if wide and named not in wide:
        raise InvalidArgument(f"label_names: {named} names were given, the model's output has {wide[0]} classes")
    if not wide and named > 2:
        raise InvalidArgument(f"label_names: {named} names were given, the model's output has one column")


def check_number(version: int) -> int:
    """Return `version` if a version can have that number.

    Raises:
        NotFound: no version ever will.
    """
    if not 0 < version <= MAX_VERSION:
        raise NotFound(f"there is no version {version}")
    return version


def check_servable(version: ModelVersion, *, require_approval: bool) -> None:
    """Refuse to deploy a version that a person has refused, or has not yet approved where that is required.

    Raises:
        Conflict: names the version and its status.
    """
    if not may_serve(version, require_approval=require_approval):
        raise Conflict(f"{version.model}:{version.version} is {version.status.value} and may not be deployed")


def may_serve(version: ModelVersion, *, require_approval: bool) -> bool:
    """Whether a version's approval status lets it serve."""
    if version.status is ApprovalStatus.REJECTED:
        return False
    return version.status is ApprovalStatus.APPROVED or not require_approval
