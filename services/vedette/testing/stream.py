"""What every `EventStream` must do. Inherit `EventStreamContract` and give it two fixtures.

Rule: only the port is used here, so that an adapter for any backend can be held to it.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest

from vedette.core.errors import InvalidArgument, TooLarge, Unavailable
from vedette.core.events import Delivery, Message, Topic
from vedette.core.ports import EventStream

SMALL_BYTES = 1 << 20
"""What the fixture `small_stream` keeps of each topic."""
SMALL_READ_BYTES = 64 << 10
"""What one read of `small_stream` returns at most, unless the first message alone is larger."""
GROUP = "monitor"


def message(text: str, sequence: int = 7) -> Message:
    """A message whose every field is filled in."""
    return Message(key="house", value=text.encode(), content_type="text/plain", producer="p1", sequence=sequence)


def large(number: int, size: int = 10_000) -> Message:
    """A message of that many bytes, different for each number."""
    return Message("k", number.to_bytes(4, "big") * (size // 4), "application/octet-stream", "p2", number)


async def read_all(stream: EventStream, topic: Topic = "captures", offset: int = 0) -> list[Delivery]:
    """Everything from the offset to the end, page after page."""
    found: list[Delivery] = []
    while page := await stream.read(topic, offset, 1_000):
        found += page
        offset = page[-1].offset + 1
    return found


class EventStreamContract:
    """Subclasses define two async fixtures, each an empty stream that is closed afterwards.

    `stream` has default limits; `small_stream` keeps `SMALL_BYTES` of a topic and reads `SMALL_READ_BYTES` at once.
    """

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

    async def test_what_is_sent_again_is_stored_once(self, stream: EventStream) -> None:
        """A producer that heard of a failure sends again: the same message gets the offset it has, also in one call."""
        first = await stream.publish("captures", [message("a", 1), message("b", 2)])
        assert await stream.publish("captures", [message("b", 2), message("c", 3), message("c", 3)]) == [1, 2, 2]
        assert first == [0, 1]
        assert [d.message.value for d in await read_all(stream)] == [b"a", b"b", b"c"]

    async def test_a_sequence_that_is_used_twice_loses_nothing(self, stream: EventStream) -> None:
        """Only the very same message counts as sent again; without a producer nothing does."""
        assert await stream.publish("captures", [message("a", 1), message("other", 1)]) == [0, 1]
        nameless = Message("k", b"v", "text/plain")
        assert await stream.publish("captures", [nameless, nameless]) == [2, 3]
        assert await stream.publish("alerts", [message("a", 1)]) == [0]

    async def test_the_oldest_messages_go_and_reading_jumps(self, small_stream: EventStream) -> None:
        """Beyond its size a topic drops its oldest; offsets go on; a read from a dropped one begins at the oldest."""
        for first in range(0, 300, 10):
            await small_stream.publish("captures", [large(number) for number in range(first, first + 10)])
        kept = await read_all(small_stream)
        offsets = [delivery.offset for delivery in kept]
        assert 0 < offsets[0] < 280
        assert offsets == list(range(offsets[0], 300))
        assert [d.message for d in kept] == [large(offset) for offset in offsets]
        assert len(kept) * 10_000 <= SMALL_BYTES
        assert await small_stream.damage("captures") == []
        assert await small_stream.end("captures") == 300
        assert await small_stream.wait("captures", 0, 0.0) is True

    async def test_a_read_is_limited_in_bytes(self, small_stream: EventStream) -> None:
        """Whatever the limit of messages; one message comes back whatever its size."""
        await small_stream.publish("captures", [large(n) for n in range(20)] + [large(20, 200_000), large(21)])
        page = await small_stream.read("captures", 0, 1_000)
        assert [d.offset for d in page] == list(range(6))
        assert [d.offset for d in await small_stream.read("captures", 20, 1_000)] == [20]
        assert [d.offset for d in await read_all(small_stream)] == list(range(22))

    @pytest.mark.parametrize("sequence", [-1, 1 << 63])
    async def test_a_sequence_that_is_no_count_is_refused(self, stream: EventStream, sequence: int) -> None:
        """Nothing of the call is stored, its good messages neither."""
        with pytest.raises(InvalidArgument):
            await stream.publish("captures", [message("fine"), message("bad", sequence)])
        assert await read_all(stream) == []

    async def test_text_that_is_none_is_refused(self, stream: EventStream) -> None:
        """A lone surrogate cannot be stored as text anywhere."""
        with pytest.raises(InvalidArgument):
            await stream.publish("captures", [Message("\ud800", b"", "text/plain")])

    async def test_a_message_over_the_limit_is_refused(self, stream: EventStream) -> None:
        """64 MiB is a batch too many; so is a key of a megabyte."""
        with pytest.raises(TooLarge):
            await stream.publish("captures", [Message("k", bytes((64 << 20) + 1), "text/plain")])
        with pytest.raises(TooLarge):
            await stream.publish("captures", [Message("k" * (1 << 20), b"", "text/plain")])
        assert await stream.end("captures") == 0

    async def test_a_topic_that_does_not_exist_is_refused(self, stream: EventStream) -> None:
        """Names from outside never reach a backend."""
        strange = cast("Topic", "../elsewhere")
        with pytest.raises(InvalidArgument):
            await stream.publish(strange, [message("a")])
        with pytest.raises(InvalidArgument):
            await stream.read(strange, 0, 1)

    @pytest.mark.parametrize("group", ["", "a\nb", "g" * 201])
    async def test_a_group_without_a_proper_name_is_refused(self, stream: EventStream, group: str) -> None:
        """Wherever a group is named."""
        await stream.publish("captures", [message("a")])
        (delivery,) = await stream.read("captures", 0, 1)
        for call in (
            stream.commit("captures", group, 1),
            stream.committed("captures", group),
            stream.fail("captures", group, 0, "why"),
            stream.bury(delivery, group, "why"),
            stream.dead_letters("captures", group, 1),
        ):
            with pytest.raises(InvalidArgument):
                await call

    async def test_failures_are_counted_by_topic_group_and_message(self, stream: EventStream) -> None:
        """Each failure is one more of its own message, and nobody else's."""
        assert [await stream.fail("captures", GROUP, 3, "it broke") for _ in range(3)] == [1, 2, 3]
        assert await stream.fail("captures", GROUP, 4, "it broke") == 1
        assert await stream.fail("captures", "archive", 3, "it broke") == 1
        assert await stream.fail("alerts", GROUP, 3, "it broke") == 1
        assert await stream.fail("captures", GROUP, 3, "again") == 4

    async def test_a_dead_letter_holds_the_message_and_why(self, stream: EventStream) -> None:
        """It belongs to the group that gave up, and is kept once."""
        await stream.publish("captures", [message("good", 1), message("poison", 2), message("worse", 3)])
        _, poison, worse = await stream.read("captures", 0, 3)
        for delivery in (worse, poison, poison):
            await stream.bury(delivery, GROUP, f"cannot read {delivery.offset}")
        letters = await stream.dead_letters("captures", GROUP, 10)
        assert [(letter.delivery, letter.group, letter.reason) for letter in letters] == [
            (worse, GROUP, "cannot read 2"),
            (poison, GROUP, "cannot read 1"),
        ]
        assert abs(letters[0].at - time.time()) < 60
        assert await stream.dead_letters("captures", GROUP, 1) == letters[:1]
        assert await stream.dead_letters("captures", "archive", 10) == []
        assert await stream.dead_letters("alerts", GROUP, 10) == []

    async def test_a_poisoned_message_does_not_stop_a_group(self, stream: EventStream) -> None:
        """Fail, fail, bury, commit past it: the rest is handled, and nothing is lost."""
        await stream.publish("captures", [message(text, number) for number, text in enumerate("abXcd")])
        handled = []
        for delivery in await stream.read("captures", 0, 10):
            while delivery.message.value == b"X":
                if await stream.fail("captures", GROUP, delivery.offset, "poison") == 3:
                    await stream.bury(delivery, GROUP, "poison")
                    break
            else:
                handled.append(delivery.message.value)
            await stream.commit("captures", GROUP, delivery.offset + 1)
        assert handled == [b"a", b"b", b"c", b"d"]
        assert [x.delivery.message.value for x in await stream.dead_letters("captures", GROUP, 9)] == [b"X"]
        assert await stream.committed("captures", GROUP) == 5

    async def test_dead_letters_outlive_the_topic(self, small_stream: EventStream) -> None:
        """What was set aside stays when the topic has dropped it."""
        await small_stream.publish("captures", [message("poison")])
        (poison,) = await small_stream.read("captures", 0, 1)
        await small_stream.bury(poison, GROUP, "poison")
        for first in range(0, 300, 10):
            await small_stream.publish("captures", [large(number) for number in range(first, first + 10)])
        assert (await small_stream.read("captures", 0, 1))[0].offset > 0
        assert [x.delivery for x in await small_stream.dead_letters("captures", GROUP, 9)] == [poison]

    async def test_dead_letters_are_read_in_bounds(self, small_stream: EventStream) -> None:
        """Limited in bytes, like a read; one comes back whatever its size."""
        for number in range(2):
            await small_stream.bury(Delivery("tensors", number, large(number, 40_000)), GROUP, "poison")
        assert [x.delivery.offset for x in await small_stream.dead_letters("tensors", GROUP, 9)] == [0]

    async def test_a_slow_consumer_holds_nobody_up(self, small_stream: EventStream) -> None:
        """Producers go on; it comes back to the oldest message that is kept."""
        await small_stream.publish("captures", [large(0)])
        await small_stream.commit("captures", "slow", 1)
        for first in range(1, 301, 10):
            await small_stream.publish("captures", [large(number) for number in range(first, first + 10)])
        position = await small_stream.committed("captures", "slow")
        assert position == 1
        rest = await read_all(small_stream, offset=position)
        assert rest[0].offset > 1
        assert rest[-1].offset == await small_stream.end("captures") - 1

    async def test_many_publishers_and_a_reader_at_once(self, stream: EventStream) -> None:
        """A reader that waits and reads meanwhile sees every message once, in order."""
        seen: list[int] = []

        async def consume() -> None:
            while len(seen) < 200:
                assert await stream.wait("captures", len(seen), 30.0)
                seen.extend(d.offset for d in await stream.read("captures", len(seen), 7))

        async def produce(who: int) -> None:
            for number in range(20):
                await stream.publish("captures", [message(f"{who}:{number}", who * 20 + number)])

        await asyncio.gather(consume(), *(produce(who) for who in range(10)))
        assert seen == list(range(200))

    async def test_a_cancelled_publisher_harms_nobody(self, stream: EventStream) -> None:
        """Its message is there or not; the others' are."""
        tasks = [asyncio.create_task(stream.publish("captures", [message(str(n), n)])) for n in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        values = {d.message.value for d in await read_all(stream)}
        assert values >= {b"%d" % number for number in range(10) if number != 3}

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
        for call in (
            stream.read("captures", 0, 1),
            stream.end("captures"),
            stream.committed("captures", GROUP),
            stream.commit("captures", GROUP, 0),
            stream.fail("captures", GROUP, 0, "why"),
            stream.bury(Delivery("captures", 0, message("a")), GROUP, "why"),
            stream.dead_letters("captures", GROUP, 1),
            stream.damage("captures"),
            stream.wait("captures", 0, 0.0),
        ):
            with pytest.raises(Unavailable):
                await call
