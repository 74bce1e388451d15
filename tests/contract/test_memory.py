"""The memory adapters keep the contracts of their ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vedette.core.events import Delivery, Message
from vedette.ports.artifacts import ArtifactStore
from vedette.ports.catalog import Catalog
from vedette.storage.memory import MemoryArtifactStore, MemoryCatalog, MemoryEventStream
from vedette.testing.artifacts import ArtifactStoreContract
from vedette.testing.catalog import CatalogContract
from vedette.testing.stream import SMALL_BYTES, SMALL_READ_BYTES, EventStreamContract


class TestMemoryCatalog(CatalogContract):
    """The catalog of one process."""

    def open_catalog(self, *, kept_changes: int) -> Catalog:
        return MemoryCatalog(kept_changes=kept_changes)


class TestMemoryArtifactStore(ArtifactStoreContract):
    """Artifacts that are gone with the process."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> MemoryArtifactStore:
        store = MemoryArtifactStore(tmp_path / "staging")
        store.prepare()
        return store

    def raw(self, store: ArtifactStore, digest: str) -> dict[str, bytes] | None:
        assert isinstance(store, MemoryArtifactStore)
        held = store._objects.get(digest)
        return None if held is None else held[1]

    def damage(self, store: ArtifactStore, digest: str, file: str) -> bool:
        return False  # bytes objects cannot change


class TestMemoryEventStream(EventStreamContract):
    """The stream of one event loop."""

    @pytest.fixture
    async def stream(self) -> AsyncIterator[MemoryEventStream]:
        stream = MemoryEventStream()
        yield stream
        await stream.close()

    @pytest.fixture
    async def small_stream(self) -> AsyncIterator[MemoryEventStream]:
        stream = MemoryEventStream(max_bytes=SMALL_BYTES, max_read_bytes=SMALL_READ_BYTES)
        yield stream
        await stream.close()


class TestBoundedStream:
    """What only the memory adapter does: forget."""

    async def test_waiting_in_vain_leaves_nothing_behind(self) -> None:
        """A consumer that polls for ever does not grow the stream."""
        stream = MemoryEventStream()
        for _ in range(3):
            assert await stream.wait("captures", 0, 0.001) is False
        assert stream._logs["captures"].waiters == set()

    async def test_the_oldest_messages_are_forgotten_beyond_the_count(self) -> None:
        """Reading from a forgotten offset begins at the oldest kept, and offsets do not start again."""
        stream = MemoryEventStream(max_messages=3)
        await stream.publish("captures", [Message("k", b"%d" % i, "text/plain") for i in range(5)])
        assert [d.offset for d in await stream.read("captures", 0, 10)] == [2, 3, 4]
        assert [d.message.value for d in await stream.read("captures", 3, 1)] == [b"3"]
        assert await stream.end("captures") == 5

    async def test_the_oldest_messages_are_forgotten_beyond_the_bytes(self) -> None:
        """Large messages push out earlier ones, but the newest always stays."""
        stream = MemoryEventStream(max_bytes=100)
        await stream.publish("captures", [Message("k", b"x" * size, "text/plain") for size in (60, 30, 30, 500)])
        assert [d.offset for d in await stream.read("captures", 0, 10)] == [3]

    async def test_the_oldest_dead_letters_are_forgotten(self) -> None:
        """By count and by bytes, like messages."""
        stream = MemoryEventStream(max_bytes=1_000)
        for number in range(5):
            letter = Delivery("captures", number, Message("k", b"x" * 400, "text/plain"))
            await stream.bury(letter, "monitor", "poison")
        letters = await stream.dead_letters("captures", "monitor", 9)
        assert [letter.delivery.offset for letter in letters] == [3, 4]
