"""Baselines on request: from a stream of bytes to what the registry keeps."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from vedette.core.errors import DeadlineExceeded, Internal, InvalidArgument, NotFound, Overloaded, TooLarge, Unavailable
from vedette.core.models import Signature, TensorSpec
from vedette.entities.monitors import CONSTRAINTS_FILE, PROFILE_FILE, STATISTICS_FILE
from vedette.monitor.reference_data import baselines as building
from vedette.monitor.reference_data.baselines import Baselines
from vedette.monitor.reference_data.measurement import Measurement
from vedette.profiles import Profile
from vedette.testing.registry import MemoryRegistry

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (), feature_names=("a", "b"))
CSV = b"a,b\n1,2\n3,4\n"


@pytest.fixture
def registry() -> MemoryRegistry:
    twin = MemoryRegistry()
    twin.add_version("m", 1, {"model.onnx": b"graph"}, signature=SIGNATURE)
    return twin


@pytest.fixture
def baselines(registry: MemoryRegistry, tmp_path: Path) -> Baselines:
    made = Baselines(registry, folder=tmp_path / "spool", max_bytes=10_000)
    made.prepare()
    return made


def left(tmp_path: Path) -> list[Path]:
    """What lies in the folder for data."""
    return list((tmp_path / "spool").iterdir())


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_stream_becomes_a_baseline(baselines: Baselines, registry: MemoryRegistry, tmp_path: Path) -> None:
    """Kept in the registry with its counts; nothing of the data stays."""
    made = await baselines.create("m", 1, format="csv", chunks=stream(CSV[:5], CSV[5:]))
    assert (made.name, made.rows, made.columns) == ("default", 2, 2)
    assert await registry.baseline("m", 1, "default") == made
    assert json.loads(await registry.baseline_file(made, STATISTICS_FILE))["dataset"] == {"item_count": 2}
    assert len(json.loads(await registry.baseline_file(made, CONSTRAINTS_FILE))["features"]) == 2
    assert Profile.from_bytes(await registry.baseline_file(made, PROFILE_FILE)).columns["b"].moments.sum == 6
    assert left(tmp_path) == []


async def test_data_without_header_is_taken_by_place(baselines: Baselines, registry: MemoryRegistry) -> None:
    """The names come from the signature."""
    made = await baselines.create("m", 1, "plain", format="csv", chunks=stream(b"1,2\n3,4\n"))
    assert set(Profile.from_bytes(await registry.baseline_file(made, PROFILE_FILE)).columns) == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "options", "error"),
    [
        (b"a,c\n1,2\n", {}, InvalidArgument),
        (b"", {}, InvalidArgument),
        (b"x" * 10_001, {}, TooLarge),
        (CSV, {"format": "xlsx"}, InvalidArgument),
        (CSV, {"format": "parquet"}, InvalidArgument),
        (CSV, {"version": 2}, NotFound),
        (CSV, {"model": "../x"}, InvalidArgument),
        (CSV, {"name": ""}, InvalidArgument),
        (CSV, {"measurement": Measurement(target="a")}, InvalidArgument),
    ],
)
async def test_a_failure_leaves_nothing(
    baselines: Baselines, registry: MemoryRegistry, tmp_path: Path, content: bytes, options: dict[str, Any], error: type
) -> None:
    """Neither data nor half a baseline."""
    given = {"model": "m", "version": 1, "name": "n", "format": "csv", **options}
    with pytest.raises(error):
        await baselines.create(**given, chunks=stream(content))
    assert (registry.baselines, left(tmp_path)) == ({}, [])


async def test_damage_that_ends_the_reader_is_the_datas_fault(
    baselines: Baselines, registry: MemoryRegistry, tmp_path: Path
) -> None:
    """Level counts under another name in the footer: pyarrow ends its process, which is the child."""
    sink = io.BytesIO()
    parquet.write_table(pa.table({"a": [1.5, 3.0], "b": [2.0, 4.0]}), sink)
    content = sink.getvalue().replace(b"\x3c\x29\x06\x19", b"\x3c\x19\x06\x19", 1)
    assert content != sink.getvalue()
    with pytest.raises(InvalidArgument, match="ends its reader"):
        await baselines.create("m", 1, "n", format="parquet", chunks=stream(content))
    assert (registry.baselines, left(tmp_path)) == ({}, [])


async def test_the_version_is_asked_for_before_the_data_is_read(baselines: Baselines, registry: MemoryRegistry) -> None:
    """Nobody uploads gigabytes for a version that is not there, or while the registry is down."""

    async def never() -> AsyncIterator[bytes]:
        pytest.fail("the data was read")
        yield b""

    with pytest.raises(NotFound):
        await baselines.create("x", 1, format="csv", chunks=never())
    registry.down = True
    with pytest.raises(Unavailable):
        await baselines.create("m", 1, format="csv", chunks=never())


async def test_a_caller_who_goes_away_ends_the_work(
    baselines: Baselines, registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is ended with its caller; the data is gone and the next caller gets a turn."""
    begun = asyncio.Event()
    children: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def noted(*command: str, **options: object) -> asyncio.subprocess.Process:
        children.append(await start(*command, **options))  # type: ignore[arg-type]
        begun.set()
        return children[-1]

    monkeypatch.setattr(building.asyncio, "create_subprocess_exec", noted)
    task = asyncio.create_task(baselines.create("m", 1, format="csv", chunks=stream(CSV)))
    await asyncio.wait_for(begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children[0].returncode == -signal.SIGKILL
    assert (registry.baselines, left(tmp_path)) == ({}, [])
    assert (await baselines.create("m", 1, format="csv", chunks=stream(CSV))).rows == 2


async def test_a_build_that_takes_too_long_is_ended(registry: MemoryRegistry, tmp_path: Path) -> None:
    """Starting the child alone takes longer than this; nothing stays."""
    made = Baselines(registry, folder=tmp_path / "spool", max_bytes=10_000, timeout_s=0.01)
    made.prepare()
    with pytest.raises(DeadlineExceeded, match="took over"):
        await made.create("m", 1, format="csv", chunks=stream(CSV))
    assert (registry.baselines, left(tmp_path)) == ({}, [])


async def test_a_build_that_takes_too_much_memory_is_refused(registry: MemoryRegistry, tmp_path: Path) -> None:
    """The child's address space is limited; the caller reads words, not a trace."""
    made = Baselines(registry, folder=tmp_path / "spool", max_bytes=10_000_000, memory_bytes=1 << 20)
    made.prepare()
    with pytest.raises((TooLarge, Internal)) as failure:
        await made.create("m", 1, format="csv", chunks=stream(b"a,b\n" + b"1,2\n" * 1_000_000))
    assert "Traceback" not in failure.value.message
    assert left(tmp_path) == []


async def test_only_a_few_wait_with_their_data(baselines: Baselines) -> None:
    """One more is told to come again, before a byte of it is read."""
    gate = asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        yield CSV
        await gate.wait()

    waiting = [asyncio.create_task(baselines.create("m", 1, f"b{n}", format="csv", chunks=held())) for n in range(4)]
    for _ in range(1000):  # each asks the registry first
        await asyncio.sleep(0)
    assert baselines._asked == 4
    with pytest.raises(Overloaded):
        await baselines.create("m", 1, format="csv", chunks=stream(CSV))
    gate.set()
    assert {made.name for made in await asyncio.gather(*waiting)} == {"b0", "b1", "b2", "b3"}


async def test_what_a_killed_process_left_is_cleared(baselines: Baselines, tmp_path: Path) -> None:
    """At the next start."""
    (tmp_path / "spool" / "dataset-old").mkdir()
    (tmp_path / "spool" / "dataset-old" / "data").write_bytes(b"x")
    baselines.prepare()
    assert left(tmp_path) == []
