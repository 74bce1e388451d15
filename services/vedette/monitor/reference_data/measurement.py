"""What is measured on a baseline's labelled rows: model quality, and by an analysis config bias and attributions.

The documents are SageMaker's: model_quality_statistics.json, model_quality_constraints.json, analysis.json.

Rule: rows come in drawn, the model is asked for a bounded number of them, and randomness is seeded.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.core.tensors import Array
from vedette.monitor.quality.attribution import Attributions, Explainer, explanations_document
from vedette.monitor.quality.bias import Answers, answers_of, table_of
from vedette.monitor.quality.bias_documents import ANALYSIS_DOCUMENT, FacetBias, analysis_document
from vedette.monitor.quality.facets import Facet, expanded, facets_of
from vedette.monitor.quality.outcomes import (
    PREDICTION,
    NotComparable,
    Outcomes,
    Predict,
    Roles,
    column_of,
    unusable,
)
from vedette.monitor.quality.performance import Reading, reading_of
from vedette.monitor.quality.quality_documents import (
    CONSTRAINTS_DOCUMENT,
    STATISTICS_DOCUMENT,
    constraints_document,
    statistics_document,
    suggest,
)
from vedette.monitor.quality.reference import label_column, predicted
from vedette.monitor.quality.shapley import rows_asked
from vedette.monitor.reference_data.analysis_config import (
    MOST_BACKGROUND,
    AnalysisConfig,
    Explanation,
    read_analysis_config,
)
from vedette.profiles.profile import Columns

MODEL_ROWS = 50_000
"""Rows that the model predicts, and again as many that it is asked for attributions."""
MOST_MEASURED = 50
"""Facets, once each value of a column is one."""
_CALL_ROWS = 10_000
_EXPLAINED = 100
_LEAST_EXPLAINED = 10
_BACKGROUND = 10


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a caller says of the labelled rows; nothing: model quality is measured where the columns allow it."""

    target: str = ""
    """The column of labels; empty: the model's target, or `label`."""
    problem_type: str = ""
    prediction: str = ""
    """The column of predictions; empty: `prediction`."""
    probability: str = ""
    """The column of the positive class's probability; empty: the columns `probability_<class>`."""
    positive_class: str = ""
    analysis: str = ""
    """Clarify's analysis_config.json; empty: neither bias nor attributions are measured."""

    def __post_init__(self) -> None:
        self.roles()

    @property
    def demanded(self) -> bool:
        """Whether it is an error that nothing can be measured."""
        return any((self.problem_type, self.prediction, self.probability, self.positive_class, self.analysis))

    def config(self) -> AnalysisConfig | None:
        """The analysis config, read."""
        return read_analysis_config(self.analysis) if self.analysis else None

    def label(self) -> str:
        """The column of labels as it was named, by itself or in the analysis config; empty: nobody said."""
        named = (config.label if (config := self.config()) else "") or self.target
        if self.target and named != self.target:
            raise InvalidArgument(f"target is {self.target[:80]!r}, and the analysis config says {named[:80]!r}")
        return named

    def roles(self) -> Roles:
        """Which columns mean what.

        Raises:
            InvalidArgument: no such problem type, or the analysis config is none.
        """
        config = self.config()
        told = config.probability_threshold if config else None
        return Roles(
            problem_type=self.problem_type,
            inference_attribute=self.prediction or PREDICTION,
            probability_attribute=self.probability,
            probability_threshold_attribute=0.5 if told is None else told,
            ground_truth_attribute=self.label(),
            positive_class=self.positive_class,
        )

    def check(self, signature: Signature, columns: Sequence[str], answers: Sequence[str]) -> None:
        """Refuse names that are no columns of the data, and a problem that is none of the model's.

        Args:
            answers: columns that the model gives where the data lacks them.

        Raises:
            InvalidArgument: naming the option.
        """
        wanted = (("target", self.label(), ()), ("prediction", self.prediction, answers))
        for option, name, others in (*wanted, ("probability", self.probability, answers)):
            if name and name not in columns and name not in others:
                near = difflib.get_close_matches(name[:200], list(columns)[:1000], n=1)
                hint = f" (is it {near[0][:80]!r}?)" if near else ""
                raise InvalidArgument(f"{option}: the data has no column {name[:80]!r}{hint}")
        if self.problem_type == "Regression" and signature.label_names:
            named = ", ".join(signature.label_names[:8])
            raise InvalidArgument(f"problem_type is Regression, but the model has the classes {named}")

    def label_in(self, signature: Signature, columns: Sequence[str]) -> str:
        """The column of labels among these; empty: there is none."""
        return label_column(self.roles(), signature, dict.fromkeys(columns, np.zeros(0)))

    def asks_model(self, signature: Signature, columns: Sequence[str]) -> bool:
        """Whether data with these columns is measured with the model's help."""
        config = self.config()
        if config is not None and config.explanation is not None:
            return True
        there = Outcomes.of(dict.fromkeys(columns, np.zeros(0)))
        return bool(self.label_in(signature, columns)) and not predicted(there, self.roles())

    def wants(self, signature: Signature, columns: Sequence[str], features: Sequence[str]) -> frozenset[str]:
        """The columns that are measured; features only where they are looked at."""
        if self.analysis or self.asks_model(signature, columns):
            return frozenset(columns)
        return frozenset(columns) - frozenset(features) if self.label_in(signature, columns) else frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """The rows to measure, and what they are rows of."""

    columns: Columns
    signature: Signature
    features: tuple[str, ...]
    """In the order in which the model takes them."""
    predict: Predict | None = None
    """The model itself; None: it is not at hand."""

    def measured(self, measurement: Measurement) -> dict[str, bytes]:
        """The documents by name.

        Raises:
            NotComparable: labels or predictions are missing; says which.
            VedetteError: the model failed.
        """
        config = measurement.config()
        documents: dict[str, dict[str, Any]] = {}
        analysis: dict[str, Any] = {"version": "1.0"}
        if config is None or config.facets or measurement.label_in(self.signature, list(self.columns)):
            outcomes = self._outcomes(measurement)
            reading = reading_of(measurement.roles(), self.signature, outcomes)
            documents |= _quality(reading, outcomes)
            if config is not None and config.facets:
                label = measurement.label_in(self.signature, list(self.columns))
                analysis |= _bias(reading, outcomes, config, label)
        if config is not None and config.explanation is not None:
            analysis |= explanations_document(self._attributions(config.explanation))
        if config is not None:
            documents[ANALYSIS_DOCUMENT] = analysis
        return {name: msgspec.json.format(msgspec.json.encode(each), indent=2) for name, each in documents.items()}

    def unusable(self, measurement: Measurement) -> list[str]:
        """What is to be said of labels that are no class of the model."""
        label = measurement.label_in(self.signature, list(self.columns))
        count = unusable(Outcomes.of(self.columns, label=label), self.signature) if label else 0
        return [f"{count} rows were not measured: their {label[:80]!r} is no class of the model"] if count else []

    def _outcomes(self, measurement: Measurement) -> Outcomes:
        """The rows with labels and predictions, the data's own or the model's."""
        roles = measurement.roles()
        label = measurement.label_in(self.signature, list(self.columns))
        if not label:
            named = roles.ground_truth_attribute or self.signature.target or "label"
            raise NotComparable(f"the data has no column {named[:80]!r} with labels")
        found = Outcomes.of(self.columns, label=label)
        if not found.labelled:
            raise NotComparable(f"the column {label[:80]!r} is empty")
        if unusable(found, self.signature) == found.labelled and measurement.problem_type != "Regression":
            raise NotComparable(
                f"no {label[:80]!r} is a class of the model, {', '.join(self.signature.label_names[:8])}"
            )
        if predicted(found, roles):
            return found
        if self.predict is None:
            raise NotComparable(
                f"the data has no column {roles.inference_attribute!r} and the model cannot be fetched: "
                "add its predictions to the data"
            )
        if found.rows > MODEL_ROWS:
            found = found.take(np.sort(np.random.default_rng(0).permutation(found.rows)[:MODEL_ROWS]))
        return found.with_columns(_answers(self.predict, {name: found.columns[name] for name in self.features}))

    def _attributions(self, asked: Explanation) -> Attributions:
        if self.predict is None:
            raise NotComparable("the model cannot be fetched, which attributions are made of")
        order = np.random.default_rng(asked.seed).permutation(len(next(iter(self.columns.values()), ())))
        background = self._background(asked, order)
        size = len(next(iter(background.values())))
        explained = min(_EXPLAINED, MODEL_ROWS // rows_asked(1, size, len(self.features)))
        chosen = np.sort(order[::-1][: max(explained, _LEAST_EXPLAINED)])
        explainer = Explainer(self.predict, background, asked.aggregation, asked.seed)
        return explainer.attributions(self._rows(chosen))

    def _background(self, asked: Explanation, order: NDArray[np.int64]) -> dict[str, Array]:
        """The rows that were given, else as many of the data as `num_samples` allows."""
        if asked.baseline:
            if any(len(row) != len(self.features) for row in asked.baseline):
                raise InvalidArgument(f"a row of methods.shap.baseline has the model's {len(self.features)} features")
            return {name: column_of(values) for name, *values in zip(self.features, *asked.baseline)}
        size = _BACKGROUND
        if asked.model_rows:
            size = min(MOST_BACKGROUND, max(1, asked.model_rows // rows_asked(1, 1, len(self.features))))
        while size > 1 and rows_asked(_LEAST_EXPLAINED, size, len(self.features)) > MODEL_ROWS:
            size //= 2
        return self._rows(np.sort(order[:size]))

    def _rows(self, which: NDArray[np.int64]) -> dict[str, Array]:
        return {name: self.columns[name][which] for name in self.features}


def _answers(predict: Predict, columns: Columns) -> dict[str, Array]:
    """The model's answers, asked block by block."""
    rows = len(next(iter(columns.values()), ()))
    starts = range(0, rows, _CALL_ROWS)
    parts = [predict({name: each[start : start + _CALL_ROWS] for name, each in columns.items()}) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _quality(reading: Reading, outcomes: Outcomes) -> dict[str, dict[str, Any]]:
    performance = reading.performance(outcomes)
    if not performance.rows:
        raise NotComparable("no row has both a label and a prediction")
    return {
        STATISTICS_DOCUMENT: statistics_document(performance),
        CONSTRAINTS_DOCUMENT: constraints_document(performance.problem, suggest(performance)),
    }


def _bias(reading: Reading, outcomes: Outcomes, config: AnalysisConfig, label: str) -> dict[str, Any]:
    answers = answers_of(reading, outcomes, config.favourable)
    chosen = [facet for each in config.facets for facet in facets_of(each.column, each.values, outcomes)]
    facets = expanded(chosen, outcomes)
    if len(facets) > MOST_MEASURED:
        raise InvalidArgument(f"the facets come to {len(facets)} groups; {MOST_MEASURED} are measured")
    measured = [_facet(facet, outcomes, answers, config) for facet in facets]
    return analysis_document(label, _favourable(reading, config), measured)


def _facet(facet: Facet, outcomes: Outcomes, answers: Answers, config: AnalysisConfig) -> FacetBias:
    table = table_of(outcomes, answers, facet=facet, group_variable=config.group_variable, metrics=config.metrics)
    values = {name: table.value(name) for name in config.metrics if min(table.rows(name))}
    if config.metrics and not values:
        raise NotComparable(f"the facet {facet} has no rows in it, or none outside it")
    return FacetBias(facet.column, facet.shown(outcomes.columns[facet.column]), values)


def _favourable(reading: Reading, config: AnalysisConfig) -> str:
    if config.favourable:
        return ",".join(config.favourable)
    return reading.roles.positive_class or (reading.classes[1] if len(reading.classes) == 2 else "")
