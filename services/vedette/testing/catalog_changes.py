"""The contract of a catalog's log of changes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vedette.core.errors import InvalidArgument
from vedette.core.ports import Change, Deployment
from vedette.ports.catalog import Catalog, ChangeLog
from vedette.testing.catalog_suite import CatalogSuite
from vedette.testing.samples import deployment


def append(catalog: Catalog, endpoint: str, wanted: Deployment | None) -> int:
    """Append one change in a transaction of its own."""
    with catalog.transaction() as tx:
        return tx.append_change(endpoint, wanted)


class ChangeContract(CatalogSuite):
    """Revisions, desired state, compaction, waiting."""

    def test_revisions_count_up_without_a_gap(self, catalog: Catalog) -> None:
        """From 1, over endpoints and transactions, several in one transaction too."""
        with catalog.read() as snapshot:
            assert snapshot.log() == ChangeLog(oldest=1, newest=0)
            assert snapshot.changes(0, 10) == snapshot.desired(0, 10) == []
        assert append(catalog, "a", deployment("a")) == 1
        with catalog.transaction() as tx:
            assert [tx.append_change("b", None), tx.append_change("a", None)] == [2, 3]
        with catalog.read() as snapshot:
            assert snapshot.log() == ChangeLog(oldest=1, newest=3)

    def test_a_change_carries_the_whole_deployment(self, catalog: Catalog) -> None:
        """As it went in, versions with signature and all; or that the endpoint is not wanted."""
        wanted = deployment("grün", 7, version=3)
        append(catalog, "grün", wanted)
        append(catalog, "grün", None)
        with catalog.read() as snapshot:
            assert snapshot.changes(0, 10) == [Change(1, "grün", wanted), Change(2, "grün", None)]

    def test_changes_are_read_from_a_revision_on(self, catalog: Catalog) -> None:
        """In order, up to the limit; beyond the newest there is nothing."""
        for number in range(1, 6):
            append(catalog, "e", deployment("e", number))
        with catalog.read() as snapshot:
            assert [change.revision for change in snapshot.changes(1, 3)] == [2, 3, 4]
            assert [change.revision for change in snapshot.changes(4, 3)] == [5]
            assert snapshot.changes(5, 3) == snapshot.changes(10**30, 3) == []

    def test_a_revision_taken_in_vain_is_given_back(self, catalog: Catalog) -> None:
        """A transaction that fails leaves neither a change nor a gap."""

        def fail() -> None:
            with catalog.transaction() as tx:
                tx.append_change("e", deployment("e"))
                raise ZeroDivisionError

        append(catalog, "e", deployment("e"))
        with pytest.raises(ZeroDivisionError):
            fail()
        assert append(catalog, "e", None) == 2

    def test_desired_state_is_the_last_word_on_every_endpoint(self, catalog: Catalog) -> None:
        """In order of revision, in pages by revision; what is not wanted any more is not in it."""
        for name, wanted in (
            ("a", deployment("a", 1)), ("b", deployment("b", 1)), ("c", deployment("c", 1)),
            ("a", deployment("a", 2)), ("b", None), ("d", deployment("d", 1)),
        ):  # fmt: skip
            append(catalog, name, wanted)
        with catalog.read() as snapshot:
            desired = snapshot.desired(0, 10)
            assert [(c.revision, c.endpoint) for c in desired] == [(3, "c"), (4, "a"), (6, "d")]
            assert desired[1].deployment == deployment("a", 2)
            assert snapshot.desired(0, 2) + snapshot.desired(4, 2) == desired
        append(catalog, "b", deployment("b", 2))
        with catalog.read() as snapshot:
            assert [c.endpoint for c in snapshot.desired(0, 10)] == ["c", "a", "d", "b"]

    def test_the_log_does_not_grow_without_end(self, fresh_store: object) -> None:
        """Old changes go, the newest stay without a gap, and desired state is never lost."""
        catalog = self.open_catalog(kept_changes=10)
        catalog.migrate()
        append(catalog, "old", deployment("old"))
        append(catalog, "gone", deployment("gone"))
        append(catalog, "gone", None)
        for number in range(200):
            append(catalog, "busy", deployment("busy", number))
        with catalog.read() as snapshot:
            log = snapshot.log()
            kept = [change.revision for change in snapshot.changes(log.oldest - 1, 1_000)]
            everything = snapshot.changes(0, 1_000)
            desired = snapshot.desired(0, 1_000)
        catalog.close()
        assert log.newest == 203
        assert kept == list(range(log.oldest, 204))
        assert 10 <= len(kept) <= 20
        assert [change.endpoint for change in everything if change.revision < log.oldest] == ["old"]
        assert [(c.endpoint, c.deployment and c.deployment.generation) for c in desired] == [("old", 1), ("busy", 199)]

    def test_an_endpoint_may_come_back_after_its_end_was_forgotten(self, fresh_store: object) -> None:
        """Compaction leaves nothing that a later change of that endpoint stumbles over."""
        catalog = self.open_catalog(kept_changes=2)
        catalog.migrate()
        append(catalog, "gone", None)
        for number in range(10):
            append(catalog, "busy", deployment("busy", number))
        append(catalog, "gone", deployment("gone"))
        with catalog.read() as snapshot:
            assert [c.endpoint for c in snapshot.desired(0, 10)] == ["busy", "gone"]
        catalog.close()

    def test_a_deployment_that_no_database_keeps_is_refused(self, catalog: Catalog) -> None:
        """A change that cannot be stored everywhere is stored nowhere."""
        with pytest.raises(InvalidArgument):
            append(catalog, "e", deployment("e\0"))
        with catalog.read() as snapshot:
            assert snapshot.log().newest == 0

    def test_waiting_returns_at_once_when_there_is_news(self, catalog: Catalog) -> None:
        """Also for a watcher that is ahead of the log, as after a restored backup."""
        append(catalog, "e", deployment("e"))
        assert catalog.wait_for_change(0, 60.0) == 1
        assert catalog.wait_for_change(7, 60.0) == 1

    def test_waiting_in_vain_ends_in_time(self, catalog: Catalog) -> None:
        """And says where the log stands."""
        assert catalog.wait_for_change(0, 0.01) == 0

    def test_a_change_wakes_every_waiter_at_once(self, catalog: Catalog) -> None:
        """Long before its time is over; a transaction without a change wakes nobody for good."""
        with ThreadPoolExecutor(3) as pool:
            waiters = [pool.submit(catalog.wait_for_change, 0, 60.0) for _ in range(3)]
            began = time.monotonic()
            append(catalog, "e", deployment("e"))
            assert [waiter.result(30) for waiter in waiters] == [1, 1, 1]
            assert time.monotonic() - began < 10

    def test_closing_wakes_waiters(self, catalog: Catalog) -> None:
        """So that a service can stop."""
        ready = threading.Event()

        def wait() -> int:
            ready.set()
            return catalog.wait_for_change(0, 60.0)

        with ThreadPoolExecutor(1) as pool:
            waiter = pool.submit(wait)
            assert ready.wait(30)
            catalog.close()
            assert waiter.result(30) == 0
