"""What every `EventStream` must do. Inherit `EventStreamContract` and give it the fixture `stream`."""

from __future__ import annotations

import asyncio

import pytest

from vedette.core.errors import InvalidArgument, Unavailable
from vedette.core.events import Delivery, Message
from vedette.core.ports import EventStream


def message(text: str, sequence: int = 7) -> Message:
    """A message whose every field is filled in."""
    return Message(key="house", value=text.encode(), content_type="text/plain", producer="p1", sequence=7)


class EventStreamContract:
    """Subclasses define an async fixture `stream` that yields an empty stream and closes it."""

    async def test_offsets_count_up_from_zero_in_each_topic(self, stream: EventStream) -> None:
        """Publishing returns the offsets, in order, for each topic on its own."""
        assert await stream.publish("captures", [message("a"), message("b")]) == [0, 1]
        assert await stream.publish("captures", [message("c")]) == [2]
        assert await stream.publish("alerts", [message("d")]) == [0]
        assert [await stream.end("captures"), await stream.end("alerts"), await stream.end("tensors")] == [3, 1, 0]

    async def test_a_message_is_read_as_it_was_published(self, stream: EventStream) -> None:
        """Every field comes back, with the topic and the offset."""
        binary = Message("k", bytes(range(256)), "application/octet-stream", "producer", 2**40)
        await stream.publish("tensors", [binary])
        assert await stream.read("tensors", 0, 10) == [Delivery("tensors", 0, binary)]

    async def test_reading_begins_at_the_offset_and_stops_at_the_limit(self, stream: EventStream) -> None:
        """A page is in offset order, and reading at the end gives nothing and does not wait."""
        await stream.publish("captures", [message(str(i)) for i in range(5)])
        assert [d.offset for d in await stream.read("captures", 1, 3)] == [1, 2, 3]
        assert [d.message.value for d in await stream.read("captures", 4, 3)] == [b"4"]
        assert await stream.read("captures", 5, 3) == []
        assert await stream.read("captures", 99, 3) == []

    async def test_publishing_nothing_is_fine(self, stream: EventStream) -> None:
        """An empty batch has no offsets and changes nothing."""
        assert await stream.publish("captures", []) == []
        assert await stream.end("captures") == 0

    async def test_waiting_for_what_is_there_returns_at_once(self, stream: EventStream) -> None:
        """No timeout is needed for a message that exists."""
        await stream.publish("captures", [message("a")])
        assert await stream.wait("captures", 0, 0.0) is True

    async def test_waiting_for_what_does_not_come_ends_in_time(self, stream: EventStream) -> None:
        """The answer is False, and a message at an earlier offset does not count."""
        await stream.publish("captures", [message("a")])
        assert await stream.wait("captures", 1, 0.01) is False

    async def test_publishing_wakes_everyone_who_waits(self, stream: EventStream) -> None:
        """Two waiters of one topic wake for one message; one who waits for a later offset sleeps on."""
        waiters = [asyncio.create_task(stream.wait("captures", 0, 30.0)) for _ in range(2)]
        later = asyncio.create_task(stream.wait("captures", 1, 30.0))
        await asyncio.sleep(0)
        await stream.publish("captures", [message("a")])
        assert await asyncio.gather(*waiters) == [True, True]
        assert not later.done()
        await stream.publish("captures", [message("b")])
        assert await later is True

    async def test_a_cancelled_waiter_harms_nobody(self, stream: EventStream) -> None:
        """Its neighbour still wakes."""
        gone, neighbour = (asyncio.create_task(stream.wait("captures", 0, 30.0)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await stream.publish("captures", [message("a")])
        assert await neighbour is True
        with pytest.raises(asyncio.CancelledError):
            await gone

    async def test_committed_offsets_belong_to_topic_and_group(self, stream: EventStream) -> None:
        """A group never seen stands at 0; what one group commits moves no other."""
        await stream.publish("captures", [message("a"), message("b")])
        await stream.publish("alerts", [message("c")])
        await stream.commit("captures", "monitor", 2)
        assert await stream.committed("captures", "monitor") == 2
        assert await stream.committed("captures", "archive") == 0
        assert await stream.committed("alerts", "monitor") == 0

    async def test_a_committed_offset_never_moves_backwards(self, stream: EventStream) -> None:
        """A late commit of an older offset is ignored."""
        await stream.publish("captures", [message("a"), message("b")])
        await stream.commit("captures", "monitor", 2)
        await stream.commit("captures", "monitor", 1)
        assert await stream.committed("captures", "monitor") == 2

    @pytest.mark.parametrize("offset", [-1, 2])
    async def test_an_offset_that_cannot_be_is_refused(self, stream: EventStream, offset: int) -> None:
        """Committing what nobody can have read would skip messages that are still to come."""
        await stream.publish("captures", [message("a")])
        with pytest.raises(InvalidArgument):
            await stream.commit("captures", "monitor", offset)
        assert await stream.committed("captures", "monitor") == 0

    @pytest.mark.parametrize(("offset", "limit"), [(-1, 1), (0, 0), (0, -1)])
    async def test_reading_nonsense_is_refused(self, stream: EventStream, offset: int, limit: int) -> None:
        """Negative offsets and empty limits are mistakes of the caller."""
        with pytest.raises(InvalidArgument):
            await stream.read("captures", offset, limit)

    async def test_concurrent_publishers_lose_and_repeat_nothing(self, stream: EventStream) -> None:
        """Offsets of many publishers together are 0..n-1, and each one's messages keep their order."""
        batches = [[message(f"{who}:{i}") for i in range(20)] for who in range(10)]
        offsets = await asyncio.gather(*(stream.publish("captures", batch) for batch in batches))
        assert sorted(offset for batch in offsets for offset in batch) == list(range(200))
        values = [d.message.value.decode() for d in await stream.read("captures", 0, 1_000)]
        for who in range(10):
            assert [v for v in values if v.startswith(f"{who}:")] == [f"{who}:{i}" for i in range(20)]

    async def test_a_closed_stream_says_so(self, stream: EventStream) -> None:
        """Closing twice is fine; using it afterwards is `Unavailable`, for a waiter too."""
        waiter = asyncio.create_task(stream.wait("captures", 0, 30.0))
        await asyncio.sleep(0)
        await stream.close()
        await stream.close()
        with pytest.raises(Unavailable):
            await waiter
        with pytest.raises(Unavailable):
            await stream.publish("captures", [message("a")])
        with pytest.raises(Unavailable):
            await stream.read("captures", 0, 1)
