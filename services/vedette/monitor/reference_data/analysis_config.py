"""Clarify's analysis_config.json, as far as it says what is to be measured on a baseline's labelled rows.

Rule: what is understood is taken as Clarify takes it, what only its jobs need is ignored by name, and anything else
is refused: a misspelt key must not measure something else in silence.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vedette.core.errors import InvalidArgument
from vedette.monitor.quality.bias import POST_TRAINING, PRE_TRAINING
from vedette.monitor.quality.outcomes import value_text
from vedette.monitor.quality.quality_documents import read_object
from vedette.monitor.quality.shapley import AGGREGATIONS

NAME = "analysis_config.json"
MOST_CHARACTERS = 16_384
MOST_FACETS = 20
MOST_BACKGROUND = 200
Value = bool | int | float | str

_UNDERSTOOD = (
    *("headers", "label", "label_values_or_threshold", "facet", "group_variable", "methods"),
    "probability_threshold",
)
_IGNORED = (
    *("version", "dataset_type", "dataset_uri", "features", "predictor", "predicted_label_headers"),
    *("predicted_label_dataset_uri", "predicted_label", "joinsource_name_or_index"),
)
_BIAS = {"pre_training_bias": PRE_TRAINING, "post_training_bias": POST_TRAINING}
_METHODS = (*_BIAS, "shap")
_SHAP = ("baseline", "num_samples", "agg_method", "use_logit", "save_local_shap_values", "seed")


@dataclass(frozen=True, slots=True)
class FacetConfig:
    """One sensitive column."""

    column: str
    values: tuple[Value, ...] = ()
    """Its values, or the one threshold of a continuous column; empty: each value that it has."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `methods.shap` asks for."""

    baseline: tuple[tuple[Value | None, ...], ...] = ()
    """Background rows, features in the order of the model; empty: rows of the data."""
    model_rows: int = 0
    """Rows that the model is asked for each explained one (`num_samples`); 0: not said."""
    aggregation: str = "mean_abs"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class AnalysisConfig:
    """What is to be measured."""

    label: str = ""
    favourable: tuple[str, ...] = ()
    facets: tuple[FacetConfig, ...] = ()
    group_variable: str = ""
    metrics: tuple[str, ...] = ()
    """Of bias, by Clarify's short names."""
    probability_threshold: float | None = None
    explanation: Explanation | None = None


def read_analysis_config(text: str) -> AnalysisConfig:
    """The configuration in a document.

    Raises:
        InvalidArgument: it is none, asks for what is not done here, or for nothing; the message names the place.
    """
    if len(text) > MOST_CHARACTERS:
        raise InvalidArgument(f"{NAME} is longer than {MOST_CHARACTERS:,} characters")
    document = read_object(text.encode(errors="replace"), NAME)
    _check_keys(document, (*_UNDERSTOOD, *_IGNORED), "")
    headers = _list(document, "headers", str)
    facets = _facets(document.get("facet", []), headers)
    methods = _object(document.get("methods", {}), "methods")
    _check_keys(methods, (*_METHODS, "report"), "methods: ")
    if not facets and "shap" not in methods:
        raise InvalidArgument(f"{NAME} asks for nothing: name a facet, or methods.shap")
    favourable = document.get("label_values_or_threshold", [])
    return AnalysisConfig(
        label=_column(document.get("label", ""), headers, "label"),
        favourable=tuple(value_text(value) for value in _values(favourable, "label_values_or_threshold")),
        facets=facets,
        group_variable=_column(document.get("group_variable", ""), headers, "group_variable"),
        metrics=_metrics(methods) if facets else (),
        probability_threshold=_threshold(document.get("probability_threshold")),
        explanation=_explanation(methods["shap"]) if "shap" in methods else None,
    )


def _check_keys(document: dict[str, Any], known: Sequence[str], where: str) -> None:
    for key in document:
        if key not in known:
            near = difflib.get_close_matches(key[:80], known, n=1)
            hint = f"; is it {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise InvalidArgument(f"{NAME}: {where}{key[:80]!r} is not done here{hint}")


def _facets(told: object, headers: Sequence[str]) -> tuple[FacetConfig, ...]:
    entries = [told] if isinstance(told, dict) else told
    if not isinstance(entries, list) or len(entries) > MOST_FACETS:
        raise InvalidArgument(f"{NAME}: facet is a list of at most {MOST_FACETS} objects")
    found = []
    for entry in entries:
        given = _object(entry, "facet")
        _check_keys(given, ("name_or_index", "value_or_threshold"), "facet: ")
        column = _column(given.get("name_or_index", ""), headers, "name_or_index")
        if not column:
            raise InvalidArgument(f"{NAME}: a facet has no name_or_index")
        found.append(FacetConfig(column, _values(given.get("value_or_threshold", []), "value_or_threshold")))
    return tuple(found)


def _column(told: object, headers: Sequence[str], place: str) -> str:
    """A column by its name, or by its number among the headers."""
    if isinstance(told, str):
        return told[:200]
    if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < len(headers):
        return headers[told]
    raise InvalidArgument(f"{NAME}: {place} is the name of a column, or its number among headers")


def _metrics(methods: dict[str, Any]) -> tuple[str, ...]:
    """Those that are named; where neither kind is, all of both."""
    if not any(kind in methods for kind in _BIAS):
        return (*PRE_TRAINING, *POST_TRAINING)
    found: list[str] = []
    for kind, known in _BIAS.items():
        if kind in methods:
            wanted = _object(methods[kind], kind).get("methods", "all")
            names = list(known) if wanted == "all" else wanted
            if not isinstance(names, list) or not {str(name) for name in names} <= {*known}:
                raise InvalidArgument(f"{NAME}: {kind}.methods is 'all' or some of {', '.join(known)}")
            found += names
    return tuple(dict.fromkeys(found))


def _explanation(told: object) -> Explanation:
    shap = _object(told, "methods.shap")
    _check_keys(shap, _SHAP, "methods.shap: ")
    if shap.get("use_logit"):
        raise InvalidArgument(f"{NAME}: methods.shap: use_logit is not done here")
    aggregation = shap.get("agg_method", "mean_abs")
    if aggregation not in AGGREGATIONS:
        raise InvalidArgument(f"{NAME}: methods.shap: agg_method is one of {', '.join(AGGREGATIONS)}")
    rows = shap.get("baseline") or []
    if not isinstance(rows, list) or len(rows) > MOST_BACKGROUND or not all(isinstance(row, list) for row in rows):
        raise InvalidArgument(f"{NAME}: methods.shap: baseline is a list of at most {MOST_BACKGROUND} rows")
    background = tuple(tuple(_value(value, "baseline") for value in row) for row in rows)
    return Explanation(background, _count(shap, "num_samples"), aggregation, _count(shap, "seed"))


def _count(shap: dict[str, Any], name: str) -> int:
    told = shap.get(name, 0)
    if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told < 2**31:
        raise InvalidArgument(f"{NAME}: methods.shap: {name} is a whole number")
    return told


def _values(told: object, place: str) -> tuple[Value, ...]:
    found = [_value(value, place) for value in (told if isinstance(told, list) else [told])]
    return tuple(value for value in found if value is not None)


def _value(told: object, place: str) -> Value | None:
    if told is None or (isinstance(told, str) and len(told) <= 200):
        return told
    if isinstance(told, bool | int) or (isinstance(told, float) and math.isfinite(told)):
        return told
    raise InvalidArgument(f"{NAME}: {place} holds what is neither a number nor a short text")


def _threshold(told: object) -> float | None:
    if told is None:
        return None
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0.0 <= told <= 1.0:
        raise InvalidArgument(f"{NAME}: probability_threshold is a number from 0 to 1")
    return float(told)


def _list(document: dict[str, Any], name: str, of: type) -> list[Any]:
    told = document.get(name, [])
    if not isinstance(told, list) or not all(isinstance(each, of) for each in told):
        raise InvalidArgument(f"{NAME}: {name} is a list of texts")
    return told


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{NAME}: {place} is not an object")
    return value
