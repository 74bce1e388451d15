"""What the store remembers of the life before: where it began, how it ended, and the last message that it handled.

Rule: notes are written for whoever comes next and may be damaged; one that cannot be read makes that life careful.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import msgspec

from vedette.core.events import Delivery, Message


@dataclass(slots=True)
class Life:
    """One life of the consumer."""

    offset: int = 0
    """Where it began."""
    starts: int = 0
    """Lives in a row that began there and did not end cleanly."""
    careful: bool = False
    running: bool = False


@dataclass(frozen=True, slots=True)
class Last:
    """The last message that was handled, by which the stream is known again."""

    offset: int
    fingerprint: int

    @classmethod
    def of(cls, delivery: Delivery) -> Last:
        """That message."""
        return cls(delivery.offset, fingerprint(delivery.message))


def fingerprint(message: Message) -> int:
    """Of its key and value; two messages have the same by chance, once in four billion."""
    return zlib.crc32(message.value, zlib.crc32(message.key.encode(errors="surrogatepass")))


def read_life(text: bytes | None) -> Life:
    """The life of a note; one that did not end where the note is damaged."""
    if text is None:
        return Life()
    try:
        return msgspec.json.decode(text, type=Life)
    except msgspec.MsgspecError:
        return Life(running=True)


def read_last(text: bytes | None) -> Last | None:
    """The message of a note; None where there is none or it is damaged."""
    try:
        return msgspec.json.decode(text, type=Last) if text else None
    except msgspec.MsgspecError:
        return None
