"""Performance of regressions without labels: direct loss estimation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vedette.core.errors import VedetteError
from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import at_least
from vedette.monitor.quality.estimates import Figures, Range, compared, realized_of
from vedette.monitor.quality.loss_model import expected_losses
from vedette.monitor.quality.outcomes import NotComparable, Outcomes, Roles, values_of
from vedette.monitor.quality.performance import Reading, reading_of
from vedette.monitor.quality.reference import reference_of, window_of
from vedette.monitor.wording import left_out

METRICS = ("mae", "mse", "rmse")
_LARGEST = 1e50
"""Errors beyond it, or infinite, are not learned from."""


@dataclass(frozen=True, slots=True)
class Dle(Roles):
    """Estimates mae, mse and rmse of a regression by a model of its errors.

    Boosted trees learn the size of the error from features and prediction on the labelled rows of the baseline.
    An estimate is violated when it is worse than the baseline's realised figure by more than `deviations`
    standard deviations of samples as large as the window. Where labels are known, the realised figure is judged
    beside it. Estimates follow a shift towards inputs that the baseline has; for others they know nothing.
    """

    name: ClassVar[str] = "dle"

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
        if reading.problem != "Regression":
            return [self._skipped("this is a classifier: the check `cbpe` estimates its performance")]
        known = reading.performance(reference)
        if known.rows < self.min_rows:
            return [self._skipped(f"{known.rows} rows of the baseline have a label, fewer than {self.min_rows}")]
        judged = window.take(np.isfinite(values_of(window, self).predictions))
        if judged.rows < self.min_rows:
            return [self._skipped(f"{judged.rows} rows have a prediction, fewer than {self.min_rows}")]
        return compared(
            self.name,
            METRICS,
            estimated=Figures(self._estimated(reading, reference, judged), judged.rows),
            realized=realized_of(reading, window),
            allowed=Range.of(known),
            deviations=self.deviations,
        )

    def _estimated(self, reading: Reading, reference: Outcomes, window: Outcomes) -> dict[str, float]:
        read = values_of(reference, reading.roles)
        with np.errstate(over="ignore", invalid="ignore"):
            missed = np.abs(read.predictions - read.labels)
        known = missed < _LARGEST
        if known.sum() < self.min_rows:
            raise NotComparable("the errors of the baseline's rows are too large to learn from")
        learned, missed = reference.take(known), missed[known]
        absolute, squared = (float(each.mean()) for each in expected_losses(learned, (missed, missed**2), window))
        return {"mae": absolute, "mse": squared, "rmse": math.sqrt(squared)}

    def _skipped(self, why: str) -> CheckResult:
        return left_out(self.name, why)
