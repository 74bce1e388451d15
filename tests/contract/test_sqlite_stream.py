"""The embedded stream keeps the contract of its port, and what only files can do wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vedette.storage.sqlite_stream import SqliteEventStream
from vedette.testing.stream import SMALL_BYTES, SMALL_READ_BYTES, EventStreamContract


class TestSqliteEventStream(EventStreamContract):
    """The stream of one host."""

    @pytest.fixture
    async def stream(self, tmp_path: Path) -> AsyncIterator[SqliteEventStream]:
        stream = SqliteEventStream(tmp_path / "stream")
        yield stream
        await stream.close()

    @pytest.fixture
    async def small_stream(self, tmp_path: Path) -> AsyncIterator[SqliteEventStream]:
        stream = SqliteEventStream(tmp_path / "small", retention_bytes=SMALL_BYTES, max_read_bytes=SMALL_READ_BYTES)
        yield stream
        await stream.close()
