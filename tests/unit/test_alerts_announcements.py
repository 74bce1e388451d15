"""Alerts that other services announce, and what alerts need unasked."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_alerts_grouping import words

from vedette.core.clock import ManualClock
from vedette.core.errors import InvalidArgument, TooLarge, Unavailable
from vedette.core.events import Message
from vedette.core.metrics import Gauge, NoMetrics
from vedette.entities.alerts import AlertState, DeliveryState, Webhook
from vedette.monitor.alerting import announcements
from vedette.monitor.alerting.alert_upkeep import AlertUpkeep
from vedette.monitor.alerting.announcements import GROUP, MAX_EVENTS, AnnouncementReader, read_announcements
from vedette.storage.memory_monitors import MemoryMonitorStore
from vedette.storage.memory_stream import MemoryEventStream
from vedette.testing.alerts import alert, outgoing


def event(name: str, state: str = "firing", **data: Any) -> dict[str, Any]:
    """An announcement of a debugger's rule."""
    given = {"state": state, "monitor": "run-7", "check": "vanishing_gradient", "feature": "a", **data}
    return {"specversion": "1.0", "id": name, "source": "/vedette/debugger", "type": "vedette.alert", "data": given}


class Desk:
    """A stream, a store with one webhook, and a reader between them."""

    def __init__(self) -> None:
        self.stream = MemoryEventStream()
        self.store = MemoryMonitorStore()
        self.store.migrate()
        self.clock = ManualClock(1_000.0)
        self.reader = AnnouncementReader(self.stream, self.store, clock=self.clock)
        with self.store.transaction() as tx:
            tx.alerts.insert_webhook(Webhook("w", "https://w.example/"))

    async def publish(self, *values: Any) -> None:
        """One message for each value."""
        texts = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
        await self.stream.publish(
            "alerts", [Message("debugger", text, "application/cloudevents+json") for text in texts]
        )

    async def read(self) -> list[str]:
        """Read everything, send what is due, and return what was said."""
        while await self.reader.step():
            pass
        self.clock.advance(5.0)
        with self.store.transaction() as tx:
            found = tx.alerts.claim("w", now=self.clock.time(), limit=99, lease_s=1e9)
            for one in found:
                tx.alerts.settle(replace(one.notification, state=DeliveryState.DELIVERED))
        return [words(one) for one in found]


async def test_an_announced_alert_is_told_and_ended() -> None:
    """Once each; what nobody heard of does not end."""
    desk = Desk()
    await desk.publish(event("e0", "resolved"))
    assert await desk.read() == []
    await desk.publish(event("e1"), event("e2"))
    assert await desk.read() == ["+a"]
    await desk.publish(event("e3"))
    assert await desk.read() == []
    await desk.publish([event("e4", "resolved"), event("e5", feature="b")])
    assert await desk.read() == ["+b -a"]
    with desk.store.read() as snapshot:
        states = {each.feature: each.state for each in snapshot.alerts.alerts(limit=9)[0]}
    assert states == {"a": AlertState.RESOLVED, "b": AlertState.FIRING}


async def test_what_is_read_twice_changes_nothing() -> None:
    """A crash before the offset was committed reads it all again."""
    desk = Desk()
    messages = [event("e1"), event("e2", "resolved"), event("e3", feature="b")]
    await desk.publish(messages[0])
    said = await desk.read()
    await desk.publish(*messages[1:])
    said += await desk.read()
    with desk.store.read() as snapshot:
        posted = snapshot.alerts.deliveries(limit=99)[0]
    await desk.publish(*messages)
    assert await desk.read() == []
    assert said == ["+a", "+b -a"]
    with desk.store.read() as snapshot:
        assert [one.id for one in snapshot.alerts.deliveries(limit=99)[0]] == [one.id for one in posted]


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"[[]]",
        event("e") | {"specversion": "0.3"},
        event("e") | {"type": "other"},
        event("") | {},
        event("e", "maybe"),
        event("e", monitor=""),
        event("e", monitor="x" * 201),
        event("e", description="x" * 1_001),
        event("e", value="high"),
        event("e", webhooks=["w"] * 101),
        event("e", feature="a\0b"),
        {"specversion": "1.0"},
    ],
)
async def test_a_message_that_cannot_be_read_is_set_aside(wrong: Any) -> None:
    """The one after it is handled; nothing is half done."""
    desk = Desk()
    await desk.publish(wrong, event("e1"))
    assert await desk.read() == ["+a"]
    letters = await desk.stream.dead_letters("alerts", GROUP, 9)
    assert [letter.delivery.offset for letter in letters] == [0]


def test_messages_are_bounded() -> None:
    """In bytes and in events."""
    with pytest.raises(TooLarge):
        read_announcements(b" " * (1 << 20) + b"1")
    with pytest.raises(TooLarge):
        read_announcements(json.dumps([event("e")] * (MAX_EVENTS + 1)).encode())


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.text(), st.lists, max_leaves=5).map(lambda v: json.dumps(v).encode())
)
def test_no_bytes_break_the_reader(value: bytes) -> None:
    """They are announcements or an error of one kind."""
    try:
        found = read_announcements(value)
    except InvalidArgument:
        return
    assert found == []


async def test_one_source_cannot_fill_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its share it is set aside; other sources go on."""
    monkeypatch.setattr(announcements, "MAX_MEMBERS", 2)
    desk = Desk()
    await desk.publish(event("e1"), event("e2", feature="b"), event("e3", feature="c"), event("e4", variant="B"))
    assert await desk.read() == ["+a +b", "+a"]
    assert len(await desk.stream.dead_letters("alerts", GROUP, 9)) == 1


async def test_trouble_of_the_store_skips_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be kept is read again; what fails for no known reason is set aside after five times."""
    desk = Desk()
    await desk.publish(event("e1"), event("e2", feature="b"))

    def fail(*_: Any, **__: Any) -> None:
        raise trouble

    trouble: Exception = Unavailable("away")
    with monkeypatch.context() as patched:
        patched.setattr(announcements, "announce", fail)
        for _ in range(9):
            with pytest.raises(Unavailable):
                await desk.reader.step()
        trouble = RuntimeError("a defect")
        for times in range(5):
            assert await desk.stream.committed("alerts", GROUP) == 0, times
            with pytest.raises(RuntimeError):
                await desk.reader.step()
    assert await desk.stream.committed("alerts", GROUP) == 1
    assert [letter.delivery.offset for letter in await desk.stream.dead_letters("alerts", GROUP, 9)] == [0]
    assert await desk.read() == ["+b"]


async def test_the_reader_follows_the_topic() -> None:
    """Whatever comes while it runs, until it is cancelled."""
    desk = Desk()
    task = asyncio.create_task(desk.reader.run())
    await desk.publish(event("e1"))
    async with asyncio.timeout(10):
        while await desk.stream.committed("alerts", GROUP) < 1:  # noqa: ASYNC110 - the stream tells of messages only
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


class Gauges(NoMetrics):
    """Keeps what was set."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], float] = {}

    def gauge(self, name: str, **labels: str) -> Gauge:
        seen, key = self.seen, (labels["monitor"], labels["state"])
        assert name == "vedette_alerts"

        class One:
            def set(self, value: float) -> None:
                seen[key] = value

            def inc(self, amount: float = 1.0) -> None: ...

            def dec(self, amount: float = 1.0) -> None: ...

        return One()


def test_numbers_of_alerts_stand_in_prometheus_and_what_is_over_goes() -> None:
    """A monitor whose alerts are gone has none; what waits is never dropped."""
    desk = Desk()
    gauges = Gauges()
    upkeep = AlertUpkeep(desk.store, clock=desk.clock, metrics=gauges, kept_s=100.0, sweep_s=10.0)
    with desk.store.transaction() as tx:
        tx.alerts.put_alerts("g", [alert("a"), alert("b", state=AlertState.RESOLVED, since=950.0)])
        tx.alerts.post(outgoing("waits"))
        tx.alerts.post(outgoing("done", at=950.0))
        tx.alerts.settle(replace(outgoing("done", at=950.0).notification, state=DeliveryState.DELIVERED))
    upkeep.round()
    assert gauges.seen == {("m", "pending"): 0, ("m", "firing"): 1, ("m", "resolved"): 1}
    desk.clock.advance(60.0)
    upkeep.round()
    with desk.store.transaction() as tx:
        assert [one.id for one in tx.alerts.deliveries(limit=9)[0]] == ["waits"]
        tx.alerts.delete_alerts(["a"])
    upkeep.round()
    assert set(gauges.seen.values()) == {0}
