"""What a start of the monitor leaves alone: libraries that take longer to import than the start may take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from vedette.storage import migrations, monitor_migrations
from vedette.storage.database import Schema

LATER = ("alembic", "evidently", "httpx", "matplotlib", "pandas", "pyarrow", "scipy.stats", "sklearn")

STARTED = """
import asyncio, sys
from pathlib import Path
from vedette.core.clock import SystemClock
from vedette.core.metrics import NoMetrics
from vedette.monitor.config import MonitorSettings
from vedette.monitor.service import MonitorPorts, build
from vedette.registry.client import GrpcRegistry
from vedette.storage.sql_monitors import SqlMonitorStore
from vedette.storage.sqlite_stream import SqliteEventStream

async def main(folder):
    registry = GrpcRegistry("127.0.0.1:1")
    store = SqlMonitorStore(f"sqlite:///{folder}/monitor.db")
    stream = SqliteEventStream(folder / "stream")
    ports = MonitorPorts(store, registry, registry, stream, NoMetrics(), SystemClock())
    service = build(MonitorSettings(data_dir=folder), ports)
    await service.start()
    await service.stop()

asyncio.run(main(Path(sys.argv[1])))
print(*[name for name in sys.argv[2:] if name in sys.modules])
"""


def imported(folder: Path) -> list[str]:
    """Which of `LATER` a start and stop of the monitor has imported."""
    command = [sys.executable, "-c", STARTED, str(folder), *LATER]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout.split()


def test_a_start_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """An empty store gets its tables without migrations; what sends, archives and draws is imported when it does."""
    assert imported(tmp_path) == []
    assert imported(tmp_path) == []


@pytest.mark.parametrize("schema", [migrations.SCHEMA, monitor_migrations.SCHEMA])
def test_the_newest_migration_is_the_one_of_the_last_name(schema: Schema) -> None:
    """By it a store is told to be up to date."""
    assert schema.newest == ScriptDirectory(str(schema.folder)).get_current_head()
