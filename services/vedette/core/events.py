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
