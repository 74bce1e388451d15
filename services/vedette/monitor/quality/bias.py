"""From outcomes to bias metrics: favourable answers, a table of counts per facet, and how sure the figures are.

Rule: metrics of predictions alone use every predicted row, the others the labelled ones. Randomness is seeded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.monitor.quality import bias_metrics as formulas
from vedette.monitor.quality.bias_metrics import Counts, Flags
from vedette.monitor.quality.facets import Facet
from vedette.monitor.quality.outcomes import PREDICTION, PROBABILITY, NotComparable, Outcomes, encode, values_of
from vedette.monitor.quality.performance import Reading

_RESAMPLES = 200
_MOST_FLIPPED = 2_000
_MOST_GROUPS = 100
_MOST_TEXTS = 20
_LARGEST = 1e100
"""Features beyond it count as it: their squares must stay numbers."""

BY_NAME = {metric.name: metric for metric in (*formulas.POST_TRAINING, *formulas.PRE_TRAINING)}
POST_TRAINING = (*(metric.name for metric in formulas.POST_TRAINING), formulas.FLIP_TEST[0])
PRE_TRAINING = tuple(metric.name for metric in formulas.PRE_TRAINING)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Which rows were answered favourably, in prediction and in truth, and of which that is known."""

    predicted: Flags
    predicted_known: Flags
    labels: Flags
    labels_known: Flags


def answers_of(reading: Reading, outcomes: Outcomes, favourable: Sequence[str]) -> Answers:
    """Predictions and labels as favourable or not: by class names, or by one threshold (exclusive) in a regression.

    Raises:
        NotComparable: what is favourable is not said and does not follow, or is no class or number.
    """
    if reading.problem == "Regression":
        values, threshold = values_of(outcomes, reading.roles), _threshold(favourable)
        with np.errstate(invalid="ignore"):
            return Answers(
                values.predictions > threshold,
                ~np.isnan(values.predictions),
                values.labels > threshold,
                ~np.isnan(values.labels),
            )
    found = reading.classified(outcomes)
    wanted = _classes(reading, favourable, found.positive)
    return Answers(
        np.isin(found.predictions, wanted), found.predictions >= 0, np.isin(found.labels, wanted), found.labels >= 0
    )


def _threshold(favourable: Sequence[str]) -> float:
    try:
        (threshold,) = map(float, favourable)
    except ValueError:
        raise NotComparable("label_values_or_threshold must be one number for a regression") from None
    return threshold


def _classes(reading: Reading, favourable: Sequence[str], positive: int) -> list[int]:
    if not favourable:
        if reading.problem != "BinaryClassification":
            raise NotComparable("say in label_values_or_threshold which classes are favourable")
        return [positive]
    names = np.empty(len(favourable), dtype=object)
    names[:] = favourable
    codes: list[int] = encode(names, reading.classes).tolist()
    if -1 in codes:
        raise NotComparable(f"{favourable[codes.index(-1)][:80]!r} is none of the classes {reading.classes[:8]}")
    return codes


@dataclass(frozen=True, slots=True, eq=False)
class FacetTable:
    """The rows of one facet and of its outside, counted."""

    predicted: Counts
    """Every predicted row; the label's axis is 0 throughout."""
    labelled: Counts
    """The rows with a prediction and a label."""
    flipped: NDArray[np.int64]
    """See `bias_metrics.flips`."""

    def rows(self, metric: str) -> tuple[int, int]:
        """Rows outside and in the facet that the metric is of."""
        outside, inside = self._counts(metric).sum(axis=(0, 2, 3)).astype(int).tolist()
        return outside, inside

    def value(self, metric: str) -> float:
        """The metric; infinite where something is divided by nothing."""
        if metric == formulas.FLIP_TEST[0]:
            return formulas.flip_test(self.flipped)
        return BY_NAME[metric].formula(self._counts(metric))

    def errors(self, metrics: Sequence[str], seed: int = 0) -> dict[str, float]:
        """The standard error of each metric by 200 resamples of the counts; NaN where most of them are infinite."""
        generator = np.random.default_rng(seed)
        drawn: dict[str, list[float]] = {name: [] for name in metrics if name in BY_NAME}
        for needs_labels, counts in ((True, self.labelled), (False, self.predicted)):
            names = [name for name in drawn if BY_NAME[name].needs_labels is needs_labels]
            if names and counts.sum():
                for _ in range(_RESAMPLES):
                    again = formulas.resampled(counts, generator)
                    for name in names:
                        drawn[name].append(BY_NAME[name].formula(again))
        errors = {name: _deviation(values) for name, values in drawn.items()}
        if self.flipped.size:
            errors[formulas.FLIP_TEST[0]] = float(self.flipped.std()) / math.sqrt(self.flipped.size)
        return errors

    def _counts(self, metric: str) -> Counts:
        known = BY_NAME.get(metric)
        return self.labelled if known is not None and known.needs_labels else self.predicted


def table_of(
    outcomes: Outcomes, answers: Answers, *, facet: Facet, group_variable: str, metrics: Sequence[str]
) -> FacetTable:
    """The counts of one facet.

    Raises:
        NotComparable: a column is missing.
    """
    inside, known = facet.flags(outcomes)
    groups = _groups(outcomes, group_variable)
    told = known & answers.predicted_known
    judged = told & answers.labels_known
    flipped = np.zeros(0, np.int64)
    if formulas.FLIP_TEST[0] in metrics:
        rows = np.flatnonzero(told)
        if rows.size > _MOST_FLIPPED:
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:_MOST_FLIPPED])
        flipped = formulas.flips(_features(outcomes.take(rows), facet.column), inside[rows], answers.predicted[rows])
    return FacetTable(
        formulas.count(inside[told], np.zeros(int(told.sum()), np.bool_), answers.predicted[told], groups[told]),
        formulas.count(inside[judged], answers.labels[judged], answers.predicted[judged], groups[judged]),
        flipped,
    )


def _groups(outcomes: Outcomes, name: str) -> NDArray[np.int64]:
    """The number of each row's group; missing values are a group of their own."""
    if not name:
        return np.zeros(outcomes.rows, np.int64)
    column = outcomes.columns.get(name)
    if column is None:
        raise NotComparable(f"there is no column {name!r} for group_variable")
    texts = ["" if value is None else str(value) for value in column.tolist()]
    numbers = {text: number for number, text in enumerate(sorted(set(texts)))}
    if len(numbers) > _MOST_GROUPS:
        raise NotComparable(f"group_variable {name!r} has {len(numbers)} values; {_MOST_GROUPS} are compared")
    return np.array([numbers[text] for text in texts], np.int64)


def _features(outcomes: Outcomes, facet: str) -> NDArray[np.float64]:
    """Features but the facet as numbers: missing ones are the mean, texts of few values one column each."""
    made: list[NDArray[np.float64]] = []
    for name, column in outcomes.columns.items():
        if name in (facet, PREDICTION) or name.startswith(PROBABILITY):
            continue
        if column.dtype != object:
            values = np.clip(column.astype(np.float64), -_LARGEST, _LARGEST)
            known = np.isfinite(values)
            made.append(np.where(known, values, values[known].mean() if known.any() else 0.0))
        else:
            seen = sorted({value for value in column.tolist() if value is not None})
            if len(seen) <= _MOST_TEXTS:
                made += [(column == value).astype(np.float64) for value in seen]
    return np.stack(made, axis=1) if made else np.zeros((outcomes.rows, 0))


def _deviation(values: Sequence[float]) -> float:
    known = np.array([value for value in values if math.isfinite(value)])
    return float(known.std()) if known.size > 0.9 * len(values) else math.nan
