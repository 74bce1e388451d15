"""The catalog on PostgreSQL keeps the same contract as on SQLite."""

from __future__ import annotations

import pytest

from vedette.ports.catalog import Catalog
from vedette.storage.sql import SqlCatalog
from vedette.testing.catalog import CatalogContract
from vedette.testing.postgres import PostgresServer


class TestPostgresCatalog(CatalogContract):
    """A database of a server."""

    @pytest.fixture(autouse=True)
    def fresh_store(self, postgres: PostgresServer) -> None:
        self.url = postgres.new_database()

    def open_catalog(self, *, kept_changes: int) -> Catalog:
        return SqlCatalog(self.url, kept_changes=kept_changes)
