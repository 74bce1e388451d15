"""Events of the registry on the stream: in order, never in anybody's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from vedette.core.clock import ManualClock
from vedette.core.errors import Unavailable
from vedette.core.events import Message, Topic
from vedette.registry import lifecycle as module
from vedette.registry.lifecycle import Lifecycle
from vedette.storage.memory import MemoryEventStream


class Moody(MemoryEventStream):
    """A stream that refuses the first few times."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> list[int]:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("the stream is away")
        return await super().publish(topic, messages)


async def told(stream: MemoryEventStream) -> list[dict[str, Any]]:
    """What the topic holds."""
    return [json.loads(delivery.message.value) for delivery in await stream.read("lifecycle", 0, 1000)]


async def test_events_from_many_threads_keep_their_numbers() -> None:
    """Each once, with sequences that have no gap."""
    stream = MemoryEventStream()
    lifecycle = Lifecycle(stream, ManualClock())
    task = asyncio.create_task(lifecycle.run())
    await asyncio.gather(*(asyncio.to_thread(lifecycle.tell, "model.created", f"m{n}", {}) for n in range(200)))
    async with asyncio.timeout(5):
        assert await stream.wait("lifecycle", 199, 5.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    deliveries = await stream.read("lifecycle", 0, 1000)
    assert [delivery.message.sequence for delivery in deliveries] == list(range(1, 201))
    assert len({event["subject"] for event in await told(stream)}) == 200


async def test_a_stream_that_is_away_gets_the_events_later() -> None:
    """Nothing is lost, nobody has waited."""
    stream = Moody(refusals=1)
    lifecycle = Lifecycle(stream, ManualClock())
    lifecycle.tell("model.created", "m", {"model": "m"})
    assert not await lifecycle.flush()
    assert await lifecycle.flush()
    (event,) = await told(stream)
    assert (event["type"], event["data"], event["time"]) == (
        "vedette.model.created",
        {"model": "m"},
        "2023-11-14T22:13:20Z",
    )


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Over the bound an event is dropped, and the log says so."""
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    stream = MemoryEventStream()
    lifecycle = Lifecycle(stream, ManualClock())
    for n in range(3):
        lifecycle.tell("model.created", f"m{n}", {})
    assert await lifecycle.flush()
    assert len(await told(stream)) == 2
    assert "dropped" in caplog.text
