"""The state machine of alerts: its table is whole, every transition happens, and N of M holds for every sequence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import InvalidArgument
from vedette.entities.alerts import Alert, AlertState
from vedette.entities.monitors import AlertRule, CheckResult, Execution, ExecutionStatus
from vedette.monitor.alerting.alerts import (
    KEPT_LETTERS,
    TRANSITIONS,
    Signal,
    check_rule,
    move,
    place,
    signal,
    transitions,
    written,
)
from vedette.ports.alerts import AlertGroup, Datapoint

RULE = AlertRule(datapoints_to_alert=2, evaluation_period=3, resolve_after=2)
RULES = st.builds(
    lambda n, more, quiet: AlertRule(n, n + more, quiet), st.integers(1, 4), st.integers(0, 4), st.integers(1, 4)
)
OUTCOMES = {"x": "violated", ".": "ok", "-": "skipped"}


def execution(letter: str, number: int, *, feature: str = "age", revision: int = 1, name: str = "") -> Execution:
    """The result of window `number`, of which one check of one feature says this."""
    result = CheckResult("drift", feature, OUTCOMES[letter], value=float(number), threshold=0.1, description="moved")  # type: ignore[arg-type]
    status = ExecutionStatus.WITH_VIOLATIONS if letter == "x" else ExecutionStatus.COMPLETED
    identity = name or f"x{number}"
    return Execution(
        identity, "m", "e", "A", "1", "", number * 5.0, number * 5.0 + 5, 9, status, (result,), revision=revision
    )


def play(letters: str, rule: AlertRule = RULE) -> list[AlertState]:
    """The state after each window."""
    alerts: list[Alert] = []
    group = AlertGroup("g")
    states = []
    for number, letter in enumerate(letters):
        alerts, group = transitions(alerts, group, execution(letter, number), rule, now=float(number))
        states.append(alerts[0].state if alerts else AlertState.OK)
    return states


def test_the_table_is_whole() -> None:
    """Every state knows what to do with every signal."""
    assert set(TRANSITIONS) == {(state, sign) for state in AlertState for sign in Signal}


@pytest.mark.parametrize("sign", Signal)
def test_only_what_was_firing_is_resolved(sign: Signal) -> None:
    """And nothing that fires falls back to pending or ok."""
    reached = {state for state in AlertState if TRANSITIONS[state, sign] is AlertState.RESOLVED}
    assert reached <= {AlertState.FIRING, AlertState.RESOLVED}
    assert TRANSITIONS[AlertState.FIRING, sign] in {AlertState.FIRING, AlertState.RESOLVED}


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ("", Signal.NONE),
        (".", Signal.NONE),
        ("-", Signal.NONE),
        ("..", Signal.QUIET),
        (".-.", Signal.QUIET),
        ("x", Signal.SHORT),
        ("xx", Signal.MET),
        ("x.x", Signal.MET),
        ("xx.", Signal.MET),
        ("x.", Signal.SHORT),
        ("x..", Signal.FADING),
        ("xx..", Signal.FADING),
        ("xx.-.", Signal.FADING),
        ("xx.-..", Signal.QUIET),
        ("x--", Signal.SHORT),
        ("x---", Signal.SHORT),
        ("xx---", Signal.MET),
        ("x-x--.", Signal.MET),
        ("oo", Signal.NONE),
        ("oox", Signal.SHORT),
        ("oo..", Signal.QUIET),
    ],
)
def test_what_histories_say(history: str, expected: Signal) -> None:
    """Under 2 of 3, resolved after 2: windows that compared nothing neither age violations nor are quiet."""
    assert signal(history, RULE) is expected


@pytest.mark.parametrize(("state", "sign"), list(TRANSITIONS))
def test_every_transition_of_the_table_is_taken(state: AlertState, sign: Signal) -> None:
    """`move` does what the table says, and a resolution uses the violations up."""
    history = {
        Signal.NONE: "xooo",
        Signal.SHORT: "x",
        Signal.MET: "xx",
        Signal.QUIET: "x.-..",
        Signal.FADING: "x..",
    }[sign]
    after, text = move(state, history, RULE)
    assert after is TRANSITIONS[state, sign]
    assert ("x" not in text) == (state is AlertState.FIRING and after is AlertState.RESOLVED)


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("..", "ok ok"),
        ("x", "pending"),
        ("x..x", "pending pending pending pending"),
        ("x...", "pending pending pending ok"),
        ("x---", "pending pending pending pending"),
        ("x--x", "pending pending pending firing"),
        ("xx", "pending firing"),
        ("x.x", "pending pending firing"),
        ("xx.x..", "pending firing firing firing firing resolved"),
        ("xx-----", "pending firing firing firing firing firing firing"),
        ("xx.-.", "pending firing firing firing resolved"),
        ("xx..x", "pending firing firing resolved pending"),
        ("xx..xx", "pending firing firing resolved pending firing"),
        ("xx..x...", "pending firing firing resolved pending pending pending ok"),
        ("xx......", "pending firing firing resolved resolved resolved resolved resolved"),
    ],
)
def test_whole_stories(letters: str, expected: str) -> None:
    """2 of 3 to fire, 2 quiet windows to resolve, and what was resolved begins anew."""
    assert [state.value for state in play(letters)] == expected.split()


@given(st.text("x.-", max_size=40), RULES)
def test_n_of_m_holds_for_every_sequence(letters: str, rule: AlertRule) -> None:
    """An independent count says when it may fire and when it must end.

    It begins to fire exactly when N of the last M windows since the last resolution are violated and the newest is;
    it ends exactly after so many windows without a violation, and windows that compared nothing are none of those.
    """
    firing = resolved = False
    since = 0  # the first window after the last resolution
    for number, state in enumerate(play(letters, rule)):
        seen = letters[since : number + 1]
        period = seen.replace("-", "")[-rule.evaluation_period :]
        quiet = len(seen[seen.rfind("x") + 1 :].replace("-", ""))
        if not firing and period.count("x") >= rule.datapoints_to_alert and letters[number] == "x":
            firing = True
        elif firing and quiet >= rule.resolve_after:
            firing, resolved, since = False, True, number + 1
        assert (state is AlertState.FIRING) == firing
        if not firing and since <= number:
            assert (state is AlertState.PENDING) == ("x" in period)
        if not firing and "x" not in period and not resolved:
            assert state is AlertState.OK


@given(st.text("x.-", min_size=1, max_size=30), RULES, st.data())
def test_a_revision_of_the_last_window_is_as_if_it_had_been_so(
    letters: str, rule: AlertRule, data: st.DataObject
) -> None:
    """Late labels correct the newest window before it fired or resolved: history says what it would have said."""
    alerts: list[Alert] = []
    group = AlertGroup("g")
    alerts, group = transitions(alerts, group, execution("x", 0), rule, now=0.0)
    for number, letter in enumerate(letters, start=1):
        before = alerts[0].state
        wrong = data.draw(st.sampled_from("x."))
        first, seen = transitions(alerts, group, execution(wrong, number), rule, now=1.0)
        direct, _ = transitions(alerts, group, execution(letter, number), rule, now=1.0)
        again, group = transitions(first, seen, execution(letter, number, revision=2), rule, now=2.0)
        assert len(group.datapoints) == number + 1
        if letter != "-" and first[0].state is before:
            assert again[0].history == direct[0].history
            assert again[0].state is direct[0].state
        alerts = again


def test_a_revision_of_an_old_window_moves_the_alert() -> None:
    """Two windows later, labels show that an earlier one was violated: 2 of 3 fires."""
    alerts, group = transitions([], AlertGroup("g"), execution("x", 0), RULE, now=0.0)
    alerts, group = transitions(alerts, group, execution(".", 1), RULE, now=1.0)
    alerts, group = transitions(alerts, group, execution("x", 1, revision=2), RULE, now=2.0)
    assert (alerts[0].state, alerts[0].history) == (AlertState.FIRING, "xx")


def test_a_revision_may_find_the_first_violation() -> None:
    """The alert is made with the windows since as not violated."""
    alerts: list[Alert] = []
    group = AlertGroup("g")
    for number in range(3):
        alerts, group = transitions(alerts, group, execution(".", number), RULE, now=0.0)
    alerts, group = transitions(alerts, group, execution("x", 1, revision=2), RULE, now=1.0)
    assert [(each.state, each.history) for each in alerts] == [(AlertState.PENDING, "x.")]


def test_late_labels_fire_although_newer_windows_have_none() -> None:
    """A new alert knows which windows after it compared nothing: those have said nothing against it."""
    alerts: list[Alert] = []
    group = AlertGroup("g")
    results = {}
    for number in range(6):
        result = execution("-", number)
        results[result.id] = result
        alerts, group = transitions(alerts, group, result, AlertRule(), now=0.0)
    for number, letter, expected in ((1, "x", "x----"), (2, "x", "xx---"), (3, ".", "xx.--"), (4, ".", "xx..-")):
        results[f"x{number}"] = execution(letter, number, revision=2)
        late = results[f"x{number}"]
        alerts, group = transitions(alerts, group, late, AlertRule(), now=1.0, stored=results.get)
        assert alerts[0].history.replace("o", "x") == expected
        assert alerts[0].state is (AlertState.FIRING if number < 4 else AlertState.RESOLVED)


def test_a_new_alert_of_an_old_window_hears_what_the_later_ones_said() -> None:
    """Violations of them count, and so does what was not violated; of what is forgotten nothing is known."""
    results = {each.id: each for each in (execution("x", 3), execution(".", 4))}
    points = tuple(Datapoint(f"x{number}", number * 5.0) for number in range(5))
    late = execution("x", 1, revision=2)
    alerts, _ = transitions([], AlertGroup("g", points), late, RULE, now=1.0, stored=results.get)
    assert [(each.state, each.history) for each in alerts] == [(AlertState.FIRING, "x-x.")]


def test_a_revision_that_could_compare_nothing_takes_nothing_back() -> None:
    """The first result stands."""
    alerts, group = transitions([], AlertGroup("g"), execution("x", 0), RULE, now=0.0)
    alerts, _ = transitions(alerts, group, execution("-", 0, revision=2), RULE, now=1.0)
    assert alerts[0].history == "x"


def test_windows_that_come_late_take_their_place() -> None:
    """By their start, as another version's last windows do."""
    alerts, group = transitions([], AlertGroup("g"), execution("x", 0), RULE, now=0.0)
    alerts, group = transitions(alerts, group, execution("x", 4), replace(RULE, datapoints_to_alert=3), now=1.0)
    alerts, group = transitions(alerts, group, execution(".", 2), replace(RULE, datapoints_to_alert=3), now=2.0)
    assert alerts[0].history == "x.x"
    assert [point.start for point in group.datapoints] == [0.0, 10.0, 20.0]


def test_a_window_that_is_too_old_moves_nothing() -> None:
    """Histories end somewhere."""
    points = tuple(Datapoint(f"x{number}", number * 5.0) for number in range(1, KEPT_LETTERS + 1))
    assert place(points, execution("x", 0)) is None
    alert, _ = transitions([], AlertGroup("g"), execution("x", 1), RULE, now=0.0)
    assert transitions(alert, AlertGroup("g", points), execution("x", 0), RULE, now=9.0) == (
        alert,
        AlertGroup("g", points),
    )


def test_histories_stay_short() -> None:
    """One letter for each of the last hundred windows."""
    alerts: list[Alert] = []
    group = AlertGroup("g")
    for number in range(KEPT_LETTERS + 30):
        alerts, group = transitions(alerts, group, execution("x.-"[number % 3], number), RULE, now=0.0)
    assert (len(alerts[0].history), len(group.datapoints)) == (KEPT_LETTERS, KEPT_LETTERS)


@given(st.text("x.-o", max_size=12), st.sampled_from("x.-"), st.integers(0, 14), st.booleans())
def test_writing_changes_one_letter(history: str, letter: str, back: int, again: bool) -> None:
    """At its place from the right; a letter is replaced or put in, and all others stay."""
    after = written(history, letter, back=back, again=again)
    wide = history.rjust(back + again, ".")
    assert len(after) == len(wide) + (not again)
    assert after[len(after) - back :] == wide[len(wide) - back :]
    assert after[len(after) - 1 - back].replace("o", "x") == letter


def test_one_check_that_says_several_things_is_one_alert() -> None:
    """Violated when one of them is, with all descriptions."""
    said = [
        CheckResult("data_quality", "age", "ok", description="fine"),
        CheckResult("data_quality", "age", "violated", value=0.2, description="missing"),
        CheckResult("data_quality", "age", "violated", value=9.0, description="below zero"),
        CheckResult("data_quality", "sex", "skipped"),
    ]
    result = replace(execution(".", 0), results=tuple(said))
    alerts, _ = transitions([], AlertGroup("g"), result, RULE, now=0.0)
    assert [(a.feature, a.value, a.description) for a in alerts] == [("age", 0.2, "missing; below zero")]


def test_a_failed_execution_says_nothing_of_anything() -> None:
    """Whatever results it has."""
    failed = replace(execution("x", 0), status=ExecutionStatus.FAILED)
    assert transitions([], AlertGroup("g"), failed, RULE, now=0.0)[0] == []
    alerts, group = transitions([], AlertGroup("g"), execution("x", 0), RULE, now=0.0)
    alerts, _ = transitions(alerts, group, replace(failed, id="x1", start=5.0), RULE, now=1.0)
    assert alerts[0].history == "x-"


def test_an_alert_that_begins_anew_is_nobodys() -> None:
    """Who had acknowledged it the last time does not know of this."""
    alerts, group = transitions([], AlertGroup("g"), execution("x", 0), AlertRule(), now=0.0)
    alerts = [replace(alerts[0], acknowledged_by="ada", acknowledged_at=1.0)]
    for number, letter in enumerate("..", start=1):
        alerts, group = transitions(alerts, group, execution(letter, number), AlertRule(), now=0.0)
        assert alerts[0].acknowledged_by == "ada"
    alerts, group = transitions(alerts, group, execution("x", 3), AlertRule(), now=0.0)
    assert (alerts[0].state, alerts[0].acknowledged_by) == (AlertState.FIRING, "")


def test_the_numbers_of_an_alert_are_of_its_newest_violation() -> None:
    """Late labels fire it again and go on: value, text, window and execution are always of one and the same window."""
    alerts: list[Alert] = []
    group = AlertGroup("g")
    results = {}
    for number in range(12):
        results[f"x{number}"] = execution("-", number)
        alerts, group = transitions(alerts, group, results[f"x{number}"], AlertRule(), now=0.0)
    newest = None
    for number, letter in enumerate("x..xxx..x."):
        late = execution(letter, number, revision=2)
        results[late.id] = replace(late, results=(replace(late.results[0], description=f"window {number}"),))
        alerts, group = transitions(alerts, group, results[late.id], AlertRule(), now=1.0, stored=results.get)
        newest = number if letter == "x" else newest
        (alert,) = alerts
        assert (alert.execution, alert.value, alert.description) == (f"x{newest}", newest, f"window {newest}")
        assert (alert.start, alert.end) == (results[alert.execution].start, results[alert.execution].end)
    alerts, _ = transitions(alerts, group, execution(".", 8, revision=3), AlertRule(), now=2.0, stored=results.get)
    assert (alerts[0].execution, alerts[0].value, alerts[0].description) == ("x5", 5.0, "window 5")


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("x.-")), max_size=20), RULES)
def test_evidence_is_of_the_newest_violated_window(revisions: list[tuple[int, str]], rule: AlertRule) -> None:
    """Whatever order labels come in; where no window is violated any more the last evidence stays, all of one."""
    alerts: list[Alert] = []
    group = AlertGroup("g")
    results: dict[str, Execution] = {}
    for number in range(7):
        results[f"x{number}"] = execution("-", number)
        alerts, group = transitions(alerts, group, results[f"x{number}"], rule, now=0.0, stored=results.get)
    said: dict[int, str] = {}
    for revision, (number, letter) in enumerate(revisions, start=2):
        if letter == "-" and number in said:
            continue  # what was compared once is compared with more labels, not with fewer
        said[number] = letter
        results[f"x{number}"] = execution(letter, number, revision=revision)
        alerts, group = transitions(alerts, group, results[f"x{number}"], rule, now=1.0, stored=results.get)
        violated = [each for each, of in said.items() if of == "x"]
        if alerts and violated:
            assert (alerts[0].execution, alerts[0].value) == (f"x{max(violated)}", max(violated))
        for alert in alerts:
            assert (alert.execution, alert.start) == (f"x{alert.value:.0f}", (alert.value or 0) * 5.0)


@pytest.mark.parametrize("rule", [(0, 1, 1), (2, 1, 1), (1, 101, 1), (1, 1, 0), (1, 1, 101), (-1, -1, 1)])
def test_rules_that_make_no_sense_are_refused(rule: tuple[int, int, int]) -> None:
    """N of M with 1 <= N <= M <= 100, and an end."""
    with pytest.raises(InvalidArgument):
        check_rule(AlertRule(*rule))


def test_rules_at_their_limits_are_fine() -> None:
    """The smallest and the largest."""
    check_rule(AlertRule(1, 1, 1))
    check_rule(AlertRule(100, 100, 100))
