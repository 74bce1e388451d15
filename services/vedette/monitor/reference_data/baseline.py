"""A baseline from reference data: checked against the model version's signature, read twice, written as three files.

The first pass finds ranges, quantiles and categories; the second counts exactly within them, so that windows which are
folded over the same layout are comparable bin by bin, and the ten buckets of statistics.json are exact.

Rule: columns are those of captured traffic (`tabulation` names them) and the labels; anything else is an error that
names it, because a feature that is spelt differently would be compared with nothing for ever.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import Array, element_count
from vedette.entities.monitors import CONSTRAINTS_FILE, PROFILE_FILE, STATISTICS_FILE
from vedette.monitor.quality.outcomes import PROBABILITY
from vedette.monitor.reference_data.columns import Kind, objects
from vedette.monitor.reference_data.constraints import constraints_file, suggest
from vedette.monitor.reference_data.datasets import Dataset
from vedette.monitor.reference_data.statistics import BucketCounts, statistics_file
from vedette.monitor.traffic.tabulation import feature_names, named_categories, output_names
from vedette.profiles import ColumnLayout, Columns, Layout, Profile
from vedette.profiles.column import NUMBERS
from vedette.profiles.texts import number_of

Progress = Callable[[int, int], None]
"""Told how many rows are done, and in which of the two passes."""
LABEL = "label"
"""What a column of labels may be called when the model does not name its target."""
MAX_NAMED = 5
SHORT: dict[str, np.dtype[np.generic]] = {
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(np.float32),
    "FP32": np.dtype(np.float32),
}
"""Datatypes with fewer digits than files have. BF16 keeps those of FP32: clients round further in their own ways."""


@dataclass(frozen=True, slots=True)
class ExpectedColumns:
    """The columns that reference data of a model version may have, and of what kind they are."""

    features: dict[str, Kind]
    """Every one of them must be there; in the order the model takes them."""
    outputs: dict[str, Kind]
    """May be there: what the model answered."""
    labels: tuple[str, ...]
    """May be there: what came true, as numbers or texts."""
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of features that travel as a number: the names that they are shown by."""
    precision: Mapping[str, np.dtype[np.generic]] = field(default_factory=dict)
    """Of columns that travel with fewer digits than a file has: as what. 0.1 in a file and 0.1 in a tensor of 32 bits
    are different numbers, by which every window of a column in steps of 0.1 would drift."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.features, *self.outputs, *self.labels)


@dataclass(frozen=True, slots=True)
class BuiltBaseline:
    """The three files of a baseline, and what they were made of."""

    files: dict[str, bytes]
    rows: int
    columns: int
    mixed: tuple[str, ...] = ()
    """Of columns that are numbers for the model: how many rows hold text, in sentences."""


class Folding(Protocol):
    """What is told the rows of the second pass, as windows have them."""

    def fold(self, columns: Columns) -> None:
        """Take in a chunk."""


def build(
    data: Dataset,
    signature: Signature,
    *,
    target: str = "",
    beside: Folding | None = None,
    progress: Progress = lambda _rows, _pass: None,
) -> BuiltBaseline:
    """Read the data twice and write statistics, constraints and profile. Blocks.

    Args:
        target: the column of labels; empty: the signature's target, or `label`.
        beside: told every chunk of the second pass as well.
        progress: called after every chunk.

    Raises:
        InvalidArgument: columns are unknown or missing (named, with near names), or there are no rows.
    """
    expected = expected_columns(signature, data.columns, target=target)
    _check_names(expected, data.columns)
    layout = Layout({name: ColumnLayout(kind) for name, kind in _kinds(data, expected).items()})
    first = _folded(data, expected, layout, _told(progress, 1))
    if not first.rows:
        raise InvalidArgument("the data has no rows")
    _check_numbers(first)
    buckets = BucketCounts(first)
    profile = _folded(data, expected, Layout.of(first), _told(progress, 2), *filter(None, (buckets, beside)))
    files = {
        STATISTICS_FILE: statistics_file(profile, buckets.counts),
        CONSTRAINTS_FILE: constraints_file(suggest(profile, without=expected.labels)),
        PROFILE_FILE: profile.to_bytes(),
    }
    return BuiltBaseline(files, profile.rows, len(profile.columns), _mixed(profile))


def expected_columns(signature: Signature, seen: Sequence[str] = (), *, target: str = "") -> ExpectedColumns:
    """What the model's signature says of the columns; `seen` are those of the data, where it leaves widths open.

    Raises:
        InvalidArgument: the model takes no rows of values, or more columns than are watched.
    """
    widths = {spec.name: _width(spec, seen, signature.feature_names) for spec in signature.inputs}
    named = feature_names(signature, widths)
    lost = next((spec.name for spec in signature.inputs if not named.get(spec.name)), None)
    if lost is not None or not signature.inputs:
        raise InvalidArgument(f"input {lost or ''!r} of the model is no row of columns: there is nothing to compare")
    features: dict[str, Kind] = {}
    for spec in signature.inputs:
        features |= {n: "text" if _is_text(spec, n, signature) else "numeric" for n in named[spec.name]}
    answers = _outputs(signature, seen)
    outputs: dict[str, Kind] = {n: "text" if spec.datatype == "BYTES" else "numeric" for n, spec in answers.items()}
    told = [target] if target else [signature.target, LABEL]
    if target and (target in features or target in outputs):
        raise InvalidArgument(f"the target {target[:80]!r} is a column that the model takes or gives")
    labels = dict.fromkeys(name for name in told if name and name not in features and name not in outputs)
    coded = {name: values for name, values in signature.categories.items() if name in features}
    asked = {n: spec for spec in signature.inputs for n in named[spec.name]}
    precision = {n: SHORT[spec.datatype] for n, spec in (asked | answers).items() if spec.datatype in SHORT}
    return ExpectedColumns(features, outputs, tuple(labels), coded, precision)


def _width(spec: TensorSpec, seen: Sequence[str], names: Sequence[str]) -> int:
    """Values in a row of an input; an open one has as many as there are names for, or columns of its name."""
    if -1 not in spec.shape[1:]:
        return element_count(spec.shape[1:])
    return len(names) or sum(1 for name in seen if _is_numbered(name, spec.name))


def _is_numbered(name: str, of: str) -> bool:
    front, _, number = name.rpartition("_")
    return front == of and number.isdecimal()


def _is_text(spec: TensorSpec, name: str, signature: Signature) -> bool:
    return spec.datatype == "BYTES" or name in signature.categories


def _outputs(signature: Signature, seen: Sequence[str]) -> dict[str, TensorSpec]:
    found: dict[str, TensorSpec] = {}
    for spec in signature.outputs:
        width = element_count(spec.shape[1:]) if -1 not in spec.shape[1:] else len(signature.label_names)
        if not width:  # as many classes as the data has columns for
            width = sum(1 for name in seen if name.startswith(PROBABILITY) or _is_numbered(name, spec.name))
        names = output_names(signature, spec, width, taken=found) if width else []
        found |= dict.fromkeys(names, spec)
    return found


def _check_names(expected: ExpectedColumns, columns: Sequence[str]) -> None:
    known, there = set(expected.names), set(columns)
    unknown = [name for name in columns if name not in known]
    missing = [name for name in expected.features if name not in there]
    if unknown:
        free = [name for name in expected.names if name not in there]
        told = ", ".join(_with_near(name, free) for name in unknown[:MAX_NAMED])
        raise InvalidArgument(f"the model has no column {told}{_and_more(unknown)}")
    if missing:
        told = ", ".join(_with_near(name, columns) for name in missing[:MAX_NAMED])
        raise InvalidArgument(f"the data has no column {told}{_and_more(missing)}, which the model takes")


def _kinds(data: Dataset, expected: ExpectedColumns) -> dict[str, Kind]:
    """The columns of the data by kind; what labels are, their first rows tell."""
    kinds = {**expected.outputs, **expected.features}
    labels = [name for name in expected.labels if name in data.columns]
    begin = next(iter(data.chunks(dict.fromkeys(labels, "numeric"))), {}) if labels else {}
    told: dict[str, Kind] = {name: "numeric" if begin[name].dtype.kind in NUMBERS else "text" for name in begin}
    return {name: kinds.get(name) or told.get(name, "text") for name in data.columns}


def _with_near(name: str, others: Sequence[str]) -> str:
    folded = {other.strip().casefold(): other for other in others}
    near = difflib.get_close_matches(name[:200].strip().casefold(), list(folded)[:1000], n=1)
    return f"{name[:80]!r}" + (f" (is it {folded[near[0]][:80]!r}?)" if near else "")


def _and_more(names: Sequence[str]) -> str:
    return f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""


def _check_numbers(profile: Profile) -> None:
    """Refuse a numeric column that holds mostly texts: it is another column, or in another coding."""
    for name, column in profile.columns.items():
        texts = column.types["String"]
        if column.kind == "numeric" and texts and 2 * texts >= column.present:
            said = "only text" if texts == column.present else f"text in {texts} of {column.present} rows"
            raise InvalidArgument(f"column {name[:80]!r} is a number for the model and holds {said}")


def _mixed(profile: Profile) -> tuple[str, ...]:
    """What is to be said of numeric columns with some texts, which have no place in its distribution."""
    texts = {n: c.types["String"] for n, c in profile.columns.items() if c.kind == "numeric" and c.types["String"]}
    told = [
        f"column {name[:80]!r} is a number for the model and holds text in {count} of {profile.rows} rows"
        for name, count in list(texts.items())[:MAX_NAMED]
    ]
    return (*told, *([f"and so do {len(texts) - MAX_NAMED} columns more"] if len(texts) > MAX_NAMED else []))


def _folded(
    data: Dataset,
    expected: ExpectedColumns,
    layout: Layout,
    told: Callable[[int], None],
    *others: Folding,
) -> Profile:
    profile = Profile(layout)
    for columns in _read(data, expected, layout):
        profile.fold(columns)
        for other in others:
            other.fold(columns)
        told(profile.rows)
    return profile


def _read(data: Dataset, expected: ExpectedColumns, layout: Layout) -> Iterator[Columns]:
    kinds = {name: column.kind for name, column in layout.columns.items()}
    for columns in data.chunks(kinds):
        rounded = {name: _rounded(values, expected.precision.get(name)) for name, values in columns.items()}
        yield {name: _shown(name, values, expected.categories) for name, values in rounded.items()}


def _rounded(values: Array, dtype: np.dtype[np.generic] | None) -> Array:
    """Numbers with the digits that arrive at the model; what is too large for them is infinite there too."""
    if dtype is None or values.dtype.kind != "f":
        return values
    with np.errstate(over="ignore"):
        return values.astype(dtype).astype(np.float64)


def _shown(name: str, values: Array, categories: Mapping[str, tuple[str, ...]]) -> Array:
    """A feature with categories by their names, whether the data has names or numbers."""
    names = categories.get(name)
    if names is None:
        return values
    if values.dtype.kind in NUMBERS:
        return named_categories(values, names)
    coded = {text: _category(text, names) for text in set(values.tolist()) if text is not None and text not in names}
    return objects([coded.get(text, text) for text in values.tolist()]) if coded else values


def _category(text: str, names: Sequence[str]) -> str:
    """The name that a number stands for (pandas writes 1.0 where some are missing); any other text as it is."""
    number = number_of(text)
    known = number is not None and number.is_integer() and 0 <= number < len(names)
    return names[int(number)] if known and number is not None else text


def _told(progress: Progress, number: int) -> Callable[[int], None]:
    return lambda rows: progress(rows, number)
