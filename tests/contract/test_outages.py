"""Databases that are down, slow or busy: `Unavailable` in time, and on again by itself."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from vedette.core.errors import DataLoss, Unavailable
from vedette.core.models import Model
from vedette.ports.catalog import Catalog
from vedette.storage.sql import SqlCatalog
from vedette.testing.catalog_suite import add_model
from vedette.testing.postgres import PostgresServer


def refuse_everything(catalog: Catalog) -> None:
    """Every way into the catalog says `Unavailable`, and shows neither path nor host."""

    def read() -> None:
        with catalog.read() as snapshot:
            snapshot.log()

    for attempt in (
        catalog.migrate,
        read,
        lambda: add_model(catalog, "n"),
        lambda: catalog.wait_for_change(0, 0.0),
    ):
        with pytest.raises(Unavailable) as caught:
            attempt()
        assert "/" not in caught.value.message


def test_a_server_that_crashes_and_comes_back_loses_nothing(postgres: PostgresServer) -> None:
    """While it is down every method says so; afterwards the same catalog works, and what was acknowledged is there."""
    catalog = SqlCatalog(postgres.new_database())
    catalog.migrate()
    add_model(catalog, "m", versions=3)
    postgres.stop(how=signal.SIGQUIT)
    try:
        refuse_everything(catalog)
    finally:
        postgres.start()
    with catalog.read() as snapshot:
        assert snapshot.model("m").latest_version == 3
    add_model(catalog, "n")
    catalog.close()


def test_a_restart_that_nobody_noticed_disturbs_nobody(postgres: PostgresServer) -> None:
    """Connections that died while they were idle are replaced before a caller gets one."""
    catalog = SqlCatalog(postgres.new_database())
    catalog.migrate()
    postgres.stop(how=signal.SIGQUIT)
    postgres.start()
    add_model(catalog, "m")
    catalog.close()


def test_a_crash_inside_a_transaction_is_told_to_its_caller(postgres: PostgresServer) -> None:
    """Nothing of it is kept, and the next transaction works."""
    catalog = SqlCatalog(postgres.new_database())
    catalog.migrate()

    def interrupted() -> None:
        with catalog.transaction() as tx:
            tx.insert_model(Model("m", 0))
            postgres.stop(how=signal.SIGQUIT)
            postgres.start()
            tx.insert_model(Model("n", 0))

    with pytest.raises(Unavailable):
        interrupted()
    with catalog.read() as snapshot:
        assert snapshot.model_count() == 0
    add_model(catalog, "m")
    catalog.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_turn_that_does_not_come_is_given_up_in_time(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """When somebody else holds the store for longer than the caller will wait."""
    url = f"sqlite:///{tmp_path}/a.db" if kind == "sqlite" else request.getfixturevalue("postgres").new_database()
    holder, caller = SqlCatalog(url), SqlCatalog(url, busy_timeout_s=0.05)
    holder.migrate()
    with holder.transaction() as tx:
        tx.insert_model(Model("m", 0))
        with pytest.raises(Unavailable, match="busy"):
            add_model(caller, "n")
        with caller.read() as snapshot:
            assert snapshot.model_count() == 0
    add_model(caller, "n")
    for catalog in (holder, caller):
        catalog.close()


def test_a_turn_inside_one_process_is_given_up_too(tmp_path: Path) -> None:
    """A thread that opens a second transaction inside its first does not hang."""
    catalog = SqlCatalog(f"sqlite:///{tmp_path}/a.db", busy_timeout_s=0.05)
    catalog.migrate()
    with catalog.transaction() as tx:
        tx.insert_model(Model("m", 0))
        with pytest.raises(Unavailable, match="busy"):
            add_model(catalog, "n")
    with catalog.read() as snapshot:
        assert [model.name for model in snapshot.models(limit=9)[0]] == ["m"]
    catalog.close()


def test_a_closed_catalog_says_so(tmp_path: Path) -> None:
    """Using it after `close` is `Unavailable`, not a new connection that nobody closes."""
    catalog = SqlCatalog(f"sqlite:///{tmp_path}/a.db")
    catalog.migrate()
    catalog.close()
    with pytest.raises(Unavailable, match="closed"), catalog.read():
        pass
    assert catalog.wait_for_change(7, 60.0) == 7


def test_a_connection_given_back_after_the_end_is_closed(tmp_path: Path) -> None:
    """A reader that is still at it when the catalog closes may finish, and leaves nothing open."""
    catalog = SqlCatalog(f"sqlite:///{tmp_path}/a.db")
    catalog.migrate()
    with catalog.read() as snapshot:
        catalog.close()
        assert snapshot.model_count() == 0
    assert "Connections in pool: 0" in catalog._database.engine.pool.status()


def test_writes_are_on_disk_before_they_are_acknowledged(tmp_path: Path) -> None:
    """The settings that make SQLite wait for the disk are in force on every connection."""
    catalog = SqlCatalog(f"sqlite:///{tmp_path}/a.db")
    catalog.migrate()
    with catalog.transaction() as tx:
        read = tx._connection.exec_driver_sql
        assert read("PRAGMA synchronous").scalar() == 2
        assert read("PRAGMA journal_mode").scalar() == "wal"
        assert read("PRAGMA foreign_keys").scalar() == 1
    catalog.close()


def test_a_server_that_does_not_wait_for_the_disk_is_told_to(postgres: PostgresServer) -> None:
    """An administrator's `synchronous_commit = off` does not hold for the catalog; a stronger setting does."""
    for given, held in (("off", "on"), ("remote_apply", "remote_apply"), ("local", "local")):
        url = postgres.new_database() + f"&options=-csynchronous_commit%3D{given}"
        catalog = SqlCatalog(url)
        catalog.migrate()
        with catalog.read() as snapshot:
            assert snapshot._connection.exec_driver_sql("SHOW synchronous_commit").scalar() == held
        catalog.close()


def test_a_damaged_database_file_is_found(tmp_path: Path) -> None:
    """A page of rubbish in the middle is `DataLoss`, never a wrong answer."""
    url = f"sqlite:///{tmp_path}/a.db"
    catalog = SqlCatalog(url)
    catalog.migrate()
    add_model(catalog, "m", versions=50)
    catalog.close()
    content = bytearray((tmp_path / "a.db").read_bytes())
    content[4096:-4096] = b"\xa5" * (len(content) - 8192)
    (tmp_path / "a.db").write_bytes(content)
    damaged = SqlCatalog(url)
    with pytest.raises(DataLoss), damaged.read() as snapshot:
        snapshot.versions("m", limit=100)
    damaged.close()
