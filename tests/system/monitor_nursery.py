"""Forks monitors that read one stream, so that a test can kill many of them without waiting for imports.

A line on stdin is `<stream folder> <store file>`; the answer is the pid of a process that folds and evaluates until
the file `<store file>.finish` is there and everything is read, and then ends by itself with status 0.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.monitor_rig import know
from tests.unit.capture_batches import batch, message

from vedette.codec.captures import decode_captures
from vedette.core.clock import SystemClock
from vedette.core.metrics import NoMetrics
from vedette.monitor.checks import check_names
from vedette.monitor.executions import Executions
from vedette.monitor.references import References
from vedette.monitor.traffic.folding import FoldLimits
from vedette.monitor.traffic.intake import Intake, IntakeLimits
from vedette.monitor.traffic.labels import PredictionIndex
from vedette.storage.sql_monitors import SqlMonitorStore
from vedette.storage.sqlite_stream import SqliteEventStream
from vedette.testing.registry import MemoryRegistry

REGISTRY = MemoryRegistry()


async def live(stream_folder: Path, store_file: Path) -> None:
    """One life of a monitor: often commits, never waits for silence."""
    stream = SqliteEventStream(stream_folder)
    store = SqlMonitorStore(f"sqlite:///{store_file}")
    store.migrate()
    clock, metrics = SystemClock(), NoMetrics()
    references = References(REGISTRY, REGISTRY, store, clock=clock, folder=store_file.parent / "models")
    references.restore()
    executions = Executions(store, references, clock=clock, metrics=metrics)
    intake = Intake(
        stream,
        store,
        references,
        PredictionIndex(),
        clock=clock,
        metrics=metrics,
        fold_limits=FoldLimits(idle_s=1e12),
        limits=IntakeLimits(commit_s=0.02, messages=7),
        sealed=executions.wake,
    )
    reading = asyncio.create_task(intake.run())
    evaluating = asyncio.create_task(executions.run())
    while not await asyncio.to_thread(Path(f"{store_file}.finish").exists) or not await done(stream, store):
        assert not reading.done()
        await asyncio.sleep(0.05)
    intake.stop()
    await reading
    evaluating.cancel()
    executions.close()
    await stream.close()
    store.close()


async def done(stream: SqliteEventStream, store: SqlMonitorStore) -> bool:
    """Whether everything is read, stored and evaluated."""
    with store.read() as snapshot:
        return snapshot.offset("captures") == await stream.end("captures") and not snapshot.sealed_count()


def main() -> None:
    """Fork for every line."""
    asyncio.run(know(REGISTRY))
    decode_captures(message(batch([0.0])).value)  # imports what a life would import when its first message comes
    check_names()
    for line in sys.stdin:
        stream, store = line.split()
        pid = os.fork()
        if not pid:
            asyncio.run(live(Path(stream), Path(store)))
            os._exit(0)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
