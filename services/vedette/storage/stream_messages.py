"""What every adapter of the stream asks of messages, topics and groups, and how it knows a message again.

Rule: no backend here.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import get_args

from vedette.core.errors import InvalidArgument, TooLarge
from vedette.core.events import Message, Topic

TOPICS: tuple[Topic, ...] = get_args(Topic)
MAX_MESSAGE_BYTES = 64 << 20
"""Largest message value. A message is a batch; one that is larger belongs into several."""
MAX_NAME_BYTES = 4096
"""Largest key, content type and producer id, each."""
MAX_GROUP = 200
"""Characters in the name of a consumer group."""
MAX_READ_BYTES = 16 << 20
"""Default bound of what one read returns; one message is returned whatever its size."""
MAX_LETTERS = 1_000
"""Dead letters kept for each topic and group; beyond that the oldest go."""
MAX_LETTER_BYTES = 256 << 20
"""Bytes of dead letters kept for each topic and group; the newest is kept whatever its size."""

_REMEMBERED = 1_000
_PRODUCERS = 256
_HEAD = struct.Struct("<IIIq")


def check_names(topic: str, group: str = "-") -> None:
    """Refuse topics that do not exist and groups that have no proper name.

    Raises:
        InvalidArgument: naming what is wrong.
    """
    if topic not in TOPICS:
        raise InvalidArgument(f"there is no topic {topic[:80]!r}; the topics are {', '.join(TOPICS)}")
    if not (0 < len(group) <= MAX_GROUP and group.isprintable()):
        raise InvalidArgument(f"a consumer group is named by 1 to {MAX_GROUP} printable characters")


def check_page(offset: int, limit: int) -> None:
    """Refuse offsets and limits that name nothing.

    Raises:
        InvalidArgument: saying what they are.
    """
    if not 0 <= offset < 1 << 63 or limit < 1:
        raise InvalidArgument("an offset is 0 or more and a limit is 1 or more")


def check_messages(messages: Sequence[Message]) -> int:
    """The size of the messages in bytes.

    Raises:
        InvalidArgument: a field cannot be stored. TooLarge: it is over a limit.
    """
    return sum(map(_check_message, messages))


def _check_message(message: Message) -> int:
    if not 0 <= message.sequence < 1 << 63:
        raise InvalidArgument("a message's sequence is a number from 0 to 2**63 - 1")
    try:
        names = [len(name.encode()) for name in (message.key, message.content_type, message.producer)]
    except UnicodeEncodeError as error:
        raise InvalidArgument("a message's key, content type or producer is not valid text") from error
    if max(names) > MAX_NAME_BYTES:
        raise TooLarge(f"a message's key, content type or producer is over {MAX_NAME_BYTES} bytes")
    if len(message.value) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"a message of {len(message.value)} bytes is over the limit of {MAX_MESSAGE_BYTES}")
    return sum(names) + len(message.value)


def fingerprint(message: Message) -> int:
    """CRC32 over every field: equal for a message that is sent again."""
    names = (message.producer.encode(), message.key.encode(), message.content_type.encode())
    return checksum(message.sequence, *names, message.value)


def checksum(sequence: int, producer: bytes, key: bytes, content_type: bytes, value: bytes) -> int:
    """CRC32 over the fields of a message and their lengths."""
    head = _HEAD.pack(len(producer), len(key), len(content_type), sequence)
    return zlib.crc32(value, zlib.crc32(b"".join((head, producer, key, content_type))))


class Remembered:
    """The offsets of each producer's newest messages, by sequence and content.

    A producer that was told of a failure sends again, and the first attempt may have been stored all the same.
    """

    def __init__(self) -> None:
        self._producers: OrderedDict[str, OrderedDict[tuple[int, int], int]] = OrderedDict()

    def find(self, message: Message, crc: int) -> int | None:
        """Where this very message was stored before; None if it was not, or long ago."""
        known = self._producers.get(message.producer) if message.producer else None
        return None if known is None else known.get((message.sequence, crc))

    def note(self, producer: str, sequence: int, crc: int, offset: int) -> None:
        """Remember a stored message, and forget the oldest beyond 1,000 of a producer and 256 producers."""
        if not producer:
            return
        known = self._producers.setdefault(producer, OrderedDict())
        self._producers.move_to_end(producer)
        known[sequence, crc] = offset
        if len(known) > _REMEMBERED:
            known.popitem(last=False)
        if len(self._producers) > _PRODUCERS:
            self._producers.popitem(last=False)
