"""Every adapter of the monitor's store keeps the contract of alerts."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.storage.memory_monitors import MemoryMonitorStore
from vedette.storage.sql_monitors import SqlMonitorStore
from vedette.testing.alerts import AlertLedgerContract, OpenStore
from vedette.testing.postgres import PostgresServer


class TestMemoryAlerts(AlertLedgerContract):
    """The ledger of one process."""

    def open_store(self) -> OpenStore:
        return MemoryMonitorStore()


class TestSqliteAlerts(AlertLedgerContract):
    """A database file."""

    @pytest.fixture(autouse=True)
    def fresh_store(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/monitor.db"

    def open_store(self) -> OpenStore:
        return SqlMonitorStore(self.url)


class TestPostgresAlerts(AlertLedgerContract):
    """A database of a server."""

    @pytest.fixture(autouse=True)
    def fresh_store(self, postgres: PostgresServer) -> None:
        self.url = postgres.new_database()

    def open_store(self) -> OpenStore:
        return SqlMonitorStore(self.url)
