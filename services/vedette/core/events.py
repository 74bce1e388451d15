"""What travels on the metrics stream: messages, topics and where a reader stands.

Rule: a message's value is opaque here; one message is a batch of many events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Topic = Literal["captures", "ground-truth", "tensors", "alerts", "lifecycle"]


@dataclass(frozen=True, slots=True)
class Message:
    """One batch of events as a producer offers it."""

    key: str
    """Messages of one key keep their order."""
    value: bytes
    content_type: str
    producer: str = ""
    """Id of the producing process life."""
    sequence: int = 0
    """Counts up within a producer: a gap is a loss, a repeat is a duplicate."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as a consumer gets it. `offset` + 1 is where the next read begins."""

    topic: Topic
    offset: int
    message: Message


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that a consumer group has given up on."""

    delivery: Delivery
    group: str
    reason: str
    at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Offsets `first` to `last` of a topic, which could not be read back as written."""

    topic: Topic
    first: int
    last: int
    reason: str
