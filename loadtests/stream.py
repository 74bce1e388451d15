"""How fast the embedded stream takes messages, what its group commit costs the event loop, and what waiting costs.

    python -m loadtests.stream [SECONDS]

Each row publishes for SECONDS (3) into a fresh folder under the current directory's file system. `loop p99` and
`loop max` are how late a task that wants to run every millisecond does run, beside it: the first row is without load.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import uvloop

from vedette.core.events import Message
from vedette.storage.sqlite_stream import SqliteEventStream

ROWS = ((0, 1_000), (1, 1_000), (32, 1_000), (1, 100_000), (32, 100_000))
"""Publishers at once, and the bytes of each message."""


async def lateness(late: list[float]) -> None:
    """Note how many milliseconds too late each waking is, until cancelled."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - began) * 1e3 - 1.0)


async def publisher(stream: SqliteEventStream, who: int, size: int, until: float, took: list[float]) -> None:
    """Publish one message after the other and note how many milliseconds each took."""
    value, sequence = os.urandom(size), 0
    while (began := time.perf_counter()) < until:
        await stream.publish("captures", [Message("key", value, "application/test", f"p{who}", sequence)])
        took.append((time.perf_counter() - began) * 1e3)
        sequence += 1


def share(values: list[float], part: float) -> float:
    """The value that `part` of them are not over."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)] if values else 0.0


async def measure(folder: Path, publishers: int, size: int, seconds: float) -> str:
    """One row of the table."""
    stream = SqliteEventStream(folder, retention_bytes=8 << 30)
    took: list[float] = []
    late: list[float] = []
    watch = asyncio.create_task(lateness(late))
    cpu, began = time.process_time(), time.perf_counter()
    until = began + seconds
    await asyncio.gather(*(publisher(stream, who, size, until, took) for who in range(publishers)))
    await asyncio.sleep(max(until - time.perf_counter(), 0.0))
    elapsed, used = time.perf_counter() - began, time.process_time() - cpu
    watch.cancel()
    with suppress(asyncio.CancelledError):
        await watch
    await stream.close()
    rate = len(took) / elapsed
    figures = (rate * size / 1e6, share(took, 0.5), share(took, 0.99), share(late, 0.99), max(late), used / elapsed)
    return "{:10} {:9,} {:11,.0f} {:7.1f} {:7.2f} {:7.2f} {:9.2f} {:9.2f} {:6.2f}".format(
        publishers, size, rate, *figures
    )


async def waiting(folder: Path, seconds: float) -> str:
    """What a reader costs that waits for another process."""
    stream = SqliteEventStream(folder)
    await stream.publish("captures", [Message("key", b"x", "application/test")])
    cpu = time.process_time()
    await stream.wait("captures", 1, seconds)
    used = time.process_time() - cpu
    await stream.close()
    return f"a waiting reader uses {used / seconds:.2%} of a core"


def main() -> None:
    """Print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    print("publishers     bytes  messages/s    MB/s  p50 ms  p99 ms  loop p99  loop max  cores")
    folder = Path(tempfile.mkdtemp(prefix="stream-", dir="."))
    try:
        for number, (publishers, size) in enumerate(ROWS):
            print(uvloop.run(measure(folder / str(number), publishers, size, seconds)), flush=True)
            shutil.rmtree(folder / str(number), ignore_errors=True)
        print(uvloop.run(waiting(folder / "waiting", seconds)))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
