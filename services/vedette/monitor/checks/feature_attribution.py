"""Feature attribution drift: the order of importance of the features now and in the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from vedette.core.errors import InvalidArgument, VedetteError
from vedette.core.tensors import Array
from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.quality.attribution import ANALYSIS_DOCUMENT, Attributions, Explainer, read_explanations
from vedette.monitor.quality.outcomes import PREDICTION, PROBABILITY, NotComparable, Outcomes, Predict, Roles
from vedette.monitor.quality.reference import features_of_reference, window_of
from vedette.monitor.quality.shapley import Attribution, ndcg, rows_asked
from vedette.monitor.wording import left_out, readable

_KIND = "feature_attribution_drift_check"
_LEAST_ROWS = 10
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class FeatureAttribution(Roles):
    """Compares the order of the features by importance with the baseline's, by nDCG.

    Shapley values of up to `num_rows` rows of the window against `num_background` rows of the baseline give each
    feature its importance (mean absolute value) for each class, and so do as many rows of the baseline itself;
    or the baseline's `analysis.json` tells its values in Clarify's schema. A normalised discounted cumulative
    gain below `threshold` is a violation: features that mattered most in the baseline no longer do. The model
    is run in a process of its own, on at most `max_model_rows` rows for each side; fewer rows are explained where
    that does not suffice.
    """

    name: ClassVar[str] = "feature_attribution"

    threshold: float = 0.9
    """The least nDCG; SageMaker's is 0.90."""
    num_rows: int = 100
    """Rows of the window that are explained, at most."""
    num_background: int = 10
    """Rows of the baseline that they are compared with."""
    agg_method: Literal["mean_abs", "median", "mean_sq"] = "mean_abs"
    """How Shapley values of rows become one importance."""
    max_model_rows: int = 50_000
    """Rows that the model is run on for each side, at most."""
    seed: int = 0
    """Of the rows and permutations that are drawn."""

    def __post_init__(self) -> None:
        Roles.__post_init__(self)
        if not 0.0 <= self.threshold <= 1.0:
            raise InvalidArgument("threshold is a number from 0 to 1")
        if not (_LEAST_ROWS <= self.num_rows <= 2_000 and 1 <= self.num_background <= 200):
            raise InvalidArgument(f"num_rows is {_LEAST_ROWS} to 2000, num_background 1 to 200")
        if not (0 < self.max_model_rows <= 10_000_000 and self.seed >= 0):
            raise InvalidArgument("max_model_rows is 1 to 10,000,000, seed 0 or more")

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        """One result per class; `feature` is the label, `label0` for a single output."""
        try:
            if evidence.predict is None:
                raise NotComparable("the model is not at hand to be asked")
            return self._evaluate(evidence, evidence.predict)
        except VedetteError as error:
            return [self._skipped("", error.message)]

    def _evaluate(self, evidence: Evidence, predict: Predict) -> list[CheckResult]:
        reference, window = features_of_reference(evidence, self), window_of(evidence)
        names = _features(evidence, reference, window)
        rows, background = self._sizes(len(names))
        if min(window.rows, reference.rows - background) < _LEAST_ROWS:
            raise NotComparable(f"{window.rows} rows of the window and {reference.rows} of the baseline are too few")
        explainer = Explainer(predict, _rows(reference, names, np.arange(background)), self.agg_method, self.seed)
        generator = np.random.default_rng(self.seed)
        chosen = np.sort(generator.permutation(window.rows)[:rows])
        live = explainer.attributions(_rows(window, names, chosen))
        baseline = self._documented(evidence)
        if not baseline:
            others = np.arange(background, min(background + rows, reference.rows))
            baseline = explainer.attributions(_rows(reference, names, others))
        return [self._judged(label, baseline.get(label), one, chosen.size) for label, one in live.items()]

    def _sizes(self, features: int) -> tuple[int, int]:
        """How many rows are explained against how many, so that the model's rows suffice."""
        background = self.num_background
        while background > 1 and rows_asked(_LEAST_ROWS, background, features) > self.max_model_rows:
            background -= 1
        rows = min(self.num_rows, self.max_model_rows // rows_asked(1, background, features))
        if rows < _LEAST_ROWS:
            raise NotComparable(f"{features} features are too many for max_model_rows {self.max_model_rows}")
        return rows, background

    def _documented(self, evidence: Evidence) -> Attributions:
        document = evidence.documents.get(ANALYSIS_DOCUMENT)
        return read_explanations(document) if document is not None else {}

    def _judged(self, label: str, baseline: Attribution | None, live: Attribution, rows: int) -> CheckResult:
        if baseline is None:
            return self._skipped(label, "the baseline has no attributions for this label")
        value = ndcg(baseline, live.ranked())
        violated = value < self.threshold
        return CheckResult(
            check=self.name,
            feature=label,
            outcome="violated" if violated else "ok",
            value=value,
            threshold=self.threshold,
            kind=_KIND,
            description=readable(
                f"Feature attribution drift {value:.6g} {'exceeds' if violated else 'is within'} threshold "
                f"{self.threshold:g} on {rows} rows. In the baseline the most important are {_leading(baseline)}; "
                f"now {_leading(live)}"
            ),
        )

    def _skipped(self, feature: str, why: str) -> CheckResult:
        return left_out(self.name, why, feature=feature, kind=_KIND)


def _features(evidence: Evidence, reference: Outcomes, window: Outcomes) -> list[str]:
    """The model's features; both sides must have them all, for it cannot be asked without."""
    wanted = evidence.signature.feature_names or [
        name for name in reference.columns if name != PREDICTION and not name.startswith(PROBABILITY)
    ]
    names = [name for name in wanted if name in reference.columns and name in window.columns]
    missing = [name for name in wanted if name not in names]
    if evidence.signature.feature_names and missing:
        raise NotComparable(f"{missing[0][:80]!r} is not among the captured features or not in the baseline's data")
    if not names:
        raise NotComparable("window and baseline have no feature in common")
    return names


def _rows(outcomes: Outcomes, names: list[str], rows: Array) -> dict[str, Array]:
    return {name: outcomes.columns[name][rows] for name in names}


def _leading(attribution: Attribution) -> str:
    return ", ".join(f"{name[:40]} ({attribution.importance[name]:.3g})" for name in attribution.ranked()[:_MOST_NAMED])
