"""Several processes on one catalog: turns to write, revisions and watches hold beyond one process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vedette.core.models import Model
from vedette.storage.sql import SqlCatalog

PROGRAM = Path(__file__).with_name("writers.py")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind that several processes can share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    database: str = request.getfixturevalue("postgres").new_database()
    return database


@pytest.fixture
def catalog(url: str) -> Iterator[SqlCatalog]:
    """This process's catalog on the store; not migrated yet."""
    catalog = SqlCatalog(url)
    yield catalog
    catalog.close()


def start_writer(url: str, who: str, *, threads: int, transactions: int) -> subprocess.Popen[str]:
    """Start a writer; it migrates, says `ready` and waits for a line."""
    command = [sys.executable, PROGRAM, url, who, str(threads), str(transactions)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(writer: subprocess.Popen[str]) -> list[int]:
    """Wait for a writer and return its revisions."""
    output = writer.communicate("go\n", timeout=120)[0]
    assert writer.returncode == 0
    revisions: list[int] = json.loads(output)
    return revisions


def ready(writer: subprocess.Popen[str]) -> bool:
    """Wait until the writer is ready."""
    assert writer.stdout is not None
    return writer.stdout.readline() == "ready\n"


def test_processes_lose_no_update_and_leave_no_gap(url: str, catalog: SqlCatalog) -> None:
    """Two processes start on an empty store at once, then write with four threads each."""
    writers = [start_writer(url, who, threads=4, transactions=10) for who in "ab"]
    assert [ready(writer) for writer in writers] == [True, True]
    with catalog.transaction() as tx:
        tx.insert_model(Model("m", 0))
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    revisions = [revision for writer in writers for revision in finish(writer)]
    assert sorted(revisions) == list(range(1, 81))
    with catalog.read() as snapshot:
        assert snapshot.model("m").tags == {"count": "80"}
        assert [change.revision for change in snapshot.changes(0, 1_000)] == list(range(1, 81))


def test_a_change_of_another_process_wakes_a_waiter(url: str, catalog: SqlCatalog) -> None:
    """Within moments, by polling."""
    writer = start_writer(url, "a", threads=1, transactions=1)
    assert ready(writer)
    with catalog.transaction() as tx:
        tx.insert_model(Model("m", 0))
    began = time.monotonic()
    assert finish(writer) == [1]
    assert catalog.wait_for_change(0, 60.0) == 1
    assert time.monotonic() - began < 30
