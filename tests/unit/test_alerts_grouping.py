"""What receivers are told: once for what changed, nothing for what did not, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.clock import ManualClock
from vedette.core.errors import Conflict, InvalidArgument, NotFound
from vedette.entities.alerts import AlertState, Notification, Silence, Webhook
from vedette.entities.monitors import AlertRule, CheckResult, Execution, ExecutionStatus, Monitor
from vedette.monitor.alerting.alert_list import Alerts
from vedette.monitor.alerting.alerts import record, retire
from vedette.monitor.alerting.grouping import GROUP_WAIT_S, MAX_ALERTS
from vedette.ports.alerts import Outgoing
from vedette.storage.memory_monitors import MemoryMonitorStore

MONITOR = Monitor("m", "e", alert=AlertRule(1, 1, 1))


class Watch:
    """A store, a clock and the windows of one monitor; each window is evaluated five seconds after the last."""

    def __init__(self, *webhooks: str, monitor: Monitor = MONITOR) -> None:
        self.store = MemoryMonitorStore()
        self.store.migrate()
        self.clock = ManualClock(1_000.0)
        self.monitor = monitor
        self.alerts = Alerts(self.store, clock=self.clock)
        self.window = 0
        with self.store.transaction() as tx:
            tx.insert_monitor(monitor)
            for name in webhooks:
                tx.alerts.insert_webhook(Webhook(name, f"https://{name}.example/"))

    def see(
        self, violated: Sequence[str], *, segment: str = "", repeat_s: float = 0.0, again: bool = False
    ) -> list[Notification]:
        """Evaluate a window (or the same one again, for another segment) in which these features are violated."""
        if not again:
            self.window += 1
            self.clock.advance(5.0)
        names = [*dict.fromkeys([*violated, "a", "b", "c"])]
        results = tuple(CheckResult("drift", name, "violated" if name in violated else "ok") for name in names)
        start = self.window * 5.0
        identity = f"x{self.window}-{segment}"
        result = Execution(
            identity, "m", "e", "A", "1", segment, start, start + 5, 9, ExecutionStatus.COMPLETED, results
        )
        with self.store.transaction() as tx:
            return record(result, tx.alerts, self.monitor, self.clock.time(), repeat_s=repeat_s)

    def outbox(self) -> list[Outgoing]:
        """Everything posted so far, first posted first."""
        with self.store.read() as snapshot:
            posted, _ = snapshot.alerts.deliveries(limit=1_000)
            return [snapshot.alerts.delivery(each.id) for each in reversed(posted)]

    def send(self) -> list[str]:
        """Take what waits for `w`, as a sender would: features with their states."""
        with self.store.transaction() as tx:
            found = tx.alerts.claim("w", now=self.clock.time() + GROUP_WAIT_S, limit=99, lease_s=1e9)
            for one in found:
                tx.alerts.settle(replace(one.notification, state=one.notification.state.DELIVERED))
        return [words(one) for one in found]


def words(outgoing: Outgoing) -> str:
    """The alerts of a notification, `+` those that fire and `-` those that ended."""
    marks = {AlertState.FIRING: "+", AlertState.RESOLVED: "-"}
    return " ".join(sorted(f"{marks[alert.state]}{alert.feature}{alert.segment}" for alert in outgoing.bulletin.alerts))


def test_a_window_is_one_notification() -> None:
    """Whatever number of features moved, for each receiver."""
    watch = Watch("w", "v")
    told = watch.see(["a", "b", "c"])
    assert [one.webhook for one in told] == ["v", "w"]
    assert [words(one) for one in watch.outbox()] == ["+a +b +c"] * 2
    assert {one.bulletin.topic for one in watch.outbox()} == {"m/e/A"}
    assert told[0].next_attempt_at == watch.clock.time() + GROUP_WAIT_S


def test_nothing_is_told_while_nothing_changes() -> None:
    """The next window finds the same; then one more; then one less."""
    watch = Watch("w")
    steps = [
        watch.see(names) and watch.send() for names in (["a"], ["a"], ["a", "b"], ["a", "b"], ["b"], ["b"], [], [])
    ]
    assert steps == [["+a"], [], ["+a +b"], [], ["+b -a"], [], ["-b"], []]


def test_pending_is_told_to_nobody() -> None:
    """Two of three fire."""
    watch = Watch("w", monitor=replace(MONITOR, alert=AlertRule(2, 3, 2)))
    assert [bool(watch.see(names)) for names in (["a"], [], ["a"], ["a"])] == [False, False, True, False]


def test_segments_of_a_window_are_told_together() -> None:
    """As long as the notification has not left; afterwards in one of their own."""
    watch = Watch("w")
    watch.see(["a"])
    watch.see(["a", "b"], segment="sex=f", again=True)
    assert watch.send() == ["+a +asex=f +bsex=f"]
    watch.see(["c"], segment="sex=m", again=True)
    assert watch.send() == ["+csex=m"]


def test_a_monitor_names_its_receivers() -> None:
    """The others hear nothing; a name that no webhook has is no harm."""
    watch = Watch("w", "v", monitor=replace(MONITOR, webhooks=("v", "nobody")))
    assert [one.webhook for one in watch.see(["a"])] == ["v"]


def test_a_receiver_that_comes_later_is_told_what_fires() -> None:
    """With the next window, and the others are not told again."""
    watch = Watch("w")
    watch.see(["a"])
    with watch.store.transaction() as tx:
        tx.alerts.insert_webhook(Webhook("v", "https://v.example/"))
    assert [one.webhook for one in watch.see(["a"])] == ["v"]


def test_a_receiver_that_was_switched_off_is_told_what_changed() -> None:
    """Once it is on again: what ended meanwhile and what began."""
    watch = Watch("w")
    watch.see(["a"])
    watch.send()
    with watch.store.transaction() as tx:
        tx.alerts.update_webhook(replace(tx.alerts.webhook("w"), enabled=False))
    assert watch.see(["b"]) == []
    with watch.store.transaction() as tx:
        tx.alerts.update_webhook(replace(tx.alerts.webhook("w"), enabled=True))
    watch.see(["b"])
    assert watch.send() == ["+b -a"]


def test_a_silence_holds_back_and_then_tells() -> None:
    """The state moves all the while; what still fires is told once when the silence is over."""
    watch = Watch("w")
    silence = watch.alerts.silence(for_s=60.0, monitor="m", feature="a")
    assert watch.see(["a"]) == []
    assert [alert.state for alert in watch.alerts.page(limit=9)[0]] == [AlertState.FIRING]
    watch.see(["a", "b"])
    assert watch.send() == ["+b"]
    watch.alerts.end_silence(silence.id)
    watch.see(["a", "b"])
    assert watch.send() == ["+a +b"]


def test_an_end_within_a_silence_is_told_after_it() -> None:
    """Whoever was told of the beginning is told of the end."""
    watch = Watch("w")
    watch.see(["a"])
    watch.send()
    watch.alerts.silence(for_s=12.0, endpoint="e")
    assert watch.see([]) == []
    assert watch.see([]) == []
    watch.see([])
    assert watch.send() == ["-a"]


def test_what_came_and_went_in_a_silence_is_never_told() -> None:
    """There is nothing to do about it any more."""
    watch = Watch("w")
    watch.alerts.silence(for_s=12.0, everything=True)
    assert [watch.see(names) for names in (["a"], [], [], [])] == [[], [], [], []]


@pytest.mark.parametrize(
    ("fields", "covered"),
    [
        ({"everything": True}, True),
        ({"monitor": "m"}, True),
        ({"monitor": "n"}, False),
        ({"endpoint": "f"}, False),
        ({"feature": "a", "monitor": "m", "endpoint": "e"}, True),
        ({"feature": "b"}, False),
    ],
)
def test_what_a_silence_covers(fields: dict[str, Any], covered: bool) -> None:
    """Every field that is given must match."""
    watch = Watch("w")
    watch.alerts.silence(for_s=60.0, **fields)
    assert (watch.see(["a"]) == []) == covered


def test_an_acknowledged_alert_is_not_repeated_but_its_end_is_told() -> None:
    """Whoever looks after it knows; the others are repeated."""
    watch = Watch("w")
    watch.see(["a", "b"])
    watch.send()
    for alert in watch.alerts.page(limit=9)[0]:
        if alert.feature == "a":
            watch.alerts.acknowledge(alert.id, by=" ada ")
    watch.see(["a"], repeat_s=5.0)
    assert watch.send() == ["+a -b"]
    assert watch.see(["a"], repeat_s=5.0) == []
    watch.see([], repeat_s=5.0)
    assert watch.send() == ["-a"]


def test_what_fires_on_is_repeated_when_asked() -> None:
    """Not before its time, and nothing is repeated that has ended."""
    watch = Watch("w")
    steps = [bool(watch.see(names, repeat_s=10.0)) for names in (["a"], ["a"], ["a"], ["a"], ["a"], [], [], [], [])]
    assert steps == [True, False, True, False, True, True, False, False, False]


def test_more_than_a_notification_holds_comes_in_several() -> None:
    """Each alert in one of them."""
    watch = Watch("w")
    names = [f"f{number}" for number in range(MAX_ALERTS + 1)]
    assert len(watch.see(names)) == 2
    told = [alert.feature for one in watch.outbox() for alert in one.bulletin.alerts]
    assert sorted(told) == sorted(names)
    assert watch.see(names) == []


def test_a_deleted_monitor_ends_its_alerts() -> None:
    """Receivers are told, and nothing of it is left."""
    watch = Watch("w")
    watch.see(["a"])
    watch.see(["b"], segment="sex=f", again=True)
    watch.send()
    with watch.store.transaction() as tx:
        retire(tx.alerts, MONITOR, watch.clock.time())
        assert tx.alerts.alerts(limit=9) == ([], "")
        assert tx.alerts.groups_of("m") == []
    assert watch.send() == ["-a -bsex=f"]


def test_who_may_be_acknowledged() -> None:
    """What fires or pends, by somebody with a name."""
    watch = Watch("w")
    watch.see(["a"])
    alert = watch.alerts.page(limit=9)[0][0]
    assert watch.alerts.acknowledge(alert.id, by="ada").acknowledged_at == watch.clock.time()
    assert watch.alerts.get(alert.id).acknowledged_by == "ada"
    with pytest.raises(InvalidArgument):
        watch.alerts.acknowledge(alert.id, by="  ")
    with pytest.raises(NotFound):
        watch.alerts.acknowledge("nothing", by="ada")
    watch.see([])
    with pytest.raises(Conflict, match="resolved"):
        watch.alerts.acknowledge(alert.id, by="ada")


def test_silences_in_force_are_listed() -> None:
    """Those that end first come first, and those that are over not at all."""
    watch = Watch()
    long = watch.alerts.silence(for_s=60.0, everything=True, comment="deploy")
    short = watch.alerts.silence(for_s=5.0, everything=True)
    for nothing in ({}, {"comment": "deploy"}, {"monitor": "m", "everything": True}):
        with pytest.raises(InvalidArgument, match="or says everything"):
            watch.alerts.silence(for_s=5.0, **nothing)
    assert watch.alerts.silences() == [short, long]
    watch.clock.advance(5.0)
    assert watch.alerts.silences() == [long]
    for wrong in (0.0, -1.0, float("nan"), float("inf"), 1e9):
        with pytest.raises(InvalidArgument):
            watch.alerts.silence(for_s=wrong, everything=True)
    with pytest.raises(NotFound):
        watch.alerts.end_silence("never")


FEATURES = st.frozensets(st.sampled_from("abc"))
STEPS = st.lists(
    st.one_of(
        FEATURES,
        st.tuples(st.just("silence"), st.sampled_from(["", "a"]), st.sampled_from([4.0, 11.0])),
        st.just("acknowledge"),
        st.just("switch"),
        st.just("send"),
    ),
    max_size=25,
)


@given(STEPS)
def test_nothing_is_lost_and_nothing_is_told_twice(steps: list[object]) -> None:
    """For every sequence of windows, silences, acknowledgements and switched-off receivers.

    A receiver that believes what it is told never hears the same twice in a row, and once nothing holds
    anything back it believes exactly what is so.
    """
    watch = Watch("w")
    believed: dict[str, str] = {}
    now: frozenset[str] = frozenset()

    def hear() -> None:
        for said in watch.send():
            before = dict(believed)
            for word in said.split():
                believed[word[1:]] = word[0]
            ended = [word for word in said.split() if word[0] == "-" and before.get(word[1:]) != "+"]
            assert before != believed, "nothing new was told"
            assert not ended, "the end of what nobody heard of"

    for step in steps:
        if isinstance(step, frozenset):
            now = step
            watch.see(sorted(now))
            hear()  # the sender is quicker than the next window
        elif isinstance(step, tuple):
            watch.alerts.silence(feature=step[1], everything=not step[1], for_s=step[2])
        elif step == "acknowledge":
            firing = watch.alerts.page(limit=9, state=AlertState.FIRING)[0]
            if firing:
                watch.alerts.acknowledge(firing[0].id, by="ada")
        elif step == "switch":
            with watch.store.transaction() as tx:
                hook = tx.alerts.webhook("w")
                tx.alerts.update_webhook(replace(hook, enabled=not hook.enabled))
        else:
            hear()
    with watch.store.transaction() as tx:
        tx.alerts.update_webhook(replace(tx.alerts.webhook("w"), enabled=True))
    watch.clock.advance(60.0)
    hear()
    watch.see(sorted(now))
    hear()
    looked_after = {a.feature for a in watch.alerts.page(limit=9)[0] if a.acknowledged_by}
    true = {name for name, mark in believed.items() if mark == "+"}
    assert true <= now
    assert now - true <= looked_after  # only what somebody looked after before it was told was kept from us


def test_a_silence_that_is_over_covers_nothing() -> None:
    """To the second."""
    watch = Watch("w")
    with watch.store.transaction() as tx:
        tx.alerts.insert_silence(Silence("s", watch.clock.time() + 5.0))
    assert len(watch.see(["a"])) == 1
