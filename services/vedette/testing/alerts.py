"""What the alerts of every `MonitorStore` must do. Inherit `AlertLedgerContract` and give it a way to open one.

Monitors and windows have a suite of their own: `vedette.testing.monitors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

import pytest

from vedette.core.errors import AlreadyExists, InvalidArgument, NotFound
from vedette.entities.alerts import Alert, AlertState, DeliveryState, Notification, Silence, Webhook
from vedette.ports.alerts import AlertGroup, AlertTransaction, Bulletin, Datapoint, Outgoing, Secret, Told


def alert(name: str, *, state: AlertState = AlertState.FIRING, monitor: str = "m", since: float = 1.0) -> Alert:
    """An alert with something in every field."""
    return Alert(
        name,
        monitor,
        "e",
        "A",
        "sex=f",
        "drift",
        "age",
        state,
        since,
        since + 1,
        history="x.-o",
        value=0.5,
        threshold=0.1,
        description="moved",
        execution="x1",
        version="3",
        acknowledged_by="ada",
        acknowledged_at=2.0,
    )


def outgoing(name: str, *, webhook: str = "w", topic: str = "t", start: float = 0.0, at: float = 10.0) -> Outgoing:
    """A delivery that is due at `at`."""
    notification = Notification(name, webhook, DeliveryState.WAITING, 0, at, at, subject=topic)
    return Outgoing(notification, Bulletin("alerts", topic, (alert("a"),), start, start + 5))


class OpenStore(Protocol):
    """A store of the monitor, as far as this suite needs it."""

    def migrate(self) -> None: ...

    def transaction(self) -> AbstractContextManager[AlertTransaction]: ...

    def read(self) -> AbstractContextManager[AlertTransaction]: ...

    def close(self) -> None: ...


class AlertLedgerContract:
    """Subclasses say how to open an empty store with `open_store`."""

    def open_store(self) -> OpenStore:
        """A store on nothing, not migrated."""
        raise NotImplementedError

    @pytest.fixture
    def store(self) -> Iterator[OpenStore]:
        """An empty store with the webhooks `v` and `w`."""
        store = self.open_store()
        store.migrate()
        with store.transaction() as tx:
            tx.alerts.insert_webhook(Webhook("w", "https://w.example/", created_at=1.0))
            tx.alerts.insert_webhook(Webhook("v", "https://v.example/", "slack", headers={"x-team": "a"}))
        yield store
        store.close()

    def test_an_alert_comes_back_as_it_was(self, store: OpenStore) -> None:
        """Every field; put again it is replaced; changed it stays in its group."""
        with store.transaction() as tx:
            tx.alerts.put_alerts("g", [alert("a"), alert("b")])
            tx.alerts.put_alerts("g", [replace(alert("a"), value=None)])
            tx.alerts.put_alerts("g", [])
            tx.alerts.change_alert(replace(alert("b"), acknowledged_by="bob"))
        with store.read() as snapshot:
            assert snapshot.alerts.alert("a") == replace(alert("a"), value=None)
            assert [each.acknowledged_by for each in snapshot.alerts.alerts_in("g")] == ["ada", "bob"]
            assert snapshot.alerts.alerts_in("other") == []

    def test_what_is_not_there_is_not_found(self, store: OpenStore) -> None:
        """By every way of asking for one thing."""
        calls: list[Callable[[AlertTransaction], object]] = [
            lambda tx: tx.alerts.alert("x"),
            lambda tx: tx.alerts.change_alert(alert("x")),
            lambda tx: tx.alerts.delete_silence("x"),
            lambda tx: tx.alerts.webhook("x"),
            lambda tx: tx.alerts.update_webhook(Webhook("x", "https://x.example/")),
            lambda tx: tx.alerts.delete_webhook("x"),
            lambda tx: tx.alerts.put_secrets("x", []),
            lambda tx: tx.alerts.post(outgoing("d", webhook="x")),
            lambda tx: tx.alerts.replace_bulletin("x", outgoing("d").bulletin),
            lambda tx: tx.alerts.delivery("x"),
        ]
        for call in calls:
            with store.transaction() as tx, pytest.raises(NotFound):
                call(tx)

    def test_alerts_are_listed_by_id_in_pages(self, store: OpenStore) -> None:
        """Without those that are ok, unless they are asked for; by monitor too."""
        with store.transaction() as tx:
            tx.alerts.put_alerts("g", [alert(f"a{number}") for number in range(4)])
            tx.alerts.put_alerts("g", [alert("a2", state=AlertState.OK), alert("a9", monitor="n")])
        with store.read() as snapshot:
            first, token = snapshot.alerts.alerts(limit=3)
            rest, end = snapshot.alerts.alerts(limit=3, after=token)
            assert ([each.id for each in first + rest], end) == (["a0", "a1", "a3", "a9"], "")
            assert [each.id for each in snapshot.alerts.alerts(limit=9, state=AlertState.OK)[0]] == ["a2"]
            assert [each.id for each in snapshot.alerts.alerts(limit=9, monitor="n")[0]] == ["a9"]
            with pytest.raises(InvalidArgument):
                snapshot.alerts.alerts(limit=3, after=token, monitor="m")
            assert snapshot.alerts.alert_counts() == {
                ("m", AlertState.FIRING): 3,
                ("m", AlertState.OK): 1,
                ("n", AlertState.FIRING): 1,
            }

    def test_groups_are_remembered(self, store: OpenStore) -> None:
        """One never seen is empty; a deleted one takes its alerts along."""
        group = AlertGroup("g", (Datapoint("x1", 5.0),), (Told("w", ("a", "b"), 7.0),))
        with store.transaction() as tx:
            assert tx.alerts.group("g") == AlertGroup("g")
            tx.alerts.put_group("m", AlertGroup("g"))
            tx.alerts.put_group("m", group)
            tx.alerts.put_group("n", AlertGroup("h"))
            tx.alerts.put_alerts("g", [alert("a")])
            tx.alerts.put_alerts("h", [alert("b")])
        with store.transaction() as tx:
            assert tx.alerts.groups_of("m") == [group]
            tx.alerts.delete_group("g")
            tx.alerts.delete_group("g")
            assert tx.alerts.group("g") == AlertGroup("g")
            assert tx.alerts.groups_of("m") == []
            assert [each.id for each in tx.alerts.alerts(limit=9)[0]] == ["b"]

    def test_many_alerts_can_be_forgotten_at_once(self, store: OpenStore) -> None:
        """More than a statement has room for."""
        names = [f"a{number}" for number in range(1_200)]
        with store.transaction() as tx:
            tx.alerts.put_alerts("g", [alert(name) for name in names])
            tx.alerts.put_alerts("g", [alert(name, since=2.0) for name in names])
            tx.alerts.delete_alerts([*names[:1_100], "never"])
            assert [each.id for each in tx.alerts.alerts_in("g")] == sorted(names[1_100:])

    def test_silences_come_and_go(self, store: OpenStore) -> None:
        """Each once."""
        silence = Silence("s", 9.0, "m", "e", "age", "holiday", 1.0)
        with store.transaction() as tx:
            tx.alerts.insert_silence(silence)
            tx.alerts.insert_silence(Silence("r", 5.0))
            assert tx.alerts.silences() == [Silence("r", 5.0), silence]
            with pytest.raises(AlreadyExists):
                tx.alerts.insert_silence(silence)
            tx.alerts.delete_silence("r")
        with store.read() as snapshot:
            assert snapshot.alerts.silences() == [silence]

    def test_a_webhook_comes_back_with_the_ids_of_its_secrets(self, store: OpenStore) -> None:
        """Newest first; its creation time and secrets do not change with it."""
        with store.transaction() as tx:
            tx.alerts.put_secrets("w", [Secret("s2", "whsec_b", 2.0), Secret("s1", "whsec_a", 1.0, 9.0)])
            changed = Webhook("w", "https://w2.example/", "slack", enabled=False, created_at=99.0, secret_ids=("no",))
            tx.alerts.update_webhook(replace(changed, headers={"x": "y"}))
            with pytest.raises(AlreadyExists):
                tx.alerts.insert_webhook(changed)
        with store.read() as snapshot:
            expected = replace(changed, created_at=1.0, secret_ids=("s2", "s1"), headers={"x": "y"})
            assert snapshot.alerts.webhook("w") == expected
            assert [hook.name for hook in snapshot.alerts.webhooks()] == ["v", "w"]
            assert snapshot.alerts.secrets("w") == [Secret("s2", "whsec_b", 2.0), Secret("s1", "whsec_a", 1.0, 9.0)]
            assert snapshot.alerts.secrets("nobody") == []
            assert "whsec" not in repr(snapshot.alerts.secrets("w"))

    def test_a_deleted_webhook_takes_everything_along(self, store: OpenStore) -> None:
        """Secrets and deliveries, and a new one of its name has none."""
        with store.transaction() as tx:
            tx.alerts.put_secrets("w", [Secret("s", "whsec_a", 1.0)])
            tx.alerts.post(outgoing("d1"))
            tx.alerts.post(outgoing("d2", webhook="v"))
            tx.alerts.delete_webhook("w")
            tx.alerts.insert_webhook(Webhook("w", "https://w.example/"))
            assert tx.alerts.secrets("w") == []
            assert [each.id for each in tx.alerts.deliveries(limit=9)[0]] == ["d2"]

    def test_a_delivery_is_posted_once(self, store: OpenStore) -> None:
        """The same id again is not, whatever it says."""
        with store.transaction() as tx:
            assert tx.alerts.post(outgoing("d"))
            assert not tx.alerts.post(outgoing("d", topic="other"))
        with store.read() as snapshot:
            assert snapshot.alerts.delivery("d") == outgoing("d")
            assert [each.id for each in snapshot.alerts.deliveries(limit=9)[0]] == ["d"]

    def test_deliveries_are_listed_last_posted_first(self, store: OpenStore) -> None:
        """In pages, by webhook and by state."""
        with store.transaction() as tx:
            for number in range(4):
                tx.alerts.post(outgoing(f"d{number}", webhook="wv"[number % 2]))
            tx.alerts.settle(replace(outgoing("d0").notification, state=DeliveryState.DEAD, last_error="no"))
        with store.read() as snapshot:
            first, token = snapshot.alerts.deliveries(limit=3)
            rest, end = snapshot.alerts.deliveries(limit=3, after=token)
            assert ([each.id for each in first + rest], end) == (["d3", "d2", "d1", "d0"], "")
            assert rest[0].last_error == "no"
            assert [each.id for each in snapshot.alerts.deliveries(limit=9, webhook="w")[0]] == ["d2", "d0"]
            dead = snapshot.alerts.deliveries(limit=9, state=DeliveryState.DEAD)[0]
            assert [each.id for each in dead] == ["d0"]

    def test_a_claim_counts_an_attempt_and_holds_for_its_lease(self, store: OpenStore) -> None:
        """Then another may claim; settled it is free for its next attempt."""
        with store.transaction() as tx:
            tx.alerts.post(outgoing("d", at=10.0))
            assert tx.alerts.due(9.0) == []
            assert tx.alerts.claim("w", now=9.0, limit=5, lease_s=30.0) == []
            assert tx.alerts.due(10.0) == ["w"]
            claimed = tx.alerts.claim("w", now=10.0, limit=5, lease_s=30.0)
            assert [(one.notification.id, one.notification.attempts) for one in claimed] == [("d", 1)]
        with store.transaction() as tx:
            assert tx.alerts.due(39.0) == []
            assert tx.alerts.claim("w", now=39.0, limit=5, lease_s=30.0) == []
            again = tx.alerts.claim("w", now=40.0, limit=5, lease_s=30.0)[0].notification
            assert again.attempts == 2
            tx.alerts.settle(replace(again, next_attempt_at=50.0, last_error="busy"))
            assert tx.alerts.claim("w", now=49.0, limit=5, lease_s=30.0) == []
            assert tx.alerts.claim("w", now=50.0, limit=5, lease_s=30.0)[0].notification.last_error == "busy"

    def test_deliveries_of_a_topic_keep_their_order(self, store: OpenStore) -> None:
        """The next one's turn comes when the one before waits no more; other topics do not mind."""
        with store.transaction() as tx:
            for name, topic in (("d1", "t"), ("d2", "t"), ("d3", "u")):
                tx.alerts.post(outgoing(name, topic=topic))
            claimed = tx.alerts.claim("w", now=20.0, limit=5, lease_s=5.0)
            assert [one.notification.id for one in claimed] == ["d1", "d3"]
            tx.alerts.settle(replace(claimed[0].notification, next_attempt_at=100.0))
            assert tx.alerts.claim("w", now=99.0, limit=1, lease_s=5.0)[0].notification.id == "d3"
            tx.alerts.settle(replace(claimed[0].notification, state=DeliveryState.DEAD))
            assert tx.alerts.claim("w", now=99.0, limit=5, lease_s=5.0)[0].notification.id == "d2"

    def test_a_claim_takes_no_more_than_asked(self, store: OpenStore) -> None:
        """First posted first."""
        with store.transaction() as tx:
            for number in range(4):
                tx.alerts.post(outgoing(f"d{number}", topic=f"t{number}"))
            taken = tx.alerts.claim("w", now=20.0, limit=2, lease_s=5.0)
            assert [one.notification.id for one in taken] == ["d0", "d1"]

    def test_what_is_switched_off_gets_nothing(self, store: OpenStore) -> None:
        """Neither due nor claimed, and there again when switched on."""
        with store.transaction() as tx:
            tx.alerts.post(outgoing("d"))
            tx.alerts.update_webhook(replace(tx.alerts.webhook("w"), enabled=False))
            assert tx.alerts.due(20.0) == []
            assert tx.alerts.claim("w", now=20.0, limit=5, lease_s=5.0) == []
            tx.alerts.update_webhook(replace(tx.alerts.webhook("w"), enabled=True))
            assert tx.alerts.due(20.0) == ["w"]
            assert tx.alerts.claim("nobody", now=20.0, limit=5, lease_s=5.0) == []

    def test_what_was_never_attempted_can_say_more(self, store: OpenStore) -> None:
        """Of the same webhook, topic and window; once claimed no more."""
        with store.transaction() as tx:
            tx.alerts.post(outgoing("d", start=5.0))
            assert tx.alerts.unsent("w", "t", 10.0) is None
            assert tx.alerts.unsent("v", "t", 5.0) is None
            assert tx.alerts.unsent("w", "t", 5.0) == outgoing("d", start=5.0)
            more = Bulletin("alerts", "t", (alert("a"), alert("b")), 5.0, 10.0)
            tx.alerts.replace_bulletin("d", more)
            assert tx.alerts.delivery("d").bulletin == more
            tx.alerts.claim("w", now=20.0, limit=5, lease_s=5.0)
            assert tx.alerts.unsent("w", "t", 5.0) is None
            with pytest.raises(NotFound):
                tx.alerts.replace_bulletin("d", more)

    def test_a_receiver_that_is_back_is_hurried(self, store: OpenStore) -> None:
        """What waits for another attempt is due; what was never tried keeps its time."""
        with store.transaction() as tx:
            tx.alerts.post(outgoing("d1", topic="a", at=10.0))
            claimed = tx.alerts.claim("w", now=10.0, limit=1, lease_s=5.0)[0]
            tx.alerts.settle(replace(claimed.notification, next_attempt_at=900.0))
            tx.alerts.post(outgoing("d2", topic="b", at=500.0))
            tx.alerts.post(outgoing("d3", topic="c", webhook="v", at=500.0))
            tx.alerts.hurry("w", 20.0)
            assert [tx.alerts.delivery(f"d{n}").notification.next_attempt_at for n in (1, 2, 3)] == [20.0, 500.0, 500.0]

    def test_giving_up_kills_what_waits(self, store: OpenStore) -> None:
        """For this webhook alone, with the reason."""
        with store.transaction() as tx:
            for name, webhook in (("d1", "w"), ("d2", "w"), ("d3", "v")):
                tx.alerts.post(outgoing(name, webhook=webhook))
            tx.alerts.settle(replace(outgoing("d1").notification, state=DeliveryState.DELIVERED))
            assert tx.alerts.give_up("w", "gone") == 1
            found = {each.id: (each.state, each.last_error) for each in tx.alerts.deliveries(limit=9)[0]}
        assert found == {
            "d1": (DeliveryState.DELIVERED, ""),
            "d2": (DeliveryState.DEAD, "gone"),
            "d3": (DeliveryState.WAITING, ""),
        }

    def test_settling_what_is_gone_is_nothing(self, store: OpenStore) -> None:
        """Its webhook was deleted while it was under way."""
        with store.transaction() as tx:
            tx.alerts.settle(outgoing("never").notification)
            assert tx.alerts.deliveries(limit=9) == ([], "")

    def test_only_what_is_over_is_forgotten(self, store: OpenStore) -> None:
        """What waits, fires or holds stays, however old."""
        with store.transaction() as tx:
            for name, state in (("d1", DeliveryState.WAITING), ("d2", DeliveryState.DEAD), ("d3", DeliveryState.DEAD)):
                tx.alerts.post(outgoing(name, at=50.0 if name == "d3" else 1.0))
                tx.alerts.settle(replace(tx.alerts.delivery(name).notification, state=state))
            states = (AlertState.OK, AlertState.PENDING, AlertState.FIRING, AlertState.RESOLVED)
            tx.alerts.put_alerts("g", [alert(f"a-{state}", state=state) for state in states])
            tx.alerts.put_alerts("g", [alert("young", state=AlertState.RESOLVED, since=50.0)])
            tx.alerts.insert_silence(Silence("old", 2.0))
            tx.alerts.insert_silence(Silence("new", 99.0))
            forgotten = tx.alerts.forget(deliveries_before=40.0, alerts_before=40.0, silences_before=40.0)
            assert forgotten == {"deliveries": 1, "alerts": 2, "silences": 1}
            assert sorted(each.id for each in tx.alerts.deliveries(limit=9)[0]) == ["d1", "d3"]
            assert [each.id for each in tx.alerts.alerts_in("g")] == ["a-firing", "a-pending", "young"]
            assert [each.id for each in tx.alerts.silences()] == ["new"]

    def test_a_transaction_that_fails_leaves_nothing(self, store: OpenStore) -> None:
        """Alerts, groups and outbox are one thing with everything else."""

        def fail() -> None:
            with store.transaction() as tx:
                tx.alerts.put_alerts("g", [alert("a")])
                tx.alerts.put_group("m", AlertGroup("g", told=(Told("w", ("a",), 1.0),)))
                tx.alerts.post(outgoing("d"))
                raise RuntimeError("kill")

        with pytest.raises(RuntimeError):
            fail()
        with store.read() as snapshot:
            assert snapshot.alerts.alerts(limit=9) == ([], "")
            assert snapshot.alerts.group("g") == AlertGroup("g")
            assert snapshot.alerts.due(99.0) == []

    @pytest.mark.parametrize("text", ["a\0b", "\ud800"])
    def test_text_that_no_database_keeps_is_refused(self, store: OpenStore, text: str) -> None:
        """On every adapter alike, before anything is written."""
        calls: list[Callable[[AlertTransaction], object]] = [
            lambda tx: tx.alerts.put_alerts("g", [replace(alert("a"), description=text)]),
            lambda tx: tx.alerts.insert_silence(Silence("s", 9.0, comment=text)),
            lambda tx: tx.alerts.insert_webhook(Webhook("x", f"https://{text}/")),
            lambda tx: tx.alerts.post(
                Outgoing(replace(outgoing("d").notification, subject=text), Bulletin("test", "t", ()))
            ),
            lambda tx: tx.alerts.settle(replace(outgoing("d").notification, last_error=text)),
        ]
        for call in calls:
            with store.transaction() as tx, pytest.raises(InvalidArgument):
                call(tx)
