"""The doors of the house: what services need from the outside, as protocols.

Rule: a port takes the bare noun; the adapter adds the technology (`MemoryEventStream`). Each port's
docstrings are its contract, and one suite in `vedette.testing` holds every adapter to them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vedette.core.events import Damage, DeadLetter, Delivery, Message, Topic
from vedette.core.models import EndpointConfig, ModelVersion


class EventStream(Protocol):
    """The metrics stream: append-only topics, at-least-once, offsets per consumer group.

    Offsets of a topic begin at 0 and grow; a committed offset names the *next* message to read.
    """

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> list[int]:
        """Append messages in order and return their offsets. When it returns they are durable."""

    async def read(self, topic: Topic, offset: int, limit: int) -> list[Delivery]:
        """Up to `limit` messages from `offset` on, in offset order; empty at the end. Does not wait.

        A stream drops its oldest messages by age and size: the first delivery is then the oldest one kept.
        A message that is damaged is left out and shows in `damage`: the next delivery's offset jumps over it.
        """

    async def wait(self, topic: Topic, offset: int, timeout_s: float) -> bool:
        """Wait until a message at `offset` exists; False if the time is over first."""

    async def fail(self, topic: Topic, group: str, offset: int, reason: str) -> int:
        """Count a failure of `group` on this message, durably, and return how many there are now."""

    async def bury(self, delivery: Delivery, group: str, reason: str) -> None:
        """Set the message aside as a dead letter of the group, durably and once, whatever becomes of the topic."""

    async def dead_letters(self, topic: Topic, group: str, limit: int) -> list[DeadLetter]:
        """The group's dead letters of the topic, oldest first."""

    async def commit(self, topic: Topic, group: str, offset: int) -> None:
        """Remember that `group` has handled everything before `offset`. Never moves backwards."""

    async def committed(self, topic: Topic, group: str) -> int:
        """The group's committed offset; 0 for a group never seen."""

    async def end(self, topic: Topic) -> int:
        """The offset that the next published message will get."""

    async def damage(self, topic: Topic) -> list[Damage]:
        """Every stretch of the topic that could not be read back as it was written, as far as is known."""

    async def close(self) -> None:
        """Release what the stream holds; idempotent."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything a replica needs to serve one endpoint: configuration and the versions it names."""

    endpoint: str
    generation: int
    config: EndpointConfig
    versions: tuple[ModelVersion, ...]
    """Every version named by a variant, a shadow variant or a pipeline step."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step of desired state. `deployment` None: this endpoint is not wanted any more."""

    revision: int
    """Position in the registry's log of changes; a watcher reconnects with the last one it handled."""
    endpoint: str
    deployment: Deployment | None


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything that existed when the watch began has been sent; `revision` is where it stands."""

    revision: int
    whole: bool = False
    """True: what was sent is all there is; an endpoint that was not in it is not wanted any more."""


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """How far one replica is with one endpoint."""

    replica: str
    """Unique id of the inference process life."""
    endpoint: str
    generation: int
    state: str
    """`loading`, `ready`, `failed` or `removed`."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryEntry:
    """A line of the Open Inference Protocol's repository index."""

    name: str
    version: str
    state: str
    """`READY`, `LOADING`, `UNAVAILABLE`."""
    reason: str = ""


class Registry(Protocol):
    """What the data plane needs from the registry. Every method raises `Unavailable` when it is down."""

    def watch(self, after: int) -> AsyncIterator[Change | Synced]:
        """Desired state from revision `after` on (0: all of it), then every change as it happens.

        Yields current state first, then `Synced`, then later changes, in revision order. Ends with
        `Unavailable` when the connection breaks: call again with the last revision handled. When
        `after` is newer than the registry's own log (a restored backup), the whole state is sent.
        """

    async def report(self, report: ReplicaReport) -> None:
        """Tell how far this replica is."""

    async def fetch(self, version: ModelVersion, folder: Path) -> None:
        """Put the version's files into the existing empty `folder`.

        Raises:
            DataLoss: a file does not match its digest; the folder may hold some of the files.
        """

    async def load(self, endpoint: str) -> None:
        """The repository API's load: start the endpoint, or deploy the model of that name."""

    async def unload(self, endpoint: str) -> None:
        """The repository API's unload: take the endpoint out of service, keep its configuration."""

    async def index(self) -> list[RepositoryEntry]:
        """Every model and endpoint known, for the repository index."""

    async def close(self) -> None:
        """Release connections; idempotent."""
