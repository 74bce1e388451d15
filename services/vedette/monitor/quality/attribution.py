"""What a model pays attention to: global Shapley values of its outputs, and Clarify's documents of them.

Rule: the model is asked for a bounded number of rows; which rows are explained follows from the seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vedette.core.errors import InvalidArgument
from vedette.entities.monitors import CheckResult
from vedette.monitor.quality.outcomes import PREDICTION, PROBABILITY, NotComparable, Predict
from vedette.monitor.quality.quality_documents import read_object
from vedette.monitor.quality.shapley import AGGREGATIONS, Attribution, shapley_values
from vedette.ports.baselines import ANALYSIS_FILE
from vedette.profiles.profile import Columns

ANALYSIS_DOCUMENT = ANALYSIS_FILE
METHOD = "kernel_shap"
"""Clarify's name for the values, whichever way they are estimated."""
SINGLE = "label0"
"""Clarify's name for the only output."""

_MOST_OUTPUTS = 50

Attributions = Mapping[str, Attribution]
"""By label."""


@dataclass(frozen=True, slots=True)
class Explainer:
    """A model with the rows that it is explained against."""

    predict: Predict
    background: Columns
    """Feature columns; every one of them is explained."""
    aggregation: str = "mean_abs"
    seed: int = 0

    def attributions(self, rows: Columns) -> dict[str, Attribution]:
        """The global importance of each feature for each output, over these rows.

        Raises:
            NotComparable: the model tells nothing but names of classes.
            VedetteError: the model failed.
        """
        labels: list[str] = []

        def scores(columns: Columns) -> NDArray[np.float64]:
            labels[:], values = _scores(self.predict(columns))
            return values

        expected = scores(self.background).mean(axis=0)
        values = shapley_values(scores, {name: rows[name] for name in self.background}, self.background, seed=self.seed)
        overall = AGGREGATIONS[self.aggregation](values)
        return {
            label: Attribution(dict(zip(self.background, overall[:, place].tolist())), float(expected[place]))
            for place, label in enumerate(labels)
        }


def _scores(answers: Columns) -> tuple[list[str], NDArray[np.float64]]:
    """The outputs that can be explained: class probabilities (of two, the second is enough), else the value."""
    told = [name for name in answers if name.startswith(PROBABILITY)]
    told = told[1:] if len(told) == 2 else told[:_MOST_OUTPUTS]
    if not told and PREDICTION in answers:
        told = [PREDICTION]
    numeric = [name for name in told if answers[name].dtype != object]
    if not numeric:
        raise NotComparable("the model tells neither probabilities nor a number, which attributions are made of")
    values = np.stack([answers[name].astype(np.float64) for name in numeric], axis=1)
    labels = [SINGLE] if len(numeric) == 1 else [name.removeprefix(PROBABILITY) for name in numeric]
    return labels, np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def explanations_document(attributions: Attributions) -> dict[str, Any]:
    """The attributions in Clarify's schema."""
    labels = {
        label: {"global_shap_values": dict(one.importance), "expected_value": one.expected_value}
        for label, one in attributions.items()
    }
    return {"version": "1.0", "explanations": {METHOD: labels}}


def read_explanations(data: bytes) -> dict[str, Attribution]:
    """The attributions of an analysis.json; empty when it has none.

    Raises:
        InvalidArgument: it is no such document; the message names the place.
    """
    explanations = _object(read_object(data, ANALYSIS_DOCUMENT).get("explanations", {}), "explanations")
    labels = _object(explanations.get(METHOD, {}), METHOD)
    return {str(label): _attribution(str(label), value) for label, value in labels.items()}


def _attribution(label: str, value: object) -> Attribution:
    told = _object(value, label)
    named = _object(told.get("global_shap_values"), f"{label[:80]}.global_shap_values")
    if not all(_is_number(one) for one in named.values()) or not _is_number(told.get("expected_value", 0.0)):
        raise InvalidArgument(f"{ANALYSIS_DOCUMENT}: {label[:80]} holds what is no number")
    return Attribution({str(name): float(one) for name, one in named.items()}, float(told.get("expected_value", 0.0)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{ANALYSIS_DOCUMENT}: {place[:80]} is not an object")
    return value


def violations_document(results: Iterable[CheckResult]) -> dict[str, Any]:
    """The violated results of the check `feature_attribution`, whose `feature` is the label, in Clarify's schema."""
    return {
        "version": "1.0",
        "violations": [
            {
                "label": one.feature,
                "metric_name": "shap",
                "constraint_check_type": one.kind,
                "description": one.description,
            }
            for one in results
            if one.outcome == "violated"
        ],
    }
