"""The embedded stream keeps the contract of its port, over processes and restarts too, and what only files can do."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vedette.core.errors import Overloaded, Unavailable
from vedette.core.events import Delivery, Message
from vedette.core.metrics import Gauge
from vedette.storage import sqlite_stream_state, sqlite_stream_writer
from vedette.storage.sqlite_stream import SqliteEventStream
from vedette.testing.stream import SMALL_BYTES, SMALL_READ_BYTES, EventStreamContract, large, message, read_all


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


PROGRAM = Path(__file__).with_name("stream_crashes.py")


def producer(folder: Path, who: str, count: int) -> subprocess.Popen[str]:
    """Another process that publishes as soon as it reads a line; it says `ready` first."""
    command = [sys.executable, PROGRAM, "produce", folder, who, str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def begin(process: subprocess.Popen[str]) -> None:
    """Let it publish."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def ready(process: subprocess.Popen[str]) -> bool:
    """Wait until it is ready."""
    assert process.stdout is not None
    return process.stdout.readline() == "ready\n"


def offsets_of(process: subprocess.Popen[str]) -> list[int]:
    """Wait for its end and return the offsets that it got."""
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    offsets: list[int] = json.loads(output)
    return offsets


class TestProcesses:
    """Several processes have one folder."""

    async def test_two_write_and_one_reads(self, tmp_path: Path) -> None:
        """Nothing is lost, repeated or out of order; the reader hears of everything by waiting."""
        writers = [producer(tmp_path, who, 300) for who in "ab"]
        assert [ready(writer) for writer in writers] == [True, True]
        for writer in writers:
            begin(writer)
        stream = SqliteEventStream(tmp_path)
        found: list[Delivery] = []
        while len(found) < 600:
            assert await stream.wait("captures", len(found), 60.0)
            found += await stream.read("captures", len(found), 100)
        given = [await asyncio.to_thread(offsets_of, writer) for writer in writers]
        assert sorted(given[0] + given[1]) == [d.offset for d in found] == list(range(600))
        for who, offsets in zip("ab", given, strict=True):
            assert sorted(d.message.sequence for d in found if d.message.producer == who) == list(range(300))
            assert {d.offset for d in found if d.message.producer == who} == set(offsets)
        await stream.close()

    async def test_neither_of_two_writers_starves(self, tmp_path: Path) -> None:
        """Each gets its turn while the other writes without a pause: eight messages, its tasks, and the other's eight.

        Without the second lock the mean is over 20.
        """
        writers = [producer(tmp_path, who, 1_000) for who in "ab"]
        assert [ready(writer) for writer in writers] == [True, True]
        for writer in writers:
            begin(writer)
        a, b = [await asyncio.to_thread(offsets_of, writer) for writer in writers]
        both = range(max(a[0], b[0]), min(a[-1], b[-1]))
        assert len(both) > 200, "they were at it together"
        ours = set(a)
        turns = 1 + sum((offset in ours) != (offset + 1 in ours) for offset in both)
        assert len(both) / turns < 14

    async def test_a_reader_elsewhere_sees_a_message_at_once(self, tmp_path: Path) -> None:
        """The median of the time from acknowledgement to a waiting reader with bells of its own is under 50 ms."""
        writer, reader = SqliteEventStream(tmp_path), SqliteEventStream(tmp_path)
        late = []
        for number in range(21):
            waiting = asyncio.create_task(reader.wait("captures", number, 30.0))
            await asyncio.sleep(0)
            await writer.publish("captures", [large(number, 100)])
            began = time.perf_counter()
            assert await waiting is True
            late.append(time.perf_counter() - began)
        assert sorted(late)[10] < 0.05
        await writer.close()
        await reader.close()

    async def test_a_stopped_process_that_has_the_turn_is_told_of(self, tmp_path: Path) -> None:
        """Publishing is `Unavailable` when the time to wait is over, and works again when the turn is free."""
        stream = SqliteEventStream(tmp_path, busy_timeout_s=0.1)
        await stream.publish("captures", [message("a", 1)])
        descriptor = os.open(tmp_path / "captures" / "lock", os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="busy"):
            await stream.publish("captures", [message("b", 2)])
        os.close(descriptor)
        assert await stream.publish("captures", [message("b", 2)]) == [1]
        await stream.close()


class TestRestarts:
    """What is there after everybody has gone."""

    async def test_everything_is_there_again(self, tmp_path: Path) -> None:
        """Messages, offsets, failures and dead letters."""
        stream = SqliteEventStream(tmp_path)
        await stream.publish("captures", [message("a", 1), message("b", 2)])
        deliveries = await stream.read("captures", 0, 9)
        await stream.commit("captures", "monitor", 1)
        assert await stream.fail("captures", "monitor", 1, "it broke") == 1
        await stream.bury(deliveries[1], "monitor", "hopeless")
        letters = await stream.dead_letters("captures", "monitor", 9)
        await stream.close()
        again = SqliteEventStream(tmp_path)
        assert await again.read("captures", 0, 9) == deliveries
        assert await again.end("captures") == 2
        assert await again.committed("captures", "monitor") == 1
        assert await again.fail("captures", "monitor", 1, "it broke") == 2
        assert await again.dead_letters("captures", "monitor", 9) == letters
        await again.close()

    async def test_a_message_sent_again_by_the_next_life_is_stored_once(self, tmp_path: Path) -> None:
        """The producer died before it heard the acknowledgement."""
        for _ in range(2):
            stream = SqliteEventStream(tmp_path)
            assert await stream.publish("captures", [message("a", 1), message("b", 2)]) == [0, 1]
            await stream.close()

    async def test_a_message_sent_again_by_another_process_is_stored_once(self, tmp_path: Path) -> None:
        """Two streams that are both open know each other's messages."""
        one, two = SqliteEventStream(tmp_path), SqliteEventStream(tmp_path)
        assert await two.publish("captures", [message("a", 1)]) == [0]
        assert await one.publish("captures", [message("b", 2)]) == [1]
        assert await two.publish("captures", [message("b", 2), message("c", 3)]) == [1, 2]
        await one.close()
        await two.close()

    async def test_closing_writes_what_waits(self, tmp_path: Path) -> None:
        """A publish that was accepted before the end is answered and stored."""
        stream = SqliteEventStream(tmp_path)
        await stream.publish("captures", [message("a", 1)])
        waiting = [asyncio.create_task(stream.publish("captures", [message("b", n)])) for n in range(2, 20)]
        await asyncio.sleep(0)
        await stream.close()
        assert sorted(offset for offsets in await asyncio.gather(*waiting) for offset in offsets) == list(range(1, 19))
        writers = [thread.name for thread in threading.enumerate() if thread.name.startswith("stream-")]
        assert writers == [], "no thread outlives its stream"


def age(folder: Path, seconds: float) -> None:
    """Make every file of a topic look as old as that."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


class TestRetention:
    """By age; by size is in the contract."""

    async def test_old_messages_go_with_the_next_segment(self, tmp_path: Path) -> None:
        """Whole segments, when nothing in them is young enough."""
        stream = SqliteEventStream(tmp_path, retention_s=3_600, retention_bytes=SMALL_BYTES)
        for number in range(30):
            await stream.publish("captures", [large(number)])
        await asyncio.to_thread(age, tmp_path / "captures", 7_200)
        for number in range(30, 60):
            await stream.publish("captures", [large(number)])
        offsets = [d.offset for d in await read_all(stream)]
        assert 20 < offsets[0] <= 30
        assert offsets == list(range(offsets[0], 60))
        await stream.close()

    async def test_old_messages_go_also_where_nobody_publishes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A consumer that waits sees to it; the offsets go on afterwards."""
        monkeypatch.setattr("vedette.storage.sqlite_stream._SWEEP_S", 0.0)
        stream = SqliteEventStream(tmp_path, retention_s=3_600)
        await stream.publish("captures", [message("a", 1), message("b", 2)])
        await asyncio.to_thread(age, tmp_path / "captures", 7_200)
        assert await stream.wait("captures", 2, 0.1) is False
        assert await stream.read("captures", 0, 9) == []
        assert await stream.damage("captures") == []
        assert await stream.publish("captures", [message("c", 3)]) == [2]
        assert [d.offset for d in await stream.read("captures", 0, 9)] == [2]
        await stream.close()

    async def test_the_disk_budget_holds(self, tmp_path: Path) -> None:
        """All files of the topic together stay under the limit but for the log that SQLite keeps of the newest."""
        stream = SqliteEventStream(tmp_path, retention_bytes=8 << 20)
        for first in range(0, 2_000, 50):
            await stream.publish("captures", [large(number) for number in range(first, first + 50)])
            used = await asyncio.to_thread(size_of, tmp_path / "captures")
            assert used < (8 << 20) + (1 << 20)
        await stream.close()


def size_of(folder: Path) -> int:
    """Bytes of everything in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


class _Gauges:
    """Metrics of which only gauges and the last value of each are kept."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def gauge(self, name: str, **labels: str) -> Gauge:
        values, key = self.values, " ".join((name, *labels.values()))

        class One:
            def set(self, value: float) -> None:
                values[key] = value

            def inc(self, amount: float = 1.0) -> None: ...

            def dec(self, amount: float = 1.0) -> None: ...

        return One()


class TestBounds:
    """Memory, lag, the event loop."""

    async def test_the_lag_is_shown(self, tmp_path: Path) -> None:
        """It grows while a group does not commit, and is what is left when it does."""
        metrics = _Gauges()
        stream = SqliteEventStream(tmp_path, metrics=metrics)  # type: ignore[arg-type]
        await stream.publish("captures", [large(n, 8) for n in range(10)])
        await stream.commit("captures", "monitor", 4)
        assert metrics.values == {"vedette_stream_lag_messages captures monitor": 6}
        await stream.publish("captures", [large(n, 8) for n in range(10, 15)])
        await stream.read("captures", 4, 1)
        assert metrics.values == {"vedette_stream_lag_messages captures monitor": 11}
        await stream.close()

    async def test_what_waits_for_the_disk_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond the limit a publish is refused at once; the others are stored."""
        monkeypatch.setattr(sqlite_stream_writer, "MAX_WAITING_BYTES", 100_000)
        stream = SqliteEventStream(tmp_path)
        await stream.publish("captures", [large(0)])
        answers = await asyncio.gather(
            *(stream.publish("captures", [large(number)]) for number in range(1, 31)), return_exceptions=True
        )
        refused = [answer for answer in answers if isinstance(answer, Overloaded)]
        assert 0 < len(refused) < 30
        assert await stream.end("captures") == 31 - len(refused)
        await stream.close()

    async def test_concurrent_publishes_share_transactions(self, tmp_path: Path) -> None:
        """A hundred at once take a few commits, not a hundred."""
        stream = SqliteEventStream(tmp_path)
        await stream.publish("captures", [large(0, 8)])
        commits: list[int] = []
        writer = stream._topics["captures"].writer
        append = writer._append

        def counted(messages: list[Message]) -> list[int]:
            commits.append(len(messages))
            return append(messages)

        writer._append = counted  # type: ignore[method-assign]
        await asyncio.gather(*(stream.publish("captures", [large(number, 8)]) for number in range(1, 101)))
        assert sum(commits) == 100
        assert len(commits) < 20
        await stream.close()

    async def test_dead_letters_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A producer of nothing but poison fills no disk: the newest are kept, by count and by bytes."""
        monkeypatch.setattr(sqlite_stream_state, "MAX_LETTERS", 3)
        stream = SqliteEventStream(tmp_path)
        for number in range(5):
            await stream.bury(Delivery("captures", number, large(number, 100)), "monitor", "poison")
        letters = await stream.dead_letters("captures", "monitor", 9)
        assert [letter.delivery.offset for letter in letters] == [2, 3, 4]
        monkeypatch.setattr(sqlite_stream_state, "MAX_LETTER_BYTES", 1_000)
        await stream.bury(Delivery("captures", 5, large(5, 2_000)), "monitor", "poison")
        assert [x.delivery.offset for x in await stream.dead_letters("captures", "monitor", 9)] == [5]
        await stream.close()

    async def test_a_waiting_reader_costs_next_to_nothing(self, tmp_path: Path) -> None:
        """Under 3 % of a core here, where other tests run beside; alone it is under 1 % (see loadtests/stream.py)."""
        stream = SqliteEventStream(tmp_path)
        await stream.publish("captures", [message("a", 1)])
        began = time.thread_time()
        assert await stream.wait("captures", 1, 1.0) is False
        assert time.thread_time() - began < 0.03
        await stream.close()
