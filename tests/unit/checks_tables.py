"""Tables, and evidence made of them, for the tests of checks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import Array
from vedette.entities.monitors import CheckResult, CheckSettings
from vedette.monitor.checks import make_check
from vedette.monitor.evidence import Evidence
from vedette.monitor.quality.outcomes import Outcomes
from vedette.monitor.reference_data.constraints import Constraints, suggest
from vedette.profiles import Layout, Profile

Table = Mapping[str, Array]
NAMES = ("age", "income", "city")
SIGNATURE = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 3)),),
    outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
    feature_names=NAMES,
    label_names=("no", "yes"),
    kind="tabular",
    target="churn",
)
"""Of a classifier with two classes over the columns of `people`."""


def texts(values: object) -> Array:
    """A column of texts."""
    return np.array(values, dtype=object)


def people(rows: int, *, seed: int = 0) -> dict[str, Array]:
    """Two numeric features, one text feature, and what a model said of them."""
    rng = np.random.default_rng(seed)
    age = np.floor(rng.gamma(9.0, 4.5, rows))
    income = rng.lognormal(3.0, 0.5, rows)
    city = texts(["Bonn", "Kiel", "Ulm"])[rng.choice(3, rows, p=[0.5, 0.3, 0.2])]
    chance = 1 / (1 + np.exp(-(income / 20 - age / 40)))
    return {
        "age": age,
        "income": income,
        "city": city,
        "prediction": texts(["no", "yes"])[(chance > 0.5).astype(int)],
        "probability_no": 1 - chance,
        "probability_yes": chance,
    }


def profiled(table: Table, layout: Layout | None = None) -> Profile:
    """The profile of a table."""
    profile = Profile(layout)
    profile.fold(table)
    return profile


def compared(baseline: Table, window: Table, *, constraints: Constraints | None = None) -> Evidence:
    """A window folded as the monitor does, over the baseline's layout, with the constraints that it suggests."""
    before = profiled(baseline)
    after = profiled(window, Layout.of(before))
    return Evidence(after, before, constraints or suggest(before), SIGNATURE)


def with_labels(evidence: Evidence, baseline: Table, window: Table, *, seed: int = 0) -> Evidence:
    """The same with ground truth for both sides, drawn from the probabilities, and a model to ask."""
    rng = np.random.default_rng(seed)

    def labelled(table: Table) -> Outcomes:
        chance = np.asarray(table["probability_yes"], dtype=float)
        return Outcomes(dict(table), texts(["no", "yes"])[(rng.random(len(chance)) < chance).astype(int)])

    return Evidence(
        evidence.window,
        evidence.baseline,
        evidence.constraints,
        evidence.signature,
        outcomes=labelled(window),
        reference_outcomes=labelled(baseline),
        predict=answers,
    )


def answers(columns: Table) -> dict[str, Array]:
    """A model over two features: what `people` computes."""
    age, income = (np.asarray(columns[name], dtype=float) for name in ("age", "income"))
    chance = 1 / (1 + np.exp(-(income / 20 - age / 40)))
    labels = texts(["no", "yes"])[(chance > 0.5).astype(int)]
    return {"prediction": labels, "probability_no": 1 - chance, "probability_yes": chance}


def run(evidence: Evidence, check: str, **parameters: bool | float | str) -> dict[str, CheckResult]:
    """The results of a check by feature; of several kinds for one feature the last."""
    return {result.feature: result for result in results(evidence, check, **parameters)}


def results(evidence: Evidence, check: str, **parameters: bool | float | str) -> list[CheckResult]:
    """All results of a check."""
    return make_check(CheckSettings(check, dict(parameters))).evaluate(evidence)
