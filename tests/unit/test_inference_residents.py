"""How many threads work on a run, and which file of a version is loaded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests import inference_models as models
from tests.inference_rig import Tally

from vedette.core.models import Admission, SessionOptions
from vedette.engine.packing import PACKED_GRAPH
from vedette.engine.runtime import Runtime
from vedette.inference.cache import ModelCache
from vedette.inference.residents import Resident, Residents, open_sessions
from vedette.testing.registry import MemoryRegistry

DEFAULT = SessionOptions()


@asynccontextmanager
async def resident(
    folder: Path, run_time_us: float, options: SessionOptions = DEFAULT, *, chain: int = 1, pack_from: int = 0
) -> AsyncIterator[tuple[Resident, list[Path]]]:
    """A version that admission measured so, loaded by a worker of four processors; and the files it was loaded from."""
    opened: list[Path] = []

    def opening(paths: Sequence[Path], options: SessionOptions) -> Runtime:
        opened.extend(paths)
        return open_sessions(paths, options)

    registry, cache = MemoryRegistry(), ModelCache(folder, pack_from_bytes=pack_from)
    cache.prepare()
    made = models.identity("FP32") if chain > 1 else models.mlp()
    admission = Admission(run_time_us=run_time_us, load_time_ms=1, memory_bytes=1)
    version = registry.add_version("m", 1, made.files, signature=made.signature, admission=admission)
    residents = Residents(registry, cache, Tally(), cpus=4, open_runtime=opening)
    held = await residents.acquire([version] * chain, options, owner=version)
    yield held, opened
    await residents.release(held, owner=version)


@pytest.mark.parametrize(("run_time_us", "chain", "threads"), [(8, 1, 1), (1900, 1, 1), (2000, 1, 4), (900, 3, 4)])
async def test_a_long_run_has_all_processors_and_a_short_one_has_one(
    tmp_path: Path, run_time_us: float, chain: int, threads: int
) -> None:
    """By what admission measured, over all steps of a pipeline; the session and the threads' pool are told the same."""
    async with resident(tmp_path, run_time_us, chain=chain) as (held, _):
        assert held.threads == threads
        assert held.key[1].intra_op_threads == threads


async def test_what_the_operator_says_holds(tmp_path: Path) -> None:
    """Whatever a run takes; threads between operators count, too."""
    for run_time_us in (8, 50_000):
        async with resident(tmp_path, run_time_us, SessionOptions(intra_op_threads=3)) as (held, _):
            assert held.threads == 3
    async with resident(tmp_path, 8, SessionOptions(intra_op_threads=2, inter_op_threads=3)) as (held, _):
        assert held.threads == 4


async def test_a_large_version_is_loaded_from_its_pack(tmp_path: Path) -> None:
    """The verified file stays where it was; the session is of the pack, and measured like any other."""
    async with resident(tmp_path, 8, pack_from=1) as (held, opened):
        assert [path.name for path in opened] == [PACKED_GRAPH]
        assert held.run_time.estimate(1) > 0
        assert [spec.name for spec in held.runtime.inputs] == ["x"]
    async with resident(tmp_path, 8, pack_from=1 << 20) as (_, opened):
        assert [path.name for path in opened] == ["model.onnx"]
