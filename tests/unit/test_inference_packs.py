"""Packs of cached versions: made once, checked on every load, and never a condition of serving."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit import engine_graphs as graphs

from vedette.core.models import Admission, ModelVersion, SessionOptions, Signature, manifest_digest
from vedette.engine.files import describe
from vedette.engine.packing import PACKED_GRAPH, PACKED_WEIGHTS, machine_key
from vedette.engine.session import Session
from vedette.inference import packs
from vedette.inference.packs import Packs

OPTIONS = SessionOptions()


def version_of(folder: Path) -> ModelVersion:
    files = describe(folder)
    admission = Admission(run_time_us=1, load_time_ms=1, memory_bytes=1)
    return ModelVersion("m", 1, manifest_digest(files), files, Signature((), ()), admission)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version of 16 kB in the cache."""
    return graphs.save(graphs.mlp([64, 64]), tmp_path / "artifact").parent


class Child:
    """Stands for the child: a program that is started in its place, and how often it was."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.started = 0

    def __call__(self, graph: Path, target: Path, options: SessionOptions) -> tuple[list[str], dict[str, str]]:
        self.started += 1
        return [sys.executable, "-I", "-c", self.program, str(graph), str(target)], dict(os.environ)


GOOD = (
    f"import sys; [open(sys.argv[2] + '/' + name, 'w').write(name) for name in ({PACKED_GRAPH!r}, {PACKED_WEIGHTS!r})]"
)
REFUSES = "print('it cannot be'); raise SystemExit(1)"
DIES = "import os; os.abort()"
HANGS = "import time; time.sleep(60)"


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    """A child that packs in no time."""
    made = Child(GOOD)
    monkeypatch.setattr(packs, "packing_command", made)
    return made


async def test_a_pack_is_made_from_a_verified_version(tmp_path: Path, folder: Path) -> None:
    """With the real child: it loads as a session of the same signature, and lies complete under one name."""
    made = await Packs(tmp_path / "packs", min_bytes=1).graph(folder, version_of(folder), OPTIONS)
    original = Session.load(folder / "model.onnx", OPTIONS)
    assert made.name == PACKED_GRAPH
    assert Session.load(made, OPTIONS).inputs == original.inputs
    assert made.parent.name == f"{version_of(folder).digest}-{machine_key()}-all"
    assert {path.suffix for path in (tmp_path / "packs").iterdir()} == {"", ".lock"}


async def test_workers_that_come_at_once_make_one(tmp_path: Path, folder: Path, child: Child) -> None:
    """The others wait for the first, and everybody gets the same."""
    version = version_of(folder)
    workers = [Packs(tmp_path / "packs", min_bytes=1) for _ in range(4)]
    found = await asyncio.gather(*(worker.graph(folder, version, OPTIONS) for worker in workers))
    assert child.started == 1
    assert len(set(found)) == 1


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "more", "manifest"])
async def test_a_damaged_pack_is_made_again(tmp_path: Path, folder: Path, child: Child, damage: str) -> None:
    """One byte, a missing or another file: nothing of it is loaded."""
    made = await Packs(tmp_path / "packs", min_bytes=1).graph(folder, version_of(folder), OPTIONS)
    weights = made.with_name(PACKED_WEIGHTS)
    match damage:
        case "changed":
            weights.write_text(PACKED_WEIGHTS.upper())
        case "cut":
            weights.write_text("")
        case "gone":
            weights.unlink()
        case "more":
            made.with_name("stranger.bin").touch()
        case "manifest":
            made.with_name("manifest").unlink()
    again = await Packs(tmp_path / "packs", min_bytes=1).graph(folder, version_of(folder), OPTIONS)
    assert (again, child.started) == (made, 2)
    assert weights.read_text() == PACKED_WEIGHTS


@pytest.mark.parametrize(("program", "why"), [(REFUSES, "it cannot be"), (DIES, "ended with -6")])
async def test_what_cannot_be_packed_is_served_as_it_is(
    tmp_path: Path, folder: Path, child: Child, caplog: pytest.LogCaptureFixture, program: str, why: str
) -> None:
    """The log says why, nothing half-made stays, and within an hour nobody tries again."""
    child.program = program
    for _ in range(2):
        made = await Packs(tmp_path / "packs", min_bytes=1).graph(folder, version_of(folder), OPTIONS)
        assert made == folder / "model.onnx"
    assert child.started == 1
    assert getattr(caplog.records[0], "reason", "").endswith(why)
    assert {path.suffix for path in (tmp_path / "packs").iterdir()} == {".lock", ".refused"}
    (refused,) = (tmp_path / "packs").glob("*.refused")
    os.utime(refused, (0, 0))
    child.program = GOOD
    assert (
        await Packs(tmp_path / "packs", min_bytes=1).graph(folder, version_of(folder), OPTIONS)
    ).name == PACKED_GRAPH


async def test_packing_has_an_end(tmp_path: Path, folder: Path, child: Child) -> None:
    """A child that hangs is killed, and so is one whose load is given up; nothing stays of either."""
    child.program = HANGS
    version = version_of(folder)
    assert (await Packs(tmp_path / "a", min_bytes=1, timeout_s=0.2).graph(folder, version, OPTIONS)).parent == folder
    loading = asyncio.create_task(Packs(tmp_path / "b", min_bytes=1).graph(folder, version, OPTIONS))
    while child.started < 2:  # noqa: ASYNC110 - it starts in a few turns of the loop
        await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert {path.suffix for path in (tmp_path / "b").iterdir()} == {".lock"}


async def test_a_folder_that_cannot_be_written_does_not_stop_serving(
    tmp_path: Path, folder: Path, child: Child, caplog: pytest.LogCaptureFixture
) -> None:
    """A file stands where the folder would: the version is loaded as it is."""
    (tmp_path / "packs").touch()
    made = await Packs(tmp_path / "packs", min_bytes=1).graph(folder, version_of(folder), OPTIONS)
    assert (made, child.started) == (folder / "model.onnx", 0)
    assert "weights are not shared" in caplog.text


async def test_only_what_gains_by_it_is_packed(tmp_path: Path, folder: Path, child: Child) -> None:
    """Not when it is switched off, not a small version, not for a provider with memory of its own."""
    version = version_of(folder)
    size = sum(file.size for file in version.files)
    elsewhere: Any = replace(OPTIONS, providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    for min_bytes, options in ((0, OPTIONS), (size + 1, OPTIONS), (1, elsewhere)):
        made = await Packs(tmp_path / "packs", min_bytes=min_bytes).graph(folder, version, options)
        assert made == folder / "model.onnx"
    assert child.started == 0
    assert (await Packs(tmp_path / "packs", min_bytes=size).graph(folder, version, OPTIONS)).name == PACKED_GRAPH


async def test_sweeping_keeps_what_is_used(tmp_path: Path, folder: Path, child: Child) -> None:
    """Packs of digests in use on this machine stay, and young ones; all others go, with what a killed worker left."""
    made = (await Packs(tmp_path / "packs", min_bytes=1).graph(folder, version_of(folder), OPTIONS)).parent
    strangers = [
        made.with_name(f"{'0' * 64}-{machine_key()}-all"),
        made.with_name(f"{version_of(folder).digest}-0-all"),
    ]
    for path in (*strangers, made.with_name("incoming-1")):
        path.mkdir()
    for path in (tmp_path / "packs").iterdir():
        os.utime(path, (1000, 1000))
    kept = Packs(tmp_path / "packs", min_bytes=1)
    kept.sweep({version_of(folder).digest}, oldest=999)
    assert len(list((tmp_path / "packs").iterdir())) == 5
    kept.sweep({version_of(folder).digest}, oldest=1000)
    assert {path.name for path in (tmp_path / "packs").iterdir()} == {made.name, f"{made.name}.lock"}
    Packs(tmp_path / "absent", min_bytes=1).sweep((), oldest=0)
