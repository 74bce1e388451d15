"""Performance of classifiers without labels: confidence-based performance estimation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vedette.core.errors import VedetteError
from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import at_least
from vedette.monitor.quality.classification_metrics import MULTICLASS_METRICS
from vedette.monitor.quality.estimates import Figures, Range, compared, realized_of
from vedette.monitor.quality.expected_performance import calibrations_of, expected_metrics
from vedette.monitor.quality.outcomes import Roles
from vedette.monitor.quality.performance import reading_of
from vedette.monitor.quality.reference import reference_of, window_of
from vedette.monitor.wording import left_out

BINARY = ("accuracy", "auc", "f1", "precision", "recall")


@dataclass(frozen=True, slots=True)
class Cbpe(Roles):
    """Estimates accuracy, AUC, F1, precision and recall of a classifier from its own probabilities.

    The probabilities are calibrated on the labelled rows of the baseline where that makes them truer. An
    estimate is violated when it is worse than the baseline's realised figure by more than `deviations` standard
    deviations of samples as large as the window. Where labels are known, the realised figure is judged beside
    it. Estimates follow a shift of the inputs; that the same inputs now mean something else only labels can tell.
    """

    name: ClassVar[str] = "cbpe"

    deviations: float = 3.0
    """How many standard deviations worse than the baseline a figure may be."""
    min_rows: int = 100
    """With fewer rows, in the window or labelled in the baseline, nothing is estimated."""

    def __post_init__(self) -> None:
        Roles.__post_init__(self)
        at_least("deviations", self.deviations, 0)
        at_least("min_rows", self.min_rows, 30)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        """Results `estimated_<metric>`, and `realized_<metric>` once 50 labels are known."""
        try:
            return self._evaluate(evidence)
        except VedetteError as error:
            return [self._skipped(error.message)]

    def _evaluate(self, evidence: Evidence) -> list[CheckResult]:
        window = window_of(evidence)
        if window.rows < self.min_rows:
            return [self._skipped(f"{window.rows} rows are fewer than {self.min_rows}")]
        reference = reference_of(evidence, self)
        reading = reading_of(self, evidence.signature, reference, window)
        if reading.problem == "Regression":
            return [self._skipped("this is a regression: the check `dle` estimates its errors")]
        known = reading.performance(reference)
        if known.rows < self.min_rows:
            return [self._skipped(f"{known.rows} rows of the baseline have a label, fewer than {self.min_rows}")]
        live = reading.classified(window)
        estimated = expected_metrics(live, calibrations_of(reading.classified(reference)))
        return compared(
            self.name,
            BINARY if reading.problem == "BinaryClassification" else MULTICLASS_METRICS,
            estimated=Figures(estimated, live.predictions.size),
            realized=realized_of(reading, window),
            allowed=Range.of(known),
            deviations=self.deviations,
        )

    def _skipped(self, why: str) -> CheckResult:
        return left_out(self.name, why)
