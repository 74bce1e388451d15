"""Baselines, monitors and what they find, as plain immutable values; field names as in documents and tables.

Rule: these classes hold facts; what may change when is the monitor's business. Times are seconds since the epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Literal

from vedette.core.models import ArtifactFile

CheckParameter = bool | int | float | str | tuple[str, ...]

STATISTICS_FILE = "statistics.json"
CONSTRAINTS_FILE = "constraints.json"
PROFILE_FILE = "profile.bin"
"""The files of a baseline: SageMaker's two documents and the serialised `profiles.Profile`."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Statistics and constraints of reference data, bound to a model version; its files are an artifact."""

    model: str
    version: int
    name: str
    digest: str
    """sha256 over the manifest of `files`: names the artifact in the store."""
    files: tuple[ArtifactFile, ...]
    rows: int
    columns: int
    created_at: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class CreatedBaseline(Baseline):
    """A baseline that was just computed, with what its data did not allow: equal to the one that is kept."""

    left_out: tuple[str, ...] = ()
    """Sentences: what was not measured and why, and columns of which some rows hold another kind of value."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Baseline):
            return NotImplemented
        return all(getattr(self, each.name) == getattr(other, each.name) for each in fields(Baseline))

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, each.name) for each in fields(Baseline)))


class MonitorStatus(StrEnum):
    """SageMaker's ScheduleStatus."""

    PENDING = "Pending"
    """Its endpoint, or the baseline that a check needs, does not exist yet."""
    SCHEDULED = "Scheduled"
    STOPPED = "Stopped"
    """Paused: nothing is evaluated or delivered."""
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """One check of a monitor by its name, with the parameters that differ from its defaults."""

    check: str
    parameters: dict[str, CheckParameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When a violated check becomes an alert: N of the last M windows, and when it ends."""

    datapoints_to_alert: int = 1
    evaluation_period: int = 1
    """Violated in `datapoints_to_alert` of the last so many windows: firing (SageMaker's names)."""
    resolve_after: int = 2
    """Windows in a row without a violation after which a firing alert is resolved."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """Checks on one endpoint, window by window."""

    name: str
    endpoint: str
    checks: tuple[CheckSettings, ...] = (CheckSettings("data_quality"), CheckSettings("drift"))
    baseline: str = "default"
    """Name of the baseline of each model version that windows are compared with."""
    window_s: float = 300.0
    """Length of a tumbling window of event time: 5 s to 31 days."""
    lateness_s: float = math.nan
    """How long after a window's end its events may still arrive before it is evaluated; where it is not said, a tenth
    of the window, and from 1 s to 5 min."""
    schedule: str = "continuous"
    """`continuous`: evaluated as event time passes. Else SageMaker's cron expression, hours only."""
    min_rows: int = 100
    """A window with fewer rows is reported as too small and raises nothing."""
    segments: tuple[str, ...] = ()
    """Features by whose values windows are split as well, beside the whole."""
    alert: AlertRule = AlertRule()
    webhooks: tuple[str, ...] = ()
    """Names of the webhooks that are told; empty: all of them."""
    reports: Literal["violations", "on_demand"] = "violations"
    """When an Evidently report is drawn by itself."""
    status: MonitorStatus = MonitorStatus.SCHEDULED
    reason: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0

    def __post_init__(self) -> None:
        if math.isnan(self.lateness_s):
            object.__setattr__(self, "lateness_s", min(max(1.0, self.window_s / 10), 300.0))


class ExecutionStatus(StrEnum):
    """SageMaker's MonitoringExecutionStatus, as far as a window has a use for it."""

    COMPLETED = "Completed"
    WITH_VIOLATIONS = "CompletedWithViolations"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check said of one feature in one window."""

    check: str
    feature: str
    """Empty: of the window as a whole."""
    outcome: Literal["ok", "violated", "skipped"]
    value: float | None = None
    """The score that was compared; None when there is none. Never NaN: that is `skipped`."""
    threshold: float | None = None
    p_value: float | None = None
    """After correction over the features of the window; None for checks without a test."""
    kind: str = ""
    """SageMaker's constraint_check_type, or the check's own name."""
    description: str = ""
    """What a person should read: what was expected and what was seen."""


@dataclass(frozen=True, slots=True)
class Execution:
    """The one stored result of a window of one monitor, variant, version and segment."""

    id: str
    monitor: str
    endpoint: str
    variant: str
    version: str
    segment: str
    """`feature=value`, or empty for the whole window."""
    start: float
    end: float
    rows: int
    status: ExecutionStatus
    results: tuple[CheckResult, ...] = ()
    reason: str = ""
    """Why nothing was compared (empty window, too few rows, no baseline) or what failed."""
    revision: int = 1
    """Grows when late labels re-open the result."""
    labels: int = 0
    """Rows of the window whose ground truth is known."""
    counts: dict[str, int] = field(default_factory=dict)
    """What was set aside, by reason: late, duplicate, unreadable, unknown_column, ..."""
    evaluated_at: float = 0.0

    @property
    def violations(self) -> tuple[CheckResult, ...]:
        """The results that are violated."""
        return tuple(result for result in self.results if result.outcome == "violated")
