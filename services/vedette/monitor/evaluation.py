"""One window judged: its profile, the baseline and the monitor's checks make an execution. Blocks; no I/O of its own.

Rule: there is always a result. A check that fails takes only itself down, and says so by its name.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vedette.core.errors import VedetteError
from vedette.core.models import Signature
from vedette.entities.monitors import CheckResult, CheckSettings, Execution, ExecutionStatus, Monitor
from vedette.monitor.checks import make_check
from vedette.monitor.evidence import NO_BASELINE, Evidence
from vedette.monitor.quality.outcomes import Outcomes, Predict, unusable
from vedette.monitor.reference_data.segment_baselines import SegmentBaseline
from vedette.monitor.references import Reference
from vedette.monitor.subjects import check_labels, check_of
from vedette.ports.monitors import WindowKey, WindowState
from vedette.profiles import Profile

log = logging.getLogger(__name__)

QUALITY = frozenset({"bias", "cbpe", "dle", "model_quality"})
"""Checks that look at ground truth: predictions are kept for them, and late labels have them made again."""
ASKING = QUALITY | {"feature_attribution"}
"""Checks that may ask the model itself."""
UNUSABLE = "unusable_labels"
"""What labelled rows are counted as whose label is no class of the model."""
MAX_RESULTS = 5_000
_MAX_TEXT = 1_000
_UNKNOWN = Signature(inputs=(), outputs=())


@dataclass(slots=True)
class Progress:
    """How far an evaluation is, for whoever waits for it."""

    check: str = ""
    """The label of the check under way; empty: none was begun."""
    stuck: frozenset[str] = frozenset()
    """Labels of checks that have not ended in an earlier window, and are not begun again meanwhile."""


@dataclass(frozen=True, slots=True)
class Case:
    """All that a window is judged by."""

    state: WindowState
    monitor: Monitor
    signature: Signature = _UNKNOWN
    reference: Reference | None = None
    missing: str = ""
    """Why there is no reference."""
    named: tuple[str, ...] = ()
    """Values of the segment's feature that have segments of their own."""
    outcomes: Outcomes | None = None
    predict: Predict | None = field(default=None, compare=False)
    progress: Progress = field(default_factory=Progress, compare=False)


def execution_id(key: WindowKey) -> str:
    """The id of the one result of a window: the same whenever it is evaluated."""
    text = "\0".join((key.monitor, key.variant, key.version, key.segment, repr(key.start)))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def evaluate(case: Case, now: float) -> Execution:
    """The first result of a window."""
    if reason := _too_little(case):
        return _execution(case, now, [], reason)
    if reason := _incomparable(case):
        return _execution(case, now, [], reason, failed=True)
    results, failures = _run(case, lambda _: True)
    return _execution(case, now, results, "; ".join(failures), failed=bool(failures))


def evaluate_again(case: Case, previous: Execution, now: float) -> Execution:
    """The result with the checks of ground truth made again, because labels came after it."""
    labels = case.outcomes.labelled if case.outcomes else 0
    if _too_little(case) or _incomparable(case):
        counts = _execution(case, now, [], "").counts
        return replace(previous, revision=previous.revision + 1, labels=labels, counts=counts, evaluated_at=now)
    results, failures = _run(case, lambda settings: settings.check in QUALITY)
    kept = [result for result in previous.results if check_of(result.check) not in QUALITY]
    fresh = _execution(case, now, [*kept, *results], "; ".join(failures), failed=bool(failures))
    if previous.status is ExecutionStatus.FAILED and not failures:
        fresh = replace(fresh, status=previous.status, reason=previous.reason)
    return replace(fresh, revision=previous.revision + 1, rows=previous.rows)


def failed(state: WindowState, monitor: Monitor, reason: str, now: float) -> Execution:
    """The result of a window that could not be evaluated at all."""
    return _execution(Case(state, monitor), now, [], reason, failed=True)


def _too_little(case: Case) -> str:
    """Why there is nothing to compare, which is no fault; empty: there is something."""
    state, least = case.state, max(1, case.monitor.min_rows)
    if state.reason:
        return state.reason
    if not state.rows:
        requests = state.counts.get("requests", 0)
        return f"no rows: {requests} requests failed" if requests else "no rows"
    if state.rows < least:
        return f"too few rows: {state.rows} of at least {least}"
    return ""


def _incomparable(case: Case) -> str:
    """Why a window with rows cannot be compared: somebody has to see to it; empty: it can."""
    if case.reference is None:
        return case.missing or f"no baseline {case.monitor.baseline!r}"
    return case.reference.trouble


def _evidence(case: Case) -> Evidence:
    reference = case.reference
    whole = SegmentBaseline(reference.profile if reference else None)
    segment = case.state.key.segment
    baseline = reference.segment(segment, case.named) if reference and segment else whole
    return Evidence(
        window=Profile.from_bytes(case.state.profile) if case.state.profile else Profile(),
        baseline=baseline.profile,
        no_baseline=baseline.reason or NO_BASELINE,
        constraints=reference.constraints if reference else None,
        signature=case.signature,
        excluded=frozenset(case.state.excluded),
        outcomes=case.outcomes,
        predict=case.predict,
        documents=reference.documents if reference else {},
    )


def _run(case: Case, wanted: Callable[[CheckSettings], bool]) -> tuple[list[CheckResult], list[str]]:
    """The results of the wanted checks, and what is to be said of those that failed."""
    evidence = _evidence(case)
    results: list[CheckResult] = []
    failures: list[str] = []
    checks = case.monitor.checks
    for label, each in zip(check_labels(checks), checks):
        if not wanted(each):
            continue
        if label in case.progress.stuck:
            failures.append(f"check {label!r} was not begun: it has not ended in an earlier window")
            continue
        case.progress.check = label
        try:
            results += [_plain(result, label) for result in make_check(each).evaluate(evidence)]
        except VedetteError as error:
            failures.append(f"check {label!r} failed: {error.message[:_MAX_TEXT]}")
        except Exception:
            log.exception("a check failed unexpectedly", extra={"check": label, "monitor": case.monitor.name})
            failures.append(f"check {label!r} failed: internal error, see the log of the monitor service")
    own = case.state.key.segment.partition("=")[0]  # it makes the segment, and says nothing of it
    return [result for result in results if not own or result.feature != own][:MAX_RESULTS], failures


def _plain(result: CheckResult, label: str) -> CheckResult:
    """A result that every reader can take: the check by its label, finite numbers, bounded text."""
    return replace(
        result,
        check=label,
        feature=_text(result.feature),
        value=_finite(result.value),
        threshold=_finite(result.threshold),
        p_value=_finite(result.p_value),
        description=_text(result.description),
    )


def _unusable(case: Case) -> int:
    """Labelled rows of which no check of ground truth can use the label."""
    values = any(settings.parameters.get("problem_type") == "Regression" for settings in case.monitor.checks)
    return 0 if case.outcomes is None or values else unusable(case.outcomes, case.signature)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _text(text: str) -> str:
    return text[:_MAX_TEXT].replace("\0", "�").encode(errors="replace").decode()


def _execution(case: Case, now: float, results: list[CheckResult], reason: str, *, failed: bool = False) -> Execution:
    state, key = case.state, case.state.key
    status = ExecutionStatus.COMPLETED
    if any(result.outcome == "violated" for result in results):
        status = ExecutionStatus.WITH_VIOLATIONS
    if failed:
        status = ExecutionStatus.FAILED
    return Execution(
        execution_id(key),
        key.monitor,
        state.endpoint,
        key.variant,
        key.version,
        key.segment,
        key.start,
        state.end,
        state.rows,
        status,
        tuple(results),
        reason,
        labels=case.outcomes.labelled if case.outcomes else 0,
        counts={name: count for name, count in {**state.counts, UNUSABLE: _unusable(case)}.items() if count},
        evaluated_at=now,
    )
