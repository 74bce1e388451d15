"""Predictions beside what came true: rows of columns with a label each, missing where none is known yet.

Rule: rows are kept as they were tabulated; what a column means (`Roles`) is said by the check that asks,
and only here are labels, predictions and probabilities made comparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.core.tensors import Array
from vedette.profiles.profile import Columns

Predict = Callable[[Columns], Columns]
"""The model itself: feature columns in, `prediction` and `probability_<class>` columns out. Blocks."""

ProblemType = Literal["Regression", "BinaryClassification", "MulticlassClassification"]
PROBLEM_TYPES: tuple[ProblemType, ...] = ("Regression", "BinaryClassification", "MulticlassClassification")
"""SageMaker's names."""

PREDICTION = "prediction"
PROBABILITY = "probability_"
"""What outputs are called in tables; a class's name follows `probability_`."""

MOST_ROWS = 2_000_000
MOST_CLASSES = 1_000
MISSING = -1
"""The class number of a value that is missing or no class."""


class NotComparable(InvalidArgument):
    """The rows do not hold what a check needs; the message says what is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Rows of predictions with their features and labels."""

    columns: dict[str, Array]
    """Features and outputs, each as long as `labels`."""
    labels: Array
    """The ground truth: float64 with NaN, or an object array of `str | None`."""

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.size > MOST_ROWS:
            raise InvalidArgument(f"labels are one column of at most {MOST_ROWS:,} rows")
        for name, column in self.columns.items():
            if column.shape != self.labels.shape:
                raise InvalidArgument(f"column {name[:80]!r} and the labels differ in length")

    @classmethod
    def of(cls, columns: Columns, *, label: str = "") -> Outcomes:
        """Outcomes whose labels are the column `label`; without such a column every label is missing."""
        kept = {name: column for name, column in columns.items() if name != label}
        if label in columns:
            return cls(kept, columns[label])
        rows = len(next(iter(kept.values()))) if kept else 0
        return cls(kept, np.full(rows, np.nan))

    @classmethod
    def joined(cls, columns: Columns, labels: Sequence[object]) -> Outcomes:
        """Outcomes with labels as they came in: numbers, booleans, texts, None where none came yet."""
        return cls(dict(columns), column_of(labels))

    @property
    def rows(self) -> int:
        """Rows, labelled or not."""
        return self.labels.size

    @property
    def labelled(self) -> int:
        """Rows whose label is known."""
        return int(np.count_nonzero(present(self.labels)))

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Outcomes:
        """The rows that a mask or indices choose."""
        return Outcomes({name: column[which] for name, column in self.columns.items()}, self.labels[which])

    def with_columns(self, columns: Columns) -> Outcomes:
        """The same rows with these columns added or replaced."""
        return Outcomes({**self.columns, **columns}, self.labels)


@dataclass(frozen=True, slots=True)
class Roles:
    """Which columns mean what; names and defaults are SageMaker's where it has one."""

    problem_type: str = ""
    """BinaryClassification, MulticlassClassification or Regression; empty: from the class names and columns."""
    inference_attribute: str = PREDICTION
    """Column of the predicted label or value."""
    probability_attribute: str = ""
    """Column of the positive class's probability; empty: the columns `probability_<class>`."""
    probability_threshold_attribute: float = 0.5
    """Over it a probability predicts the positive class, where no label is predicted."""
    ground_truth_attribute: str = ""
    """Column of the labels in reference data; empty: the model's target, else `label`."""
    positive_class: str = ""
    """Name of the positive class; empty: the second."""

    def __post_init__(self) -> None:
        if self.problem_type and self.problem_type not in PROBLEM_TYPES:
            raise InvalidArgument(f"problem_type is one of {', '.join(PROBLEM_TYPES)}")
        if not 0.0 <= self.probability_threshold_attribute <= 1.0:
            raise InvalidArgument("probability_threshold_attribute is a number from 0 to 1")


@dataclass(frozen=True, slots=True, eq=False)
class ValueOutcomes:
    """Outcomes of a regression as numbers; NaN where missing."""

    predictions: NDArray[np.float64]
    labels: NDArray[np.float64]

    def labelled(self) -> ValueOutcomes:
        """The rows that have both."""
        known = np.isfinite(self.predictions) & np.isfinite(self.labels)
        return self.take(known)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> ValueOutcomes:
        """The rows that a mask or indices choose."""
        return ValueOutcomes(self.predictions[which], self.labels[which])


@dataclass(frozen=True, slots=True, eq=False)
class ClassOutcomes:
    """Outcomes of a classifier by class number; `MISSING` where missing."""

    classes: tuple[str, ...]
    positive: int
    """Number of the positive class; of use with two classes only."""
    predictions: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None = None
    """Rows x classes, NaN where missing; None where the model tells none."""

    def labelled(self) -> ClassOutcomes:
        """The rows that have both."""
        return self.take((self.predictions >= 0) & (self.labels >= 0))

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> ClassOutcomes:
        """The rows that a mask or indices choose."""
        told = None if self.probabilities is None else self.probabilities[which]
        return ClassOutcomes(self.classes, self.positive, self.predictions[which], self.labels[which], told)


def problem_of(outcomes: Outcomes, roles: Roles, signature: Signature) -> ProblemType:
    """The problem that was named, or else: probabilities, class names and texts make a classifier."""
    for known in PROBLEM_TYPES:
        if known == roles.problem_type:
            return known
    names = _named_classes(outcomes, roles, signature)
    if not names:
        columns = (outcomes.columns.get(roles.inference_attribute), outcomes.labels)
        if all(column is None or column.dtype != object for column in columns):
            return "Regression"
        names = _observed_classes(outcomes, roles)
    return "BinaryClassification" if len(names) <= 2 else "MulticlassClassification"


def values_of(outcomes: Outcomes, roles: Roles) -> ValueOutcomes:
    """Predictions and labels as numbers.

    Raises:
        NotComparable: there is no column of predictions.
    """
    predictions = outcomes.columns.get(roles.inference_attribute)
    if predictions is None:
        raise NotComparable(f"there is no column {roles.inference_attribute!r} with predictions")
    return ValueOutcomes(_numbers(predictions), _numbers(outcomes.labels))


def class_names(roles: Roles, signature: Signature, *sources: Outcomes) -> tuple[str, ...]:
    """Names of the classes by number: the model's own, those of its probability columns, else those observed.

    Raises:
        NotComparable: there are none, or more than `MOST_CLASSES`.
    """
    named = next((names for source in sources if (names := _named_classes(source, roles, signature))), ())
    names = named or _ordered({name for source in sources for name in _observed_classes(source, roles)})
    if set(names) <= {"0", "1"}:
        names = ("0", "1")
    if len(names) > MOST_CLASSES:
        raise NotComparable(f"there are {len(names)} classes where {MOST_CLASSES} can be compared")
    return names


def unusable(outcomes: Outcomes, signature: Signature) -> int:
    """Labelled rows whose label is no class of the model; 0 where nothing names its classes."""
    names = _named_classes(outcomes, Roles(), signature)
    if not names:
        return 0
    return int(np.count_nonzero(present(outcomes.labels) & (encode(outcomes.labels, names) == MISSING)))


def fitting(problem: ProblemType, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes as the problem takes them: exactly two for a binary one, a class never seen filled in.

    Raises:
        NotComparable: a binary problem has more than two.
    """
    if problem != "BinaryClassification":
        return tuple(classes)
    if len(classes) > 2:
        raise NotComparable(f"problem_type is {problem}, but there are the classes {', '.join(classes[:8])}")
    return (*classes, "(other)", "(none)")[:2]


def classes_of(outcomes: Outcomes, roles: Roles, classes: Sequence[str]) -> ClassOutcomes:
    """Predictions, labels and probabilities by the numbers of `classes`.

    Raises:
        NotComparable: neither labels nor probabilities are predicted, or the positive class is unknown.
    """
    positive = _positive(roles, classes)
    probabilities = _probabilities(outcomes, roles, classes, positive)
    predicted = outcomes.columns.get(roles.inference_attribute)
    if predicted is not None:
        predictions = encode(predicted, classes)
    elif probabilities is not None:
        predictions = _decided(probabilities, positive, roles.probability_threshold_attribute)
    else:
        raise NotComparable(f"there is no column {roles.inference_attribute!r} and none with probabilities")
    return ClassOutcomes(tuple(classes), positive, predictions, encode(outcomes.labels, classes), probabilities)


def column_of(values: Sequence[object]) -> Array:
    """Loose values as one column: numbers when all are numbers or missing, else texts."""
    if all(value is None or isinstance(value, bool | int | float) for value in values):
        return np.array([_float(value) for value in values], np.float64)
    texts = np.empty(len(values), dtype=object)
    texts[:] = [None if value is None else value_text(value) for value in values]
    return texts


def value_text(value: object) -> str:
    """A value as the name of a class: `1`, `1.0`, True and "1.0" are all `1`; other texts stay."""
    if isinstance(value, str):
        number = _float(value)
        return value.strip() if math.isnan(number) else value_text(number)
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, int | float | np.number):
        return str(int(value)) if math.isfinite(value) and float(value).is_integer() else repr(float(value))
    return str(value)[:1000]


def present(column: Array) -> NDArray[np.bool_]:
    """Which values of a column are there."""
    if column.dtype == object:
        return np.array([value is not None for value in column], np.bool_)
    if column.dtype.kind == "f":
        return ~np.isnan(column.astype(np.float64))
    return np.ones(column.shape, np.bool_)


def encode(column: Array, classes: Sequence[str]) -> NDArray[np.int64]:
    """The class number of each value, by name or else, for whole numbers, by index; `MISSING` for others."""
    numbers = {value_text(name): number for number, name in enumerate(classes)}
    for index in range(len(classes)):
        numbers.setdefault(str(index), index)
    if column.dtype == object:
        known: dict[Any, int] = {None: MISSING}
        coded = np.empty(column.shape, np.int64)
        for place, value in enumerate(column):
            if value not in known:
                if len(known) > 10 * MOST_CLASSES:  # hostile: a new text in every row
                    known = {None: MISSING}
                known[value] = numbers.get(value_text(value), MISSING)
            coded[place] = known[value]
        return coded
    distinct, inverse = np.unique(column, return_inverse=True)
    codes = [numbers.get(value_text(value), MISSING) for value in distinct[: 10 * MOST_CLASSES].tolist()]
    codes += [MISSING] * (distinct.size - len(codes))
    return np.array(codes, np.int64)[inverse] if distinct.size else np.zeros(0, np.int64)


def _named_classes(outcomes: Outcomes, roles: Roles, signature: Signature) -> tuple[str, ...]:
    if signature.label_names:
        return signature.label_names
    if roles.probability_attribute:
        return ()
    return tuple(name.removeprefix(PROBABILITY) for name in outcomes.columns if name.startswith(PROBABILITY))


def _observed_classes(outcomes: Outcomes, roles: Roles) -> tuple[str, ...]:
    seen: set[str] = set()
    for column in (outcomes.columns.get(roles.inference_attribute), outcomes.labels):
        if column is not None:
            known = column[present(column)]
            values = set(known.tolist()) if known.dtype == object else np.unique(known).tolist()
            if len(values) > MOST_CLASSES:
                raise NotComparable(f"there are {len(values)} classes where {MOST_CLASSES} can be compared")
            seen |= {value_text(value) for value in values}
    return _ordered(seen)


def _ordered(names: set[str]) -> tuple[str, ...]:
    """Numbers by size and before texts, which are in order of the alphabet."""
    return tuple(sorted(names, key=lambda name: (math.isnan(_float(name)), _rank(_float(name)), name)))


def _rank(number: float) -> float:
    return 0.0 if math.isnan(number) else number


def _float(value: object) -> float:
    if value is None:
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        return math.nan


def _numbers(column: Array) -> NDArray[np.float64]:
    if column.dtype == object:
        return np.array([_float(value) for value in column], np.float64)
    return column.astype(np.float64)


def _positive(roles: Roles, classes: Sequence[str]) -> int:
    if not roles.positive_class:
        return min(1, len(classes) - 1)
    names = [value_text(name) for name in classes]
    wanted = value_text(roles.positive_class)
    if wanted not in names:
        raise NotComparable(f"the positive class {wanted[:80]!r} is none of {', '.join(names[:8])}")
    return names.index(wanted)


def _probabilities(
    outcomes: Outcomes, roles: Roles, classes: Sequence[str], positive: int
) -> NDArray[np.float64] | None:
    """Rows x classes; a single column counts for the positive class of two."""
    if roles.probability_attribute:
        column = outcomes.columns.get(roles.probability_attribute)
        if column is None:
            raise NotComparable(f"there is no column {roles.probability_attribute!r} with probabilities")
        if len(classes) != 2:
            raise NotComparable("probability_attribute names one column, which is enough for two classes only")
        sure = _numbers(column)
        pair = np.stack([1.0 - sure, sure], axis=1)
        return pair if positive == 1 else np.ascontiguousarray(pair[:, ::-1])
    by_class = {
        value_text(name.removeprefix(PROBABILITY)): column
        for name, column in outcomes.columns.items()
        if name.startswith(PROBABILITY)
    }
    if not by_class or any(value_text(name) not in by_class for name in classes):
        return None
    return np.stack([_numbers(by_class[value_text(name)]) for name in classes], axis=1)


def _decided(probabilities: NDArray[np.float64], positive: int, threshold: float) -> NDArray[np.int64]:
    """The class that probabilities predict: over the threshold with two classes, else the most probable."""
    known: NDArray[np.bool_] = np.asarray(~np.isnan(probabilities).any(axis=1))
    if probabilities.shape[1] == 2:
        chosen = np.where(probabilities[:, positive] > threshold, positive, 1 - positive)
    else:
        chosen = np.argmax(np.where(known[:, None], probabilities, 0.0), axis=1)
    return np.where(known, chosen, MISSING).astype(np.int64)
