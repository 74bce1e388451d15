"""What a check may look at: one window, the baseline it is compared with, and the model's own facts.

Rule: evidence is read and never written; a check that needs a part that is missing says so in a skipped result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vedette.core.models import Signature
from vedette.monitor.quality.outcomes import Outcomes, Predict
from vedette.monitor.reference_data.constraints import Constraints
from vedette.profiles import Profile

NO_BASELINE = "There is no baseline to compare with."
_UNKNOWN = Signature(inputs=(), outputs=())


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One window of one variant and version, and what it is judged by."""

    window: Profile
    baseline: Profile | None = None
    constraints: Constraints | None = None
    signature: Signature = _UNKNOWN
    excluded: frozenset[str] = frozenset()
    """Columns that are cut out of captures: the window may lack them."""
    outcomes: Outcomes | None = None
    """The window's predictions and the labels known so far; None: no labels are kept."""
    reference_outcomes: Outcomes | None = None
    """The baseline's predictions and labels."""
    predict: Predict | None = None
    """The model itself, for attribution; blocks while it runs."""
    documents: Mapping[str, bytes] = field(default_factory=dict)
    """Other files of the baseline by name: model quality constraints, analysis.json."""
    no_baseline: str = NO_BASELINE
    """What to say where `baseline` is None."""
