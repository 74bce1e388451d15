"""The rows of reference data that checks of quality compare with, and the window's own rows.

Rule: they come from the baseline's sample, which is bounded; predictions that the reference data does not
hold are made by the model itself, where it is at hand.
"""

from __future__ import annotations

from vedette.core.models import Signature
from vedette.monitor.evidence import Evidence
from vedette.monitor.quality.outcomes import PROBABILITY, NotComparable, Outcomes, Roles
from vedette.profiles.profile import Columns

_LABEL = "label"


def reference_of(evidence: Evidence, roles: Roles) -> Outcomes:
    """The reference rows with predictions and labels, as far as the reference data has them.

    Raises:
        NotComparable: there is no baseline, or it holds no predictions and the model is not at hand.
    """
    found = features_of_reference(evidence, roles)
    if predicted(found, roles):
        return found
    if evidence.predict is None:
        raise NotComparable(
            f"the reference data has no column {roles.inference_attribute!r}: "
            "add the model's predictions to the baseline's data"
        )
    return found.with_columns(evidence.predict(found.columns))


def features_of_reference(evidence: Evidence, roles: Roles) -> Outcomes:
    """The reference rows as they are, with predictions or without.

    Raises:
        NotComparable: there is no baseline.
    """
    if evidence.reference_outcomes is not None:
        return evidence.reference_outcomes
    if evidence.baseline is None or not len(evidence.baseline.sample):
        raise NotComparable("there is no reference data: create a baseline")
    columns = evidence.baseline.sample.columns()
    return Outcomes.of(columns, label=label_column(roles, evidence.signature, columns))


def window_of(evidence: Evidence) -> Outcomes:
    """The window's rows, labelled or not: those kept for labels, else the sample of its profile."""
    if evidence.outcomes is not None and evidence.outcomes.rows:
        return evidence.outcomes
    return Outcomes.of(evidence.window.sample.columns())


def label_column(roles: Roles, signature: Signature, columns: Columns) -> str:
    """The column of labels in reference data: as said, else the model's target, else `label`; "" when there is none."""
    wanted = [roles.ground_truth_attribute] if roles.ground_truth_attribute else [signature.target, _LABEL]
    return next((name for name in wanted if name and name in columns), "")


def predicted(outcomes: Outcomes, roles: Roles) -> bool:
    """Whether the rows hold predictions: labels, values or probabilities."""
    if roles.inference_attribute in outcomes.columns or roles.probability_attribute in outcomes.columns:
        return True
    return any(name.startswith(PROBABILITY) for name in outcomes.columns)
