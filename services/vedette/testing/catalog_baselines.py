"""The contract of a catalog's baselines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vedette.core.errors import InvalidArgument, NotFound
from vedette.ports.catalog import Catalog
from vedette.testing.catalog_suite import CatalogSuite, add_model, all_pages
from vedette.testing.samples import baseline


class BaselineContract(CatalogSuite):
    """Baselines of model versions."""

    def test_a_baseline_comes_back_as_it_went_in(self, catalog: Catalog) -> None:
        """Every field, times to the fraction."""
        add_model(catalog, "m", versions=1)
        kept = baseline("m", 1, "default")
        with catalog.transaction() as tx:
            tx.put_baseline(kept)
            assert tx.baseline("m", 1, "default") == kept
        with catalog.read() as snapshot:
            assert snapshot.baseline("m", 1, "default") == kept

    def test_a_baseline_of_the_same_name_is_replaced(self, catalog: Catalog) -> None:
        """The newest files are the baseline; those of other versions and names stay."""
        add_model(catalog, "m", versions=2)
        first, newer = baseline("m", 1, "default"), baseline("m", 1, "default", content=b"newer", rows=7)
        others = baseline("m", 1, "march"), baseline("m", 2, "default")
        with catalog.transaction() as tx:
            for each in (first, *others, newer):
                tx.put_baseline(each)
        with catalog.read() as snapshot:
            assert snapshot.baseline("m", 1, "default") == newer
            assert snapshot.baseline("m", 1, "march") == others[0]
            assert snapshot.baseline("m", 2, "default") == others[1]

    def test_a_baseline_needs_its_version(self, catalog: Catalog) -> None:
        """And what does not exist is `NotFound`; text that no database keeps is refused."""
        add_model(catalog, "m", versions=1)
        with catalog.transaction() as tx:
            for attempt in (
                lambda: tx.put_baseline(baseline("x", 1, "default")),
                lambda: tx.put_baseline(baseline("m", 2, "default")),
                lambda: tx.baseline("m", 1, "default"),
                lambda: tx.baseline("m", 10**30, "default"),
                lambda: tx.delete_baseline("m", 1, "default"),
                lambda: tx.baselines("m", 2, limit=1),
                lambda: tx.baselines("x", 1, limit=1),
            ):
                with pytest.raises(NotFound):
                    attempt()
            with pytest.raises(InvalidArgument):
                tx.put_baseline(replace(baseline("m", 1, "default"), name="a\0b"))

    def test_baselines_are_listed_by_name(self, catalog: Catalog) -> None:
        """Of one version, page by page; a token belongs to its version."""
        add_model(catalog, "m", versions=2)
        with catalog.transaction() as tx:
            for name in ("b", "B", "a.1", "c"):
                tx.put_baseline(baseline("m", 1, name))
            tx.put_baseline(baseline("m", 2, "other"))
        with catalog.read() as snapshot:
            pages = all_pages(lambda token: snapshot.baselines("m", 1, limit=3, after=token))
            assert [[each.name for each in page] for page in pages] == [["B", "a.1", "b"], ["c"]]
            with pytest.raises(InvalidArgument):
                snapshot.baselines("m", 2, limit=3, after=snapshot.baselines("m", 1, limit=3)[1])
            with pytest.raises(InvalidArgument):
                snapshot.baselines("m", 1, limit=0)

    def test_baselines_go_with_their_version(self, catalog: Catalog) -> None:
        """And with the model; a new version of that number never has old ones."""
        add_model(catalog, "m", versions=2)
        with catalog.transaction() as tx:
            for version in (1, 2):
                tx.put_baseline(baseline("m", version, "default"))
            tx.delete_version("m", 1)
            with pytest.raises(NotFound):
                tx.baseline("m", 1, "default")
            assert tx.baseline("m", 2, "default").version == 2
            tx.delete_model("m")
        add_model(catalog, "m", versions=2)
        with catalog.read() as snapshot:
            assert snapshot.baselines("m", 2, limit=10) == ([], "")

    def test_files_of_baselines_are_in_use(self, catalog: Catalog) -> None:
        """Until the last baseline that names them is replaced or deleted."""
        add_model(catalog, "m", versions=1)
        first, same = baseline("m", 1, "a"), baseline("m", 1, "b")
        newer = baseline("m", 1, "a", content=b"newer")
        with catalog.transaction() as tx:
            tx.put_baseline(first)
            tx.put_baseline(same)
            tx.put_baseline(newer)
            wanted = [first.digest, newer.digest, "f" * 64]
            assert tx.digests_in_use(wanted) == {first.digest, newer.digest}
            tx.delete_baseline("m", 1, "b")
            assert tx.digests_in_use(wanted) == {newer.digest}
            tx.delete_baseline("m", 1, "a")
            assert tx.digests_in_use(wanted) == set()
