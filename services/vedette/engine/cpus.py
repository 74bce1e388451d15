"""How many processors this process may really use.

Rule: the host's processor count is never the answer by itself. A container with a quota of two on a
64-core host that starts 64 threads spends its quota in a few milliseconds and then stands still.
"""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_cpus(root: Path = Path("/")) -> int:
    """Processors this process may use: the least of its affinity and its cgroup quotas, rounded up, at least 1.

    Reads cgroup v2 `cpu.max` and cgroup v1 `cpu.cfs_quota_us` of the process's own group and of every group
    above it (a parent's limit binds too). `root` is where `/proc` and `/sys` are looked for.
    """
    limits = [float(len(os.sched_getaffinity(0))), *_v2_quotas(root), *_v1_quotas(root)]
    return max(1, math.ceil(min(limits)))


def share(workers: int, root: Path = Path("/")) -> int:
    """Processors for each of `workers` processes of this container, so that all together use no more than there are.

    Rounded down, at least 1: more workers than processors are the operator's choice.
    """
    return max(1, available_cpus(root) // max(1, workers))


def _v2_quotas(root: Path) -> list[float]:
    base = root / "sys/fs/cgroup"
    found = []
    for folder in _folders(base, _group_path(root, controller="")):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        found.extend(_ratio(quota, period))
    return found


def _v1_quotas(root: Path) -> list[float]:
    group = _group_path(root, controller="cpu")
    found = []
    for mount in ("cpu", "cpu,cpuacct"):
        for folder in _folders(root / "sys/fs/cgroup" / mount, group):
            found.extend(_ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")))
    return found


def _group_path(root: Path, *, controller: str) -> str:
    """The process's group as `/proc/self/cgroup` names it; v2 is the line without controllers."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            return path
    return "/"


def _folders(base: Path, group: str) -> list[Path]:
    """The group's folder and all above it up to `base`.

    Inside a container `/proc/self/cgroup` may name the host's path while the mount shows only our own
    part of the tree: `base` itself is therefore always looked at, and folders that do not exist read as empty.
    """
    parts = [part for part in group.split("/") if part and part != ".."]
    return [base.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _ratio(quota: str, period: str) -> list[float]:
    """[quota / period], or [] for `max`, -1, or what cannot be read."""
    try:
        value = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):
        return []
    return [value] if value > 0 else []


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
