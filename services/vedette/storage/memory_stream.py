"""The metrics stream in memory: for one process, and gone with it.

Rule: memory is bounded; beyond `max_messages` or `max_bytes` a topic forgets its oldest, as the port allows.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice

from vedette.core.errors import InvalidArgument, Unavailable
from vedette.core.events import Damage, DeadLetter, Delivery, Message, Topic
from vedette.storage.stream_messages import (
    MAX_LETTERS,
    MAX_READ_BYTES,
    Remembered,
    check_messages,
    check_names,
    check_page,
    fingerprint,
)

MAX_MESSAGES = 10_000
"""Default bound of a topic. A message is a batch, so this is minutes to hours of traffic."""

MAX_BYTES = 256 << 20
"""Default bound of a topic's message values in bytes, and of a group's dead letters; the newest always stays."""


class _Log:
    """One topic: its newest messages, where they begin, and who waits for more."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.messages: deque[Message] = deque()
        self.end = 0
        self._bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._remembered = Remembered()
        self.waiters: set[asyncio.Future[None]] = set()

    @property
    def oldest(self) -> int:
        return self.end - len(self.messages)

    def append(self, message: Message) -> int:
        crc = fingerprint(message)
        known = self._remembered.find(message, crc)
        if known is not None:
            return known
        self._remembered.note(message.producer, message.sequence, crc, self.end)
        self.messages.append(message)
        self.end += 1
        self._bytes += len(message.value)
        while len(self.messages) > self._max_messages or (self._bytes > self._max_bytes and len(self.messages) > 1):
            self._bytes -= len(self.messages.popleft().value)
        return self.end - 1

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class MemoryEventStream:
    """An `EventStream` that lives in one event loop. Not thread-safe."""

    def __init__(
        self,
        *,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        max_read_bytes: int = MAX_READ_BYTES,
    ) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_read_bytes = max_read_bytes
        self._logs: dict[Topic, _Log] = {}
        self._committed: dict[tuple[Topic, str], int] = {}
        self._failures: dict[tuple[Topic, str], Counter[int]] = {}
        self._dead: dict[tuple[Topic, str], dict[int, DeadLetter]] = {}
        self._closed = False

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> list[int]:
        log = self._log(topic)
        check_messages(messages)
        offsets = [log.append(message) for message in messages]
        log.wake()
        return offsets

    async def read(self, topic: Topic, offset: int, limit: int) -> list[Delivery]:
        log = self._log(topic)
        check_page(offset, limit)
        first = max(offset, log.oldest)
        skipped = first - log.oldest
        messages = _fitting(islice(log.messages, skipped, skipped + limit), self._max_read_bytes)
        return [Delivery(topic, first + index, message) for index, message in enumerate(messages)]

    async def wait(self, topic: Topic, offset: int, timeout_s: float) -> bool:
        log = self._log(topic)
        try:
            async with asyncio.timeout(timeout_s):
                while log.end <= offset:
                    await self._next_publish(log)
        except TimeoutError:
            return False
        return True

    async def _next_publish(self, log: _Log) -> None:
        waiter = asyncio.get_running_loop().create_future()
        log.waiters.add(waiter)
        try:
            await waiter
        finally:
            log.waiters.discard(waiter)
        self._check_open()

    async def commit(self, topic: Topic, group: str, offset: int) -> None:
        if not 0 <= offset <= self._log(topic, group).end:
            raise InvalidArgument(f"offset {offset} is not between 0 and the end of {topic}")
        self._committed[topic, group] = max(offset, self._committed.get((topic, group), 0))
        failures = self._failures.get((topic, group), Counter())
        for handled in [failed for failed in failures if failed < self._committed[topic, group]]:
            del failures[handled]

    async def committed(self, topic: Topic, group: str) -> int:
        self._log(topic, group)
        return self._committed.get((topic, group), 0)

    async def fail(self, topic: Topic, group: str, offset: int, reason: str) -> int:
        self._log(topic, group)
        check_page(offset, 1)
        failures = self._failures.setdefault((topic, group), Counter())
        failures[offset] += 1
        return failures[offset]

    async def bury(self, delivery: Delivery, group: str, reason: str) -> None:
        self._log(delivery.topic, group)
        letters = self._dead.setdefault((delivery.topic, group), {})
        letters.setdefault(delivery.offset, DeadLetter(delivery, group, reason, time.time()))
        size = sum(len(letter.delivery.message.value) for letter in letters.values())
        while len(letters) > MAX_LETTERS or (size > self._max_bytes and len(letters) > 1):
            size -= len(letters.pop(next(iter(letters))).delivery.message.value)

    async def dead_letters(self, topic: Topic, group: str, limit: int) -> list[DeadLetter]:
        self._log(topic, group)
        check_page(0, limit)
        letters = list(self._dead.get((topic, group), {}).values())[:limit]
        return letters[: len(_fitting((letter.delivery.message for letter in letters), self._max_read_bytes))]

    async def damage(self, topic: Topic) -> list[Damage]:
        self._log(topic)
        return []

    async def end(self, topic: Topic) -> int:
        return self._log(topic).end

    async def close(self) -> None:
        self._closed = True
        for log in self._logs.values():
            log.wake()

    def _log(self, topic: Topic, group: str = "-") -> _Log:
        self._check_open()
        check_names(topic, group)
        return self._logs.setdefault(topic, _Log(self._max_messages, self._max_bytes))

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the stream is closed")


def _fitting(messages: Iterable[Message], max_bytes: int) -> list[Message]:
    """The first messages that fit into the bytes together, and one at least."""
    fitting: list[Message] = []
    for message in messages:
        max_bytes -= len(message.value)
        if fitting and max_bytes < 0:
            break
        fitting.append(message)
    return fitting
