"""Alerts as a state machine: ok -> pending -> firing -> resolved, by what the last windows said.

Rule: `TRANSITIONS` is the whole machine, and everything is pure but `record`, its two halves and `retire`. Those run
inside the transaction that stores the execution, so that a result, what it moves and what is sent are one thing; what
many late labels move is told once, at the end of their round (`monitor.revisions`).

A history has one letter per window: `x` violated, `.` not, `-` nothing compared, `o` violated before the alert
was last resolved, which counts no more. A window that compared nothing takes no place among the last M: labels of
newer windows have not come yet when those of an older one tell of a violation.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from vedette.core.errors import InvalidArgument
from vedette.entities.alerts import Alert, AlertState, Notification
from vedette.entities.monitors import AlertRule, CheckResult, Execution, ExecutionStatus, Monitor
from vedette.monitor.alerting.grouping import Occasion, tell
from vedette.monitor.subjects import check_labels, label_of, names_faults_only, subject
from vedette.ports.alerts import AlertGroup, AlertLedger, Datapoint

KEPT_LETTERS = 100
"""Length of a history, and so the largest number of windows that a rule may look at."""
_DESCRIPTIONS = 3
_DESCRIPTION_CHARACTERS = 1_000


class Signal(StrEnum):
    """What a history says under a rule."""

    NONE = "none"
    """No violation in the evaluation period."""
    SHORT = "short"
    """Violations, but fewer than alert."""
    MET = "met"
    """Enough violations to alert."""
    QUIET = "quiet"
    """No violation in the evaluation period, and enough windows without one to resolve."""
    FADING = "fading"
    """Violations in the evaluation period, but enough windows without one since to resolve."""


OK, PENDING, FIRING, RESOLVED = AlertState.OK, AlertState.PENDING, AlertState.FIRING, AlertState.RESOLVED

TRANSITIONS: dict[tuple[AlertState, Signal], AlertState] = {
    (OK, Signal.NONE): OK,
    (OK, Signal.SHORT): PENDING,
    (OK, Signal.MET): FIRING,
    (OK, Signal.QUIET): OK,
    (OK, Signal.FADING): PENDING,
    (PENDING, Signal.NONE): OK,
    (PENDING, Signal.SHORT): PENDING,
    (PENDING, Signal.MET): FIRING,
    (PENDING, Signal.QUIET): OK,
    (PENDING, Signal.FADING): PENDING,
    (FIRING, Signal.NONE): FIRING,
    (FIRING, Signal.SHORT): FIRING,
    (FIRING, Signal.MET): FIRING,
    (FIRING, Signal.QUIET): RESOLVED,
    (FIRING, Signal.FADING): RESOLVED,
    (RESOLVED, Signal.NONE): RESOLVED,
    (RESOLVED, Signal.SHORT): PENDING,
    (RESOLVED, Signal.MET): FIRING,
    (RESOLVED, Signal.QUIET): RESOLVED,
    (RESOLVED, Signal.FADING): PENDING,
}


def check_rule(rule: AlertRule) -> None:
    """Refuse a rule that can never fire, fires always, or looks further back than histories go.

    Raises:
        InvalidArgument: not 1 <= datapoints_to_alert <= evaluation_period <= 100, or resolve_after not 1 to 100.
    """
    if not 1 <= rule.datapoints_to_alert <= rule.evaluation_period <= KEPT_LETTERS:
        raise InvalidArgument(
            f"an alert needs 1 <= datapoints_to_alert <= evaluation_period <= {KEPT_LETTERS}, "
            f"not {rule.datapoints_to_alert} of {rule.evaluation_period}"
        )
    if not 1 <= rule.resolve_after <= KEPT_LETTERS:
        raise InvalidArgument(f"resolve_after is 1 to {KEPT_LETTERS} windows, not {rule.resolve_after}")


def signal(history: str, rule: AlertRule) -> Signal:
    """What the history says of its compared windows: the others neither age violations nor are quiet ones."""
    history = history.replace("-", "")
    violated = history[-rule.evaluation_period :].count("x")
    if history.rpartition("x")[2].count(".") >= rule.resolve_after:
        return Signal.FADING if violated else Signal.QUIET
    if violated >= rule.datapoints_to_alert:
        return Signal.MET
    return Signal.SHORT if violated else Signal.NONE


def move(state: AlertState, history: str, rule: AlertRule) -> tuple[AlertState, str]:
    """The state that follows, and the history with what a resolution has used up."""
    after = TRANSITIONS[state, signal(history, rule)]
    if after is RESOLVED and state is FIRING:
        history = history.replace("x", "o")
    return after, history


def written(history: str, letter: str, *, back: int, again: bool) -> str:
    """The history with `letter` at the place `back` windows before its last; `again` replaces the letter there.

    A history that does not reach that far begins with windows that were not violated.
    """
    history = history.rjust(back + again, ".")
    at = len(history) - back - again
    if letter == "x" and "o" in history[at:]:
        letter = "o"  # it came to light after the resolution of a later violation
    return (history[:at] + letter + history[at + again :])[-KEPT_LETTERS:]


def place(datapoints: Sequence[Datapoint], execution: Execution) -> tuple[tuple[Datapoint, ...], int, bool] | None:
    """Datapoints with this execution, how many come after it, and whether it was there; None: it is too old."""
    starts = [point.start for point in datapoints]
    known = [index for index, point in enumerate(datapoints) if point.execution == execution.id]
    if known:
        return tuple(datapoints), len(datapoints) - 1 - known[0], True
    at = bisect_right(starts, execution.start)
    if at == 0 and len(datapoints) >= KEPT_LETTERS:
        return None
    point = Datapoint(execution.id, execution.start)
    longer = (*datapoints[:at], point, *datapoints[at:])
    return longer[-KEPT_LETTERS:], len(datapoints) - at, False


def digest(*parts: str) -> str:
    """An id of 32 hexadecimal digits; no two lists of parts share one."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(joined.encode(errors="surrogatepass")).hexdigest()[:32]


def group_id(monitor: str, endpoint: str, variant: str, segment: str) -> str:
    """Id of the group that alerts of these four belong to."""
    return digest("group", monitor, endpoint, variant, segment)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What an execution says of one check and feature."""

    letter: str
    result: CheckResult | None = None
    """The first violated result, else the first; None: it names neither."""
    description: str = ""


def _verdicts(execution: Execution) -> dict[str, _Verdict]:
    """Alert id -> verdict. A check that says several things of one feature is violated when one of them is."""
    results: dict[tuple[str, str], list[CheckResult]] = {}
    for result in execution.results if execution.status is not ExecutionStatus.FAILED else ():
        results.setdefault((subject(result), result.feature), []).append(result)
    place = (execution.monitor, execution.endpoint, execution.variant, execution.segment)
    return {digest("alert", *place, *about): _verdict(said) for about, said in results.items()}


def _verdict(said: list[CheckResult]) -> _Verdict:
    violated = [result for result in said if result.outcome == "violated"]
    if violated:
        texts = [result.description for result in violated if result.description]
        return _Verdict("x", violated[0], "; ".join(texts[:_DESCRIPTIONS])[:_DESCRIPTION_CHARACTERS])
    letter = "." if any(result.outcome == "ok" for result in said) else "-"
    return _Verdict(letter, said[0], "")


def transitions(
    alerts: Iterable[Alert],
    group: AlertGroup,
    execution: Execution,
    rule: AlertRule,
    *,
    now: float,
    labels: Collection[str] | None = None,
    stored: Callable[[str], Execution | None] | None = None,
) -> tuple[list[Alert], AlertGroup]:
    """Every alert of the group after this execution, new ones included, and the group with its datapoint.

    Late labels bring an execution again: its letter is replaced, and every alert moves by the corrected history.
    An alert of which the execution says nothing gets a `-`, and a `.` when its check is none of `labels` (any more;
    None: all are). An alert that begins in a window which is not the last takes the letters of those after it from
    the results that are `stored` by their ids; where that is not given, nothing was violated in them.
    """
    placed = place(group.datapoints, execution)
    before = list(alerts)
    if placed is None:
        return before, group
    datapoints, back, again = placed
    verdicts = _verdicts(execution)
    known = {alert.id for alert in before}
    fresh = [
        _new_alert(alert_id, execution, verdict.result, now)
        for alert_id, verdict in verdicts.items()
        if verdict.letter == "x" and verdict.result is not None and alert_id not in known
    ]
    if fresh and back and stored is not None:
        later = [stored(point.execution) for point in datapoints[-back:]]
        fresh = _with_history(fresh, later, labels)
    before += fresh
    after = []
    for alert in before:
        verdict_of = verdicts.get(alert.id) or _unnamed(alert, execution, labels)
        moved = _moved(alert, verdict_of, rule, back=back, again=again, now=now)
        after.append(_evidenced(moved, verdict_of, execution, datapoints, stored))
    return after, replace(group, datapoints=datapoints)


def _unnamed(alert: Alert, execution: Execution, labels: Collection[str] | None) -> _Verdict | None:
    """What it means that the execution does not name the alert's check and feature; None: nothing."""
    if labels is not None and label_of(alert.check) not in labels:
        return _Verdict(".")
    if not names_faults_only(alert.check) or execution.status is ExecutionStatus.FAILED:
        return None
    said = [result for result in execution.results if subject(result) == alert.check]
    unlisted = any(result.outcome == "violated" and not result.feature for result in said)
    return _Verdict(".") if said and not unlisted else None


def _with_history(fresh: list[Alert], later: Sequence[Execution | None], labels: Collection[str] | None) -> list[Alert]:
    """New alerts with what the windows after their first one said of them."""
    said = [(execution, _verdicts(execution)) for execution in later if execution is not None]
    missing = "-" * (len(later) - len(said))  # they are forgotten oldest first
    found = []
    for alert in fresh:
        verdicts = [named.get(alert.id) or _unnamed(alert, execution, labels) for execution, named in said]
        letters = [verdict.letter if verdict else "-" for verdict in verdicts]
        found.append(replace(alert, history=missing + "".join(letters)))
    return found


def _new_alert(alert_id: str, execution: Execution, result: CheckResult, now: float) -> Alert:
    where = (execution.monitor, execution.endpoint, execution.variant, execution.segment)
    return Alert(alert_id, *where, subject(result), result.feature, OK, since=now, updated_at=now)


def _moved(alert: Alert, verdict: _Verdict | None, rule: AlertRule, *, back: int, again: bool, now: float) -> Alert:
    letter = verdict.letter if verdict else "-"
    # A letter is never replaced by silence: what an evaluation said stands when a later one could not compare.
    unheard = letter == "-" and again
    text = alert.history if unheard else written(alert.history, letter, back=back, again=again)
    state, history = move(alert.state, text, rule)
    moved = replace(alert, state=state, history=history, updated_at=now)
    if state is not alert.state:
        moved = replace(moved, since=now)
        if alert.state in {OK, RESOLVED}:  # it begins anew: whoever knew of the last time does not know of this
            moved = replace(moved, acknowledged_by="", acknowledged_at=0.0)
    return moved


def _evidenced(
    alert: Alert,
    verdict: _Verdict | None,
    execution: Execution,
    datapoints: Sequence[Datapoint],
    stored: Callable[[str], Execution | None] | None,
) -> Alert:
    """With the value, the text and the window of the newest violation in its history: they are always of one window.

    What that window said is looked up where it is not the one at hand. Where it is forgotten the evidence stays;
    an alert that has none takes that of the window at hand.
    """
    newest = max(alert.history.rfind("x"), alert.history.rfind("o"))
    at = newest - len(alert.history) + len(datapoints)
    wanted = datapoints[at].execution if newest >= 0 <= at else execution.id
    if wanted == alert.execution and wanted != execution.id:
        return alert
    if wanted != execution.id:
        found = stored(wanted) if stored is not None else None
        named = _verdicts(found).get(alert.id) if found is not None else None
        if found is not None and named is not None and named.letter == "x":
            return _with_evidence(alert, named, found)
        if alert.execution:
            return alert
    if verdict is None or verdict.letter != "x":
        return alert
    return _with_evidence(alert, verdict, execution)


def _with_evidence(alert: Alert, verdict: _Verdict, execution: Execution) -> Alert:
    result = verdict.result
    return replace(
        alert,
        value=result.value if result else None,
        threshold=result.threshold if result else None,
        description=verdict.description,
        execution=execution.id,
        version=execution.version,
        start=execution.start,
        end=execution.end,
    )


def record(
    execution: Execution,
    ledger: AlertLedger,
    monitor: Monitor,
    now: float,
    *,
    repeat_s: float = 0.0,
    stored: Callable[[str], Execution | None] | None = None,
) -> list[Notification]:
    """Move the alerts of an execution and put what is to be told into the outbox; returns what was put there.

    Call it, or `move_alerts`, once for every stored execution and every revision of one, in the transaction that
    stores it. `repeat_s`: tell what still fires again after this time; 0: never. `stored`: as `transitions` asks.
    """
    move_alerts(execution, ledger, monitor, now, stored=stored)
    return tell_changes(execution, ledger, monitor, now, repeat_s=repeat_s)


def move_alerts(
    execution: Execution,
    ledger: AlertLedger,
    monitor: Monitor,
    now: float,
    *,
    stored: Callable[[str], Execution | None] | None = None,
) -> None:
    """Move the alerts of an execution; nobody is told until `tell_changes`."""
    identity = group_id(execution.monitor, execution.endpoint, execution.variant, execution.segment)
    before = ledger.alerts_in(identity)
    labels = check_labels(monitor.checks)
    group = ledger.group(identity)
    alerts, group = transitions(before, group, execution, monitor.alert, now=now, labels=labels, stored=stored)
    known = {alert.id: alert for alert in before}
    changed = [alert for alert in alerts if known.get(alert.id) != alert]
    if changed:
        ledger.put_alerts(identity, changed)
    ledger.put_group(execution.monitor, group)


def tell_changes(
    execution: Execution, ledger: AlertLedger, monitor: Monitor, now: float, *, repeat_s: float = 0.0
) -> list[Notification]:
    """Put what receivers do not know of the execution's group into the outbox; returns what was put there."""
    identity = group_id(execution.monitor, execution.endpoint, execution.variant, execution.segment)
    occasion = Occasion(
        topic=f"{execution.monitor}/{execution.endpoint}/{execution.variant}",
        cause=f"{execution.id}/{execution.revision}/{now}",
        start=execution.start,
        end=execution.end,
        webhooks=monitor.webhooks,
        repeat_s=repeat_s,
    )
    before = ledger.group(identity)
    group, notifications = tell(ledger, before, ledger.alerts_in(identity), occasion, now=now)
    if group != before:
        ledger.put_group(execution.monitor, group)
    return notifications


def retire(ledger: AlertLedger, monitor: Monitor, now: float) -> list[Notification]:
    """Forget the alerts of a monitor that is deleted; receivers are told that what fired has ended."""
    notifications: list[Notification] = []
    for group in ledger.groups_of(monitor.name):
        alerts = [
            replace(alert, state=RESOLVED, since=now, updated_at=now) if alert.state is FIRING else alert
            for alert in ledger.alerts_in(group.id)
        ]
        if alerts:
            topic = f"{alerts[0].monitor}/{alerts[0].endpoint}/{alerts[0].variant}"
            occasion = Occasion(topic=topic, cause=f"{group.id}/retired/{now}", webhooks=monitor.webhooks)
            notifications += tell(ledger, group, alerts, occasion, now=now)[1]
        ledger.delete_group(group.id)
    return notifications
