"""The migrations leave exactly the tables that the code expects, from nothing and over and over."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text

from vedette.core.errors import Conflict, DataLoss, Unavailable
from vedette.storage.sql import SqlCatalog
from vedette.storage.tables import metadata
from vedette.testing.postgres import PostgresServer
from vedette.testing.samples import baseline, model_version


def migrate(url: str) -> None:
    """Bring the store up to date and let go of it."""
    catalog = SqlCatalog(url)
    try:
        catalog.migrate()
    finally:
        catalog.close()


def differences(engine: Engine) -> list[Any]:
    """What Alembic would still have to change."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        found: list[Any] = compare_metadata(context, metadata)
    engine.dispose()
    return found


def test_migrations_leave_the_tables_of_the_code_on_sqlite(tmp_path: Path) -> None:
    """Nothing for Alembic to do."""
    migrate(f"sqlite:///{tmp_path}/a.db")
    assert differences(create_engine(f"sqlite:///{tmp_path}/a.db")) == []


def test_migrations_leave_the_tables_of_the_code_on_postgres(postgres: PostgresServer) -> None:
    """Nothing for Alembic to do."""
    url = postgres.new_database()
    migrate(url)
    assert differences(create_engine(url)) == []


def schema(engine: Engine) -> set[str]:
    """SQLite's own text of every table and index, each definition's parts sorted."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")).scalars().all()
    engine.dispose()
    parts = (re.split(r",\s(?![^(]*\))", re.sub(r"\s+", " ", row)) for row in rows)
    return {", ".join(sorted(part.strip(" ()") for part in row)) for row in parts if "alembic" not in row[0]}


def test_migrations_say_the_same_as_the_code_to_the_letter(tmp_path: Path) -> None:
    """Also what Alembic does not compare: primary keys, what happens on deletion, partial indexes."""
    migrate(f"sqlite:///{tmp_path}/a.db")
    direct = create_engine(f"sqlite:///{tmp_path}/b.db")
    metadata.create_all(direct)
    assert schema(create_engine(f"sqlite:///{tmp_path}/a.db")) == schema(direct)


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
