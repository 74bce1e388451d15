"""The migrations leave exactly the tables that the code expects, from nothing and over and over."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.exc import OperationalError

from vedette.core.errors import Conflict, DataLoss, Unavailable
from vedette.storage import database
from vedette.storage import migrations as catalog
from vedette.storage import monitor_migrations as monitors
from vedette.storage.database import Schema
from vedette.storage.sql import SqlCatalog
from vedette.testing.postgres import PostgresServer
from vedette.testing.samples import baseline, model_version


def migrate(url: str) -> None:
    """Bring the store up to date and let go of it."""
    catalog = SqlCatalog(url)
    try:
        catalog.migrate()
    finally:
        catalog.close()


def differences(engine: Engine, schema: Schema) -> list[Any]:
    """What Alembic would still have to change."""
    options = {"compare_type": True, "compare_server_default": True, "version_table": schema.version_table}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        found: list[Any] = compare_metadata(context, schema.metadata)
    engine.dispose()
    return found


SCHEMAS = pytest.mark.parametrize("schema", [catalog.SCHEMA, monitors.SCHEMA], ids=lambda schema: schema.noun)
WAYS = pytest.mark.parametrize("way", [database.upgrade, database.run_migrations])
"""How an empty store gets its tables: at once, or migration by migration as an older one."""


def made(url: str, schema: Schema, way: Callable[[Connection, Schema], None]) -> Engine:
    """A store that began empty."""
    engine = create_engine(url)
    with engine.begin() as connection:
        way(connection, schema)
    return engine


@SCHEMAS
@WAYS
def test_migrations_leave_the_tables_of_the_code_on_sqlite(tmp_path: Path, schema: Schema, way: Any) -> None:
    """Nothing for Alembic to do."""
    assert differences(made(f"sqlite:///{tmp_path}/a.db", schema, way), schema) == []


@SCHEMAS
@WAYS
def test_migrations_leave_the_tables_of_the_code_on_postgres(
    postgres: PostgresServer, schema: Schema, way: Any
) -> None:
    """Nothing for Alembic to do."""
    assert differences(made(postgres.new_database(), schema, way), schema) == []


def contents(engine: Engine) -> tuple[set[str], dict[str, list[Any]]]:
    """SQLite's own text of every table and index, each definition's parts sorted; and the rows of every table."""
    with engine.connect() as connection:
        texts = connection.execute(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")).scalars().all()
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        rows = {name: list(connection.execute(text(f"SELECT * FROM {name}"))) for name in names}
    engine.dispose()
    parts = (re.split(r",\s(?![^(]*\))", re.sub(r"\s+", " ", line)) for line in texts)
    return {", ".join(sorted(part.strip(" ()") for part in line)) for line in parts}, rows


@SCHEMAS
def test_migrations_say_the_same_as_the_code_to_the_letter(tmp_path: Path, schema: Schema) -> None:
    """Also what Alembic does not compare: primary keys, what happens on deletion, partial indexes, first rows."""
    at_once = contents(made(f"sqlite:///{tmp_path}/a.db", schema, database.upgrade))
    assert at_once == contents(made(f"sqlite:///{tmp_path}/b.db", schema, database.run_migrations))


def test_an_empty_store_does_without_alembic(tmp_path: Path) -> None:
    """Which takes 0.4 s to import: the first start is as quick as every other."""
    program = (
        "import sys; from vedette.storage.sql_monitors import SqlMonitorStore as S; "
        f"S('sqlite:///{tmp_path}/m.db').migrate(); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@SCHEMAS
def test_tables_without_a_revision_are_left_to_alembic(tmp_path: Path, schema: Schema) -> None:
    """Which says what is in its way; nothing is made beside them."""
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")
    first = next(iter(schema.metadata.tables))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {first} (x INTEGER)"))
    with pytest.raises(OperationalError, match="already exists"), engine.begin() as connection:
        database.upgrade(connection, schema)
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) & set(schema.metadata.tables) == {first}
    engine.dispose()


def test_many_starts_at_once_migrate_once(tmp_path: Path) -> None:
    """Eight catalogs on one empty file: all succeed, and the log begins once."""
    url = f"sqlite:///{tmp_path}/a.db"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(migrate, [url] * 8))
    catalog = SqlCatalog(url)
    with catalog.read() as snapshot:
        assert snapshot.log().newest == 0
    catalog.close()


def test_a_store_from_before_baselines_keeps_what_it_has(tmp_path: Path) -> None:
    """Brought from the first schema to the newest, its versions are there and can have baselines."""
    url = f"sqlite:///{tmp_path}/a.db"
    migrate(url)
    engine = create_engine(url)
    with engine.begin() as connection:  # what the first migration alone leaves
        connection.execute(text("DROP TABLE baselines"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        connection.execute(text("INSERT INTO models VALUES ('m', 1, '', 0, 0)"))
    engine.dispose()
    catalog = SqlCatalog(url)
    catalog.migrate()
    with catalog.transaction() as tx:
        tx.insert_version(model_version("m", 1))
        tx.put_baseline(baseline("m", 1, "default"))
    with catalog.read() as snapshot:
        assert snapshot.baselines("m", 1, limit=1) == ([baseline("m", 1, "default")], "")
    catalog.close()


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """And left as it is."""
    url = f"sqlite:///{tmp_path}/a.db"
    migrate(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="newer"):
        migrate(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    engine.dispose()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """As damaged, before anything is written to it."""
    (tmp_path / "a.db").write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    with pytest.raises(DataLoss):
        migrate(f"sqlite:///{tmp_path}/a.db")


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    """The message names no path."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable) as caught:
        migrate(f"sqlite:///{tmp_path}/file/below/a.db")
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y"])
def test_only_stores_that_keep_the_promises_are_taken(url: str) -> None:
    """No database in memory, and none that the contract suite does not run on."""
    with pytest.raises(ValueError, match="catalog"):
        SqlCatalog(url)
