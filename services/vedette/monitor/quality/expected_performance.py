"""What a classifier probably achieves on rows whose labels are not known (CBPE).

Confidence-based performance estimation, as NannyML publishes it: with calibrated probabilities, each row adds
to the confusion matrix its chance of being of each class; metrics of that expected matrix are the estimates.
It holds while the meaning of the probabilities holds: covariate shift is seen, a changed concept is not.

Rule: pure functions; the calibration is learned on the reference's labelled rows and never on the window's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vedette.monitor.quality import classification_metrics as classification
from vedette.monitor.quality.calibration import Calibration, calibrated
from vedette.monitor.quality.outcomes import ClassOutcomes, NotComparable

Values = NDArray[np.float64]
Calibrations = Sequence[Calibration | None]
"""One for each class; None: its probabilities are taken as they are."""


def calibrations_of(reference: ClassOutcomes) -> Calibrations:
    """How far the probabilities of labelled reference rows are to be believed, class by class.

    Raises:
        NotComparable: the model tells no probabilities.
    """
    known = _complete(reference.labelled())
    told = _probabilities(known)
    if len(known.classes) == 2:  # one curve serves both, so that the two chances add up to 1
        positive = known.positive
        curve = calibrated(told[:, positive], (known.labels == positive).astype(np.float64))
        return [curve if number == positive else None for number in range(2)]
    return [
        calibrated(told[:, number], (known.labels == number).astype(np.float64)) for number in range(len(known.classes))
    ]


def chances(outcomes: ClassOutcomes, calibrations: Calibrations) -> Values:
    """Rows x classes: how probable each class is, by calibrated probabilities that add up to 1."""
    told = np.clip(_probabilities(outcomes), 0.0, 1.0)
    if len(outcomes.classes) == 2:
        curve, scores = calibrations[outcomes.positive], told[:, outcomes.positive]
        sure = scores if curve is None else curve(scores)
        made = np.empty_like(told)
        made[:, outcomes.positive], made[:, 1 - outcomes.positive] = sure, 1.0 - sure
        return made
    made = np.stack([told[:, i] if one is None else one(told[:, i]) for i, one in enumerate(calibrations)], axis=1)
    totals = made.sum(axis=1, keepdims=True)
    return np.where(totals > 0, made / np.where(totals > 0, totals, 1.0), 1.0 / made.shape[1])


def expected_metrics(outcomes: ClassOutcomes, calibrations: Calibrations) -> dict[str, float]:
    """The metrics that are to be expected of these rows; labels are not looked at.

    Raises:
        NotComparable: no row has a prediction and probabilities.
    """
    known = _complete(outcomes)
    if not known.predictions.size:
        raise NotComparable("no row has a prediction and all its probabilities")
    probable = chances(known, calibrations)
    matrix = np.stack([np.bincount(known.predictions, column, len(known.classes)) for column in probable.T]).astype(
        np.float64
    )  # true class by predicted class, as the metrics take it
    if len(known.classes) != 2:
        return classification.multiclass_metrics(matrix)
    swept = classification.sweep(_probabilities(known)[:, known.positive], probable[:, known.positive])
    return {**classification.binary_metrics(matrix, known.positive), "auc": swept.auc}


def _complete(outcomes: ClassOutcomes) -> ClassOutcomes:
    told = _probabilities(outcomes)
    return outcomes.take((outcomes.predictions >= 0) & np.isfinite(told).all(axis=1))


def _probabilities(outcomes: ClassOutcomes) -> Values:
    if outcomes.probabilities is None:
        raise NotComparable("the model tells no probabilities, which estimates without labels are made of")
    return outcomes.probabilities
