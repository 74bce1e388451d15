"""What starting costs: the import of the client, the command's help, and the services from nothing to ready.

`python -m loadtests.startup [--rounds 5] [--save NAME]`. Medians of whole processes; the interpreter itself
is the first row, because nobody can be faster.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from loadtests.machine import RESULTS, facts

PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "import vedette": ["-c", "import vedette"],
    "vedette --help": ["-m", "vedette", "--help"],
    "import vedette; vedette.Client": ["-c", "import vedette; vedette.Client"],
}
SERVICES = ("registry", "inference", "monitor")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    seconds: float
    rss_mb: float


def program(arguments: list[str]) -> tuple[float, float]:
    """Wall seconds of one run of the interpreter; its memory is not looked at (0)."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun, 0.0


def service(name: str, data: Path) -> tuple[float, float]:
    """Seconds until a service with nothing deployed is ready, and the memory of its processes in MB.

    The others wait for their registry to be ready, so one is started before the clock is.
    """
    with tempfile.TemporaryDirectory(dir=data) as folder:
        env = _settings(Path(folder))
        others = [] if name == "registry" else [_start("registry", env)]
        if others:
            _wait_ready("registry", Path(folder))
            run = json.loads((Path(folder) / "run" / "registry.json").read_text())
            env[f"VEDETTE_{name.upper()}__REGISTRY_ADDRESS"] = run["grpc"]
        begun = time.perf_counter()
        process = _start(name, env)
        _wait_ready(name, Path(folder))
        seconds = time.perf_counter() - begun
        root = psutil.Process(process.pid)
        memory = sum(part.memory_info().rss for part in (root, *root.children(recursive=True))) / 2**20
        for running in (process, *others):
            running.send_signal(signal.SIGTERM)
            running.wait(timeout=30)
    return seconds, memory


def _settings(folder: Path) -> dict[str, str]:
    env = dict(os.environ)
    for name in SERVICES:
        prefix = f"VEDETTE_{name.upper()}__"
        env |= {f"{prefix}PORT": "0", f"{prefix}GRPC_PORT": "0", f"{prefix}DATA_DIR": str(folder)}
        env[f"{prefix}LOG_LEVEL"] = "ERROR"
    return env


def _start(name: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "vedette", "serve", name], env=env)


def _wait_ready(name: str, folder: Path) -> None:
    record = folder / "run" / f"{name}.json"
    for _ in range(30_000):
        if record.exists():
            url = json.loads(record.read_text())["http"]
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        time.sleep(0.002)
    raise SystemExit(f"{name} is not ready after a minute")


def main() -> None:
    """Measure, print, and with --save keep the figures in loadtests/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", metavar="NAME", help="write loadtests/results/NAME.json")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="vedette-startup-") as data:
        runs = {what: [program(line) for _ in range(arguments.rounds)] for what, line in PROGRAMS.items()}
        for name in SERVICES:
            runs[f"serve {name}, ready"] = [service(name, Path(data)) for _ in range(arguments.rounds)]
    for what, measured in runs.items():
        seconds, memory = (statistics.median(figures) for figures in zip(*measured, strict=True))
        rows.append(Row(what, seconds, memory))
    table = Table("what", "seconds", "RSS MB", title="Starting", title_justify="left")
    for row in rows:
        table.add_row(row.what, f"{row.seconds:.3f}", f"{row.rss_mb:.0f}" if row.rss_mb else "")
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if arguments.save:
        document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": facts()}
        text = json.dumps({**document, "rows": [asdict(row) for row in rows]}, indent=1)
        (RESULTS / f"{arguments.save}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
