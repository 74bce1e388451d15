"""Every adapter of the monitor's store keeps the contract; the migrations leave exactly the tables of the code."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from vedette.core.errors import Conflict
from vedette.ports.monitors import MonitorStore
from vedette.storage.memory_monitors import MemoryMonitorStore
from vedette.storage.monitor_tables import metadata
from vedette.storage.sql import SqlCatalog
from vedette.storage.sql_monitors import SqlMonitorStore
from vedette.testing.monitors import MonitorStoreContract
from vedette.testing.postgres import PostgresServer


class TestMemoryMonitorStore(MonitorStoreContract):
    """The store of one process."""

    def open_store(self) -> MonitorStore:
        return MemoryMonitorStore()


class TestSqliteMonitorStore(MonitorStoreContract):
    """A database file."""

    @pytest.fixture(autouse=True)
    def fresh_store(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/new folder/monitor.db"

    def open_store(self) -> MonitorStore:
        return SqlMonitorStore(self.url)


class TestPostgresMonitorStore(MonitorStoreContract):
    """A database of a server."""

    @pytest.fixture(autouse=True)
    def fresh_store(self, postgres: PostgresServer) -> None:
        self.url = postgres.new_database()

    def open_store(self) -> MonitorStore:
        return SqlMonitorStore(self.url)


def check_tables(url: str) -> None:
    """Migrate twice; Alembic has nothing to add then."""
    for _ in range(2):
        store = SqlMonitorStore(url)
        store.migrate()
        store.close()
    engine = create_engine(url)
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "version_table": "monitor_version"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrations_leave_the_tables_of_the_code_on_sqlite(tmp_path: Path) -> None:
    """Nothing for Alembic to do."""
    check_tables(f"sqlite:///{tmp_path}/m.db")


def test_migrations_leave_the_tables_of_the_code_on_postgres(postgres: PostgresServer) -> None:
    """Nothing for Alembic to do."""
    check_tables(postgres.new_database())


def test_catalog_and_monitor_may_share_a_database(postgres: PostgresServer) -> None:
    """Their tables and migrations keep out of each other's way."""
    url = postgres.new_database()
    for store in (SqlCatalog(url), SqlMonitorStore(url), SqlCatalog(url)):
        store.migrate()
        store.close()


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """With what to do about it."""
    url = f"sqlite:///{tmp_path}/m.db"
    check_tables(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE monitor_version SET version_num = '9999'"))
    engine.dispose()
    store = SqlMonitorStore(url)
    with pytest.raises(Conflict, match="newer"):
        store.migrate()
    store.close()
