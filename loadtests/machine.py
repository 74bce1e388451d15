"""This machine: which CPU a process gets, what a reader of figures must know of it, and where results are kept."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("granian", "grpcio", "pygrpc-native", "onnxruntime", "numpy", "msgspec")


def pin(cpu: int, count: int = 1) -> list[str]:
    """The command prefix that ties a process to `count` CPUs from the `cpu`-th on; nothing where there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    chosen = sorted({cpus[(cpu + step) % len(cpus)] for step in range(count)})
    return ["taskset", "-c", ",".join(map(str, chosen))] if len(cpus) > 1 else []


def facts() -> dict[str, object]:
    """What a reader of the figures needs to know of this machine."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())  # fmt: skip
    return {
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release().split("-")[0],
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def rss_mb(pid: int) -> float:
    """Resident memory of a process and what it started: a supervisor counts, too."""
    root = psutil.Process(pid)
    return sum(process.memory_info().rss for process in (root, *root.children(recursive=True))) / 2**20


def document(**parts: Any) -> dict[str, Any]:
    """Figures with when and where they were measured."""
    return {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": facts(), **parts}


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a document as people read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
