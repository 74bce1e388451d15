"""Processors that may be used, read from folders laid out as the kernel does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vedette.engine.cpus import available_cpus, share


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with sixteen processors that all may be used."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def lay(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 16), ("9900000 100000", 16)],
)
def test_version_two_quota(tmp_path: Path, quota: str, expected: int) -> None:
    """cpu.max: quota over period, rounded up, at least one, never above the affinity."""
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text(quota + "\n")
    assert available_cpus(tmp_path) == expected


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "expected"), [("300000", 3), ("-1", 16), ("0", 16), ("nonsense", 16)])
def test_version_one_quota(tmp_path: Path, mount: str, quota: str, expected: int) -> None:
    """cpu.cfs_quota_us over cpu.cfs_period_us; -1 is no quota."""
    folder = tmp_path / "sys/fs/cgroup" / mount
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(quota + "\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus(tmp_path) == expected


def test_a_parents_quota_binds_too(tmp_path: Path) -> None:
    """The least of the group's own quota and those above it holds."""
    lay(tmp_path, proc__self__cgroup="0::/outer/inner")
    base = tmp_path / "sys/fs/cgroup"
    for folder, quota in (("outer/inner", "800000 100000"), ("outer", "400000 100000")):
        (base / folder).mkdir(parents=True, exist_ok=True)
        (base / folder / "cpu.max").write_text(quota)
    assert available_cpus(tmp_path) == 4


def test_the_version_one_group_is_that_of_the_cpu_controller(tmp_path: Path) -> None:
    """Each controller may have a group of its own, and the line may name several."""
    lay(tmp_path, proc__self__cgroup="5:memory:/m\n3:cpuacct,cpu:/job\n0::/")
    folder = tmp_path / "sys/fs/cgroup/cpu,cpuacct/job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("500000")
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert available_cpus(tmp_path) == 5


def test_affinity_is_the_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned to one processor, a quota of two gives one; without cgroups the affinity alone counts."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7})
    assert available_cpus(tmp_path) == 1
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("200000 100000")
    assert available_cpus(tmp_path) == 1


@pytest.mark.parametrize(
    ("quota", "workers", "expected"),
    [
        ("800000 100000", 1, 8),
        ("800000 100000", 3, 2),
        ("250000 100000", 2, 1),
        ("200000 100000", 16, 1),
        ("max 1", 4, 4),
    ],
)
def test_workers_share_what_there_is(tmp_path: Path, quota: str, workers: int, expected: int) -> None:
    """Together they never have more than the quota, and each has one at least."""
    lay(tmp_path, sys__fs__cgroup__cpu_dot_max=quota)
    assert share(workers, tmp_path) == expected
    assert expected * workers <= available_cpus(tmp_path) or expected == 1


def test_this_machine_has_at_least_one() -> None:
    """The real folders can be read, whatever they hold."""
    assert 1 <= available_cpus() <= 16
