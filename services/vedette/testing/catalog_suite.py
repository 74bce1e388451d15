"""What the parts of the catalog's contract share: an empty catalog to test, and how to fill it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from vedette.core.models import Model
from vedette.ports.catalog import Catalog
from vedette.testing.samples import endpoint, endpoint_config, model_version

T = TypeVar("T")


class CatalogSuite(ABC):
    """A part of the contract. Its tests take the fixture `catalog`."""

    @abstractmethod
    def open_catalog(self, *, kept_changes: int) -> Catalog:
        """A catalog that is not migrated yet; a second call within a test opens the same store, if it has one."""

    @pytest.fixture(autouse=True)
    def fresh_store(self) -> object:
        """Subclasses override this where a store has to be made before a test and removed after it."""
        return None

    @pytest.fixture
    def catalog(self, fresh_store: object) -> Iterator[Catalog]:
        """An empty, migrated catalog that keeps its log of changes long."""
        catalog = self.open_catalog(kept_changes=1_000)
        catalog.migrate()
        yield catalog
        catalog.close()


def add_model(catalog: Catalog, name: str, *, versions: int = 0) -> None:
    """Add a model with versions 1 to `versions`, each of files of its own."""
    with catalog.transaction() as tx:
        tx.insert_model(Model(name, 0, created_at=1.5, updated_at=2.5))
        for _ in range(versions):
            number = tx.next_version(name)
            tx.insert_version(model_version(name, number, content=b"graph %d" % number))


def add_endpoint(catalog: Catalog, name: str, model: str, *versions: int) -> None:
    """Add an endpoint that serves these versions."""
    with catalog.transaction() as tx:
        tx.insert_endpoint(endpoint(name, endpoint_config(model, *versions)))


def all_pages(fetch: Callable[[str], tuple[list[T], str]]) -> list[list[T]]:
    """Every page of a list, from the first to the one without a next token."""
    pages, token = [], ""
    while True:
        items, token = fetch(token)
        pages.append(items)
        if not token:
            return pages
