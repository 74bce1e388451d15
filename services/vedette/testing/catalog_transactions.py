"""The contract of a catalog's transactions: all or nothing, in turn, and seen whole."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from vedette.core.errors import AlreadyExists, NotFound
from vedette.core.models import Model
from vedette.ports.catalog import Catalog
from vedette.testing.catalog_suite import CatalogSuite, add_endpoint, add_model
from vedette.testing.samples import deployment, endpoint, endpoint_config, model_version


class TransactionContract(CatalogSuite):
    """Atomicity, isolation, and many writers at once."""

    def test_a_failed_transaction_leaves_nothing(self, catalog: Catalog) -> None:
        """Whatever it inserted, changed or deleted is as it was."""
        add_model(catalog, "m", versions=2)
        add_endpoint(catalog, "e", "m", 1)
        with catalog.transaction() as tx:
            tx.set_alias("m", "champion", 1)
        with catalog.read() as snapshot:
            before = snapshot.model("m"), snapshot.versions("m", limit=9), snapshot.endpoint("e"), snapshot.log()

        def fail() -> None:
            with catalog.transaction() as tx:
                tx.update_model(Model("m", 0, tags={"x": "y"}, description="changed"))
                tx.set_alias("m", "champion", 2)
                tx.insert_version(model_version("m", 3))
                tx.update_endpoint(replace(endpoint("e", endpoint_config("m", 2)), generation=2))
                tx.append_change("e", deployment("e"))
                tx.insert_model(Model("n", 0))
                tx.delete_endpoint("e")
                tx.delete_model("m")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        with catalog.read() as snapshot:
            after = snapshot.model("m"), snapshot.versions("m", limit=9), snapshot.endpoint("e"), snapshot.log()
            assert after == before
            assert snapshot.model_count() == 1

    def test_a_forgiven_error_does_not_spoil_the_transaction(self, catalog: Catalog) -> None:
        """Whoever catches `AlreadyExists` or `NotFound` inside may go on, and what was written is kept."""
        add_model(catalog, "m")
        with catalog.transaction() as tx:
            tx.insert_model(Model("first", 0))
            with pytest.raises(AlreadyExists):
                tx.insert_model(Model("m", 0))
            with pytest.raises(NotFound):
                tx.version("m", 5)
            tx.insert_model(Model("second", 0))
        with catalog.read() as snapshot:
            assert [model.name for model in snapshot.models(limit=9)[0]] == ["first", "m", "second"]

    def test_what_is_not_committed_is_not_seen(self, catalog: Catalog) -> None:
        """A reader beside an open transaction sees the state before it, and does not wait for it."""
        add_model(catalog, "m")
        with ThreadPoolExecutor(1) as pool, catalog.transaction() as tx:
            tx.insert_model(Model("n", 0))
            assert tx.model_count() == 2

            def count() -> int:
                with catalog.read() as snapshot:
                    return snapshot.model_count()

            assert pool.submit(count).result(30) == 1
        with catalog.read() as snapshot:
            assert snapshot.model_count() == 2

    def test_a_snapshot_stays_as_it_was(self, catalog: Catalog) -> None:
        """What others commit while it is read does not show in it."""
        add_model(catalog, "m", versions=1)
        with ThreadPoolExecutor(1) as pool, catalog.read() as snapshot:
            assert snapshot.model_count() == 1
            pool.submit(add_model, catalog, "n").result(30)
            assert snapshot.model_count() == 1
            assert [model.name for model in snapshot.models(limit=9)[0]] == ["m"]

    def test_a_second_writer_waits_for_the_first(self, catalog: Catalog) -> None:
        """It begins when the first has ended, and sees what the first did."""
        began = threading.Event()
        order: list[str] = []

        def second() -> None:
            began.set()
            with catalog.transaction() as tx:
                order.append(f"second sees {tx.model_count()}")

        with ThreadPoolExecutor(1) as pool:
            with catalog.transaction() as tx:
                waiting = pool.submit(second)
                assert began.wait(30)
                tx.insert_model(Model("m", 0))
                order.append("first")
            waiting.result(30)
        assert order == ["first", "second sees 1"]

    def test_many_threads_lose_no_update_and_leave_no_gap(self, catalog: Catalog) -> None:
        """Eight writers count in one record and log each step: nothing is lost, in whatever order they came."""
        add_model(catalog, "m")

        def work(who: int) -> list[int]:
            revisions = []
            for _ in range(25):
                with catalog.transaction() as tx:
                    model = tx.model("m")
                    count = int(model.tags.get("count", "0")) + 1
                    tx.update_model(replace(model, tags={"count": str(count)}))
                    revision = tx.append_change(f"e{who}", deployment(f"e{who}", count))
                    assert revision == count
                    revisions.append(revision)
            return revisions

        with ThreadPoolExecutor(8) as pool:
            revisions = [revision for done in pool.map(work, range(8)) for revision in done]
        assert sorted(revisions) == list(range(1, 201))
        with catalog.read() as snapshot:
            assert snapshot.model("m").tags == {"count": "200"}
            assert [change.revision for change in snapshot.changes(0, 1_000)] == list(range(1, 201))

    def test_a_watcher_beside_writers_misses_nothing(self, catalog: Catalog) -> None:
        """Going on from the last revision handled, it sees each one, in order, while four threads write."""

        def write(who: int) -> None:
            for number in range(25):
                with catalog.transaction() as tx:
                    tx.append_change(f"e{who}", deployment(f"e{who}", number))

        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(write, who) for who in range(4)]
            seen: list[int] = []
            while len(seen) < 100:
                last = seen[-1] if seen else 0
                assert catalog.wait_for_change(last, 30.0) > last
                with catalog.read() as snapshot:
                    seen += [change.revision for change in snapshot.changes(last, 7)]
            for writer in writers:
                writer.result(30)
        assert seen == list(range(1, 101))

    def test_migrating_again_changes_nothing(self, catalog: Catalog) -> None:
        """Every start does it."""
        add_model(catalog, "m", versions=1)
        catalog.migrate()
        with catalog.read() as snapshot:
            assert snapshot.version("m", 1)

    def test_closing_twice_is_fine(self, catalog: Catalog) -> None:
        """The end of a service may run more than once."""
        catalog.close()
        catalog.close()
