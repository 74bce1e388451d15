"""The contract of a catalog's endpoints, their history and the reports of replicas."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vedette.core.errors import AlreadyExists, InvalidArgument, NotFound
from vedette.core.models import (
    CaptureSettings,
    DynamicBatching,
    EndpointConfig,
    EndpointStatus,
    Generation,
    Limits,
    ModelRef,
    QueuePolicy,
    SessionOptions,
    Variant,
)
from vedette.core.ports import ReplicaReport
from vedette.ports.catalog import Catalog
from vedette.testing.catalog_suite import CatalogSuite, add_endpoint, add_model, all_pages
from vedette.testing.samples import endpoint, endpoint_config


class EndpointContract(CatalogSuite):
    """Endpoints, generations, reports."""

    def test_an_endpoint_comes_back_as_it_went_in(self, catalog: Catalog) -> None:
        """Every field of its configuration, down to the session options."""
        add_model(catalog, "m", versions=2)
        add_model(catalog, "prep", versions=1)
        options = SessionOptions(("CPUExecutionProvider",), 4, 2, "basic")
        config = EndpointConfig(
            "m",
            (Variant("a", 1, 0.25, (ModelRef("prep", 1), ModelRef("m", 1)), options), Variant("b", 2, 0.0)),
            (Variant("s", 2),),
            Limits(8, 16, 2.5),
            CaptureSettings(12.5, inputs=False, outputs=True, mode="strict", exclude=("name", "grün")),
            DynamicBatching(
                max_batch_size=8,
                preferred_batch_size=(2, 4),
                max_queue_delay_microseconds=100,
                priority_levels=2,
                default_priority_level=1,
                priority_queue_policy={2: QueuePolicy("DELAY", 5, allow_timeout_override=True, max_queue_size=3)},
                bucket_sizes=(8,),
            ),
        )
        given = replace(
            endpoint("e", config), generation=3, status=EndpointStatus.FAILED, reason="no", serving=False,
            serving_generation=2, updated_at=5.5,
        )  # fmt: skip
        with catalog.transaction() as tx:
            tx.insert_endpoint(given)
            assert tx.endpoint("e") == given
        with catalog.read() as snapshot:
            assert snapshot.endpoint("e") == given
            assert snapshot.endpoints(limit=1) == ([given], "")

    def test_updating_an_endpoint_keeps_only_its_birth(self, catalog: Catalog) -> None:
        """Everything else is replaced."""
        add_model(catalog, "m", versions=2)
        add_endpoint(catalog, "e", "m", 1)
        changed = replace(
            endpoint("e", endpoint_config("m", 2)), generation=2, status=EndpointStatus.IN_SERVICE, reason="r",
            serving=False, serving_generation=1, created_at=0.0, updated_at=77.0,
        )  # fmt: skip
        with catalog.transaction() as tx:
            born = tx.endpoint("e").created_at
            tx.update_endpoint(changed)
        with catalog.read() as snapshot:
            assert snapshot.endpoint("e") == replace(changed, created_at=born)

    def test_an_endpoint_name_is_taken_once(self, catalog: Catalog) -> None:
        """A second one is `AlreadyExists`."""
        add_model(catalog, "m", versions=1)
        add_endpoint(catalog, "e", "m", 1)
        with pytest.raises(AlreadyExists):
            add_endpoint(catalog, "e", "m", 1)

    def test_what_does_not_exist_is_not_found(self, catalog: Catalog) -> None:
        """In every method that takes one thing."""
        add_model(catalog, "m", versions=1)
        add_endpoint(catalog, "e", "m", 1)
        config = endpoint_config("m", 1)
        with catalog.transaction() as tx:
            attempts = (
                lambda: tx.endpoint("x"),
                lambda: tx.update_endpoint(endpoint("x", config)),
                lambda: tx.delete_endpoint("x"),
                lambda: tx.generation("e", 1),
                lambda: tx.generation("e", 10**30),
                lambda: tx.generations("x", limit=1),
                lambda: tx.insert_generation(Generation("x", 1, config)),
                lambda: tx.put_report(ReplicaReport("r", "x", 1, "ready"), at=1.0),
            )
            for attempt in attempts:
                with pytest.raises(NotFound):
                    attempt()
            assert tx.reports("x") == []

    def test_an_endpoint_names_only_versions_that_exist(self, catalog: Catalog) -> None:
        """In variants, shadows and pipelines; what it named before stays named."""
        add_model(catalog, "m", versions=1)
        add_endpoint(catalog, "e", "m", 1)
        bad = (
            endpoint_config("m", 2),
            endpoint_config("m", 1, pipeline=(ModelRef("m", 1), ModelRef("nobody", 1))),
            replace(endpoint_config("m", 1), shadow_variants=endpoint_config("m", 9).variants),
        )
        for config in bad:
            with catalog.transaction() as tx:
                with pytest.raises(NotFound):
                    tx.insert_endpoint(endpoint("f", config))
                with pytest.raises(NotFound):
                    tx.update_endpoint(endpoint("e", config))
        with catalog.read() as snapshot:
            assert snapshot.endpoints_naming("m") == ["e"]
            assert snapshot.endpoint("e").config == endpoint_config("m", 1)

    def test_endpoints_are_found_by_what_they_name(self, catalog: Catalog) -> None:
        """By model, by version, through pipelines; an update moves them."""
        add_model(catalog, "m", versions=2)
        add_model(catalog, "prep", versions=1)
        add_endpoint(catalog, "b", "m", 1)
        add_endpoint(catalog, "a", "m", 1, 2)
        with catalog.transaction() as tx:
            piped = endpoint_config("m", 2, pipeline=(ModelRef("prep", 1), ModelRef("m", 2)))
            tx.insert_endpoint(endpoint("p", piped))
            assert tx.endpoints_naming("m") == ["a", "b", "p"]
            assert tx.endpoints_naming("m", 1) == ["a", "b"]
            assert tx.endpoints_naming("prep", 1) == ["p"]
            assert tx.endpoints_naming("m", 10**30) == tx.endpoints_naming("x") == []
            tx.update_endpoint(endpoint("a", endpoint_config("m", 2)))
            assert tx.endpoints_naming("m", 1) == ["b"]
            tx.delete_endpoint("b")
            assert tx.endpoints_naming("m", 1) == []

    def test_endpoints_are_listed_and_filtered(self, catalog: Catalog) -> None:
        """By name, page by page; by model, status and part of the name."""
        for model in ("m", "n"):
            add_model(catalog, model, versions=1)
        for name, model in (("B", "m"), ("a1", "m"), ("a2", "n"), ("a_3", "m")):
            add_endpoint(catalog, name, model, 1)
        with catalog.transaction() as tx:
            tx.update_endpoint(replace(tx.endpoint("a1"), status=EndpointStatus.IN_SERVICE))
        with catalog.read() as snapshot:

            def names(**filters: object) -> list[list[str]]:
                pages = all_pages(lambda token: snapshot.endpoints(limit=2, after=token, **filters))  # type: ignore[arg-type]
                return [[item.name for item in page] for page in pages]

            assert names() == [["B", "a1"], ["a2", "a_3"]]
            assert names(model="m") == [["B", "a1"], ["a_3"]]
            assert names(status=EndpointStatus.IN_SERVICE) == [["a1"]]
            assert names(name_contains="A") == [["a1", "a2"], ["a_3"]]
            assert names(name_contains="_") == [["a_3"]]
            assert names(model="n", status=EndpointStatus.FAILED) == [[]]
            token = snapshot.endpoints(limit=1)[1]
            with pytest.raises(InvalidArgument):
                snapshot.endpoints(limit=1, after=token, model="m")

    def test_endpoints_are_counted_by_status(self, catalog: Catalog) -> None:
        """A status that none has is absent."""
        add_model(catalog, "m", versions=1)
        for name in ("a", "b", "c"):
            add_endpoint(catalog, name, "m", 1)
        with catalog.transaction() as tx:
            tx.update_endpoint(replace(tx.endpoint("a"), status=EndpointStatus.FAILED))
        with catalog.read() as snapshot:
            assert snapshot.endpoint_counts() == {EndpointStatus.CREATING: 2, EndpointStatus.FAILED: 1}

    def test_history_is_kept_newest_first(self, catalog: Catalog) -> None:
        """Every generation with its configuration and cause; each number once; gone with the endpoint."""
        add_model(catalog, "m", versions=12)
        for name in ("e", "f"):
            add_endpoint(catalog, name, "m", 1)
        history = [Generation("e", n, endpoint_config("m", n), f"cause {n}", n - 1, float(n)) for n in range(1, 13)]
        with catalog.transaction() as tx:
            for generation in history:
                tx.insert_generation(generation)
            tx.insert_generation(Generation("f", 1, endpoint_config("m", 1)))
            with pytest.raises(AlreadyExists):
                tx.insert_generation(history[4])
        with catalog.transaction() as tx:
            pages = all_pages(lambda token: tx.generations("e", limit=5, after=token))
            assert [item for page in pages for item in page] == history[::-1]
            assert tx.generation("e", 11) == history[10]
            tx.delete_endpoint("e")
            with pytest.raises(NotFound):
                tx.generation("e", 11)
            assert tx.generation("f", 1)
        add_endpoint(catalog, "e", "m", 1)
        with catalog.read() as snapshot:
            assert snapshot.generations("e", limit=5) == ([], "")

    def test_the_last_report_of_each_replica_counts(self, catalog: Catalog) -> None:
        """By replica; old ones can be left out and forgotten; gone with the endpoint."""
        add_model(catalog, "m", versions=1)
        for name in ("e", "f"):
            add_endpoint(catalog, name, "m", 1)
        loading, ready = (ReplicaReport("r1", "e", 1, state) for state in ("loading", "ready"))
        failed = ReplicaReport("r0", "e", 1, "failed", "out of memory: grün")
        elsewhere = ReplicaReport("r1", "f", 1, "ready")
        with catalog.transaction() as tx:
            for at, report in ((10.0, loading), (20.0, failed), (30.0, ready), (30.0, elsewhere)):
                tx.put_report(report, at=at)
        with catalog.transaction() as tx:
            assert tx.reports("e") == [failed, ready]
            assert tx.reports("e", since=20.5) == [ready]
            assert tx.forget_reports(before=20.5) == 1
            assert tx.forget_reports(before=20.5) == 0
            assert tx.reports("e") == [ready]
            tx.delete_endpoint("e")
            assert tx.reports("e") == []
            assert tx.reports("f") == [elsewhere]
