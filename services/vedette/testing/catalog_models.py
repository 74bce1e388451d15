"""The contract of a catalog's models, versions, aliases and uploads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vedette.core.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from vedette.core.models import ApprovalStatus, Model, ModelRef, Upload
from vedette.ports.catalog import Catalog
from vedette.testing.catalog_suite import CatalogSuite, add_endpoint, add_model, all_pages
from vedette.testing.samples import endpoint, endpoint_config, model_version

TEXTS = ("", "plain", "grün 🐎 ' \" \\ % _ ; -- \\u0000", "a\nb\t\x01", "x" * 10_000)
"""Texts that come back as they went in."""

UNSTORABLE = ("a\0b", "\ud800")
"""Texts that not every database can hold, and so none is given."""


class ModelContract(CatalogSuite):
    """Models, versions, aliases, uploads."""

    @pytest.mark.parametrize("text", TEXTS)
    def test_a_model_comes_back_as_it_went_in(self, catalog: Catalog, text: str) -> None:
        """Any Unicode in descriptions and tags, and times to the fraction."""
        model = Model("m", 0, {}, {"team": text, text or "k": "v"}, text, 1_700_000_000.123456, 1_700_000_001.5)
        with catalog.transaction() as tx:
            tx.insert_model(model)
            assert tx.model("m") == model
        with catalog.read() as snapshot:
            assert snapshot.model("m") == model

    @pytest.mark.parametrize("text", UNSTORABLE)
    def test_text_that_no_database_keeps_is_refused(self, catalog: Catalog, text: str) -> None:
        """With one clear error, on every kind of catalog alike, and nothing is stored."""
        for tags, description in (({}, text), ({"k": text}, ""), ({text: "v"}, "")):
            with pytest.raises(InvalidArgument), catalog.transaction() as tx:
                tx.insert_model(Model("m", 0, tags=tags, description=description))
        add_model(catalog, "n")
        with pytest.raises(InvalidArgument), catalog.transaction() as tx:
            tx.insert_version(model_version("n", 1, metadata={"k": text}))
        with catalog.read() as snapshot:
            assert snapshot.model_count() == 1

    def test_latest_version_and_aliases_are_derived(self, catalog: Catalog) -> None:
        """They follow from what exists, whatever the record that was inserted said."""
        with catalog.transaction() as tx:
            tx.insert_model(Model("m", 9, {"stable": 4}))
            assert tx.model("m") == Model("m", 0)
        with catalog.transaction() as tx:
            for number in (1, 2):
                tx.insert_version(model_version("m", number))
            tx.set_alias("m", "champion", 1)
        with catalog.read() as snapshot:
            assert snapshot.model("m") == Model("m", 2, {"champion": 1})

    def test_a_model_name_is_taken_once(self, catalog: Catalog) -> None:
        """A second one is `AlreadyExists`; names differ by case."""
        add_model(catalog, "m")
        with pytest.raises(AlreadyExists):
            add_model(catalog, "m")
        add_model(catalog, "M")

    def test_updating_a_model_replaces_what_may_change(self, catalog: Catalog) -> None:
        """Description, tags and time of change; not its birth."""
        add_model(catalog, "m", versions=1)
        with catalog.transaction() as tx:
            tx.update_model(Model("m", 7, {"a": 1}, {"x": "1", "y": "2"}, "new", created_at=99.0, updated_at=50.0))
            tx.update_model(Model("m", 7, {"a": 1}, {"y": "3"}, "newer", created_at=99.0, updated_at=60.0))
        with catalog.read() as snapshot:
            assert snapshot.model("m") == Model("m", 1, {}, {"y": "3"}, "newer", 1.5, 60.0)

    def test_what_does_not_exist_is_not_found(self, catalog: Catalog) -> None:
        """In every method that takes one thing; numbers no database can hold included."""
        add_model(catalog, "m", versions=1)
        with catalog.transaction() as tx:
            attempts = (
                lambda: tx.model("x"),
                lambda: tx.update_model(Model("x", 0)),
                lambda: tx.delete_model("x"),
                lambda: tx.next_version("x"),
                lambda: tx.insert_version(model_version("x", 1)),
                lambda: tx.versions("x", limit=1),
                lambda: tx.version("x", 1),
                lambda: tx.version("m", 2),
                lambda: tx.version("m", 0),
                lambda: tx.version("m", -1),
                lambda: tx.version("m", 10**30),
                lambda: tx.update_version(model_version("m", 2)),
                lambda: tx.delete_version("m", 2),
                lambda: tx.set_alias("m", "champion", 2),
                lambda: tx.set_alias("x", "champion", 1),
                lambda: tx.delete_alias("m", "champion"),
                lambda: tx.upload("x"),
                lambda: tx.delete_upload("x"),
            )
            for attempt in attempts:
                with pytest.raises(NotFound):
                    attempt()
            assert tx.model("m").latest_version == 1

    def test_models_are_listed_by_name(self, catalog: Catalog) -> None:
        """In the order of their characters' numbers, page by page, nothing lost or repeated."""
        names = ["a.b", "B", "b-1", "a", "a_b", "Z9", "0", "ab"]
        for name in names:
            add_model(catalog, name, versions=1)
        with catalog.read() as snapshot:
            pages = all_pages(lambda token: snapshot.models(limit=3, after=token))
            assert [[model.name for model in page] for page in pages] == [
                ["0", "B", "Z9"], ["a", "a.b", "a_b"], ["ab", "b-1"],
            ]  # fmt: skip
            assert all(model == snapshot.model(model.name) for page in pages for model in page)
            assert snapshot.model_count() == 8

    def test_a_page_may_end_exactly_with_the_list(self, catalog: Catalog) -> None:
        """Then there is no next token, and no empty page after it."""
        for name in ("a", "b"):
            add_model(catalog, name)
        with catalog.read() as snapshot:
            assert snapshot.models(limit=2)[1] == ""

    def test_models_are_filtered_by_name_and_tags(self, catalog: Catalog) -> None:
        """Part of the name in any case, taken literally; all of the tags; both together."""
        with catalog.transaction() as tx:
            tx.insert_model(Model("Fraud_eu", 0, tags={"team": "risk", "tier": "1"}))
            tx.insert_model(Model("fraud-us", 0, tags={"team": "risk", "tier": "2"}))
            tx.insert_model(Model("churn", 0, tags={"team": "crm", "tier": "1"}))

            def found(name_contains: str = "", **tags: str) -> list[str]:
                return [m.name for m in tx.models(limit=10, name_contains=name_contains, tags=tags)[0]]

            assert found("FRAUD") == ["Fraud_eu", "fraud-us"]
            assert found("_") == ["Fraud_eu"]
            assert found("%") == found("*") == found("x" * 5_000) == []
            assert found(team="risk") == ["Fraud_eu", "fraud-us"]
            assert found(team="risk", tier="1") == ["Fraud_eu"]
            assert found("u", tier="1") == ["Fraud_eu", "churn"]
            assert found(team="1") == found(nothing="x") == []

    def test_filters_hold_over_pages(self, catalog: Catalog) -> None:
        """The next page goes on with the same filters."""
        for number in range(10):
            add_model(catalog, f"{'even' if number % 2 == 0 else 'odd'}{number}")
        with catalog.read() as snapshot:
            pages = all_pages(lambda token: snapshot.models(limit=2, after=token, name_contains="Even"))
        assert [model.name for page in pages for model in page] == ["even0", "even2", "even4", "even6", "even8"]

    @pytest.mark.parametrize("limit", [0, -1, 1_001, 10**30])
    def test_a_page_is_neither_empty_nor_endless(self, catalog: Catalog, limit: int) -> None:
        """Limits from 1 to 1,000, in every list."""
        add_model(catalog, "m", versions=1)
        add_endpoint(catalog, "e", "m", 1)
        with catalog.read() as snapshot:
            for fetch in (
                lambda: snapshot.models(limit=limit),
                lambda: snapshot.versions("m", limit=limit),
                lambda: snapshot.endpoints(limit=limit),
                lambda: snapshot.generations("e", limit=limit),
            ):
                with pytest.raises(InvalidArgument):
                    fetch()

    def test_a_token_belongs_to_its_list_and_filters(self, catalog: Catalog) -> None:
        """Used elsewhere, damaged or made up, it is refused."""
        for name in ("a", "b"):
            add_model(catalog, name, versions=2)
        with catalog.read() as snapshot:
            token = snapshot.models(limit=1)[1]
            assert [model.name for model in snapshot.models(limit=1, after=token)[0]] == ["b"]
            middle = len(token) // 2
            damaged = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
            for bad in (damaged, token[:-4], token + "AAAA", "b", "é", "=", "A" * 10_000, "\0", "../x", "' OR 1=1 --"):
                with pytest.raises(InvalidArgument):
                    snapshot.models(limit=1, after=bad)
            for fetch in (
                lambda: snapshot.models(limit=1, after=token, name_contains="b"),
                lambda: snapshot.models(limit=1, after=token, tags={"k": "v"}),
                lambda: snapshot.versions("a", limit=1, after=token),
                lambda: snapshot.versions("b", limit=1, after=snapshot.versions("a", limit=1)[1]),
                lambda: snapshot.endpoints(limit=1, after=token),
            ):
                with pytest.raises(InvalidArgument):
                    fetch()

    def test_deleting_a_model_takes_everything_of_it(self, catalog: Catalog) -> None:
        """Versions and aliases go; a new model of that name begins anew; others stay."""
        add_model(catalog, "m", versions=2)
        add_model(catalog, "other", versions=1)
        with catalog.transaction() as tx:
            tx.set_alias("m", "champion", 1)
            tx.delete_model("m")
            with pytest.raises(NotFound):
                tx.version("m", 1)
            assert [model.name for model in tx.models(limit=10)[0]] == ["other"]
        add_model(catalog, "m")
        with catalog.read() as snapshot:
            assert snapshot.model("m").latest_version == 0
            assert snapshot.model("m").aliases == {}
            assert snapshot.version("other", 1)

    def test_a_version_comes_back_as_it_went_in(self, catalog: Catalog) -> None:
        """Signature, files, admission, metadata: every field."""
        add_model(catalog, "m")
        version = model_version(
            "m", 1, description="grün", metadata={"auc": "0.9", "": "\u2028"}, status=ApprovalStatus.APPROVED
        )
        with catalog.transaction() as tx:
            tx.insert_version(version)
            assert tx.version("m", 1) == version
        with catalog.read() as snapshot:
            assert snapshot.version("m", 1) == version
            assert snapshot.versions("m", limit=10) == ([version], "")

    def test_a_version_is_inserted_once(self, catalog: Catalog) -> None:
        """A second one of that number is `AlreadyExists`, and the first stays as it is."""
        add_model(catalog, "m", versions=1)
        with pytest.raises(AlreadyExists), catalog.transaction() as tx:
            tx.insert_version(model_version("m", 1, content=b"other"))
        with catalog.read() as snapshot:
            assert snapshot.version("m", 1) == model_version("m", 1, content=b"graph 1")

    def test_updating_a_version_changes_only_what_may_change(self, catalog: Catalog) -> None:
        """Status, description and metadata; files and signature are immutable."""
        add_model(catalog, "m", versions=1)
        kept: dict[str, Any] = {"status": ApprovalStatus.REJECTED, "description": "d", "metadata": {"k": "v"}}
        changed = model_version("m", 1, content=b"forged", created_at=9.0, **kept)
        with catalog.transaction() as tx:
            before = tx.version("m", 1)
            tx.update_version(changed)
        after = replace(before, **kept)
        with catalog.read() as snapshot:
            assert snapshot.version("m", 1) == after

    def test_version_numbers_are_never_used_twice(self, catalog: Catalog) -> None:
        """Not even after the newest was deleted: who pinned 2 never gets other bytes as 2."""
        add_model(catalog, "m", versions=2)
        with catalog.transaction() as tx:
            tx.delete_version("m", 2)
            assert tx.model("m").latest_version == 1
            assert tx.next_version("m") == 3
            assert tx.next_version("m") == 4

    def test_a_number_taken_in_vain_is_given_back(self, catalog: Catalog) -> None:
        """A transaction that fails leaves no gap."""
        add_model(catalog, "m")

        def fail() -> None:
            with catalog.transaction() as tx:
                assert tx.next_version("m") == 1
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        with catalog.transaction() as tx:
            assert tx.next_version("m") == 1

    def test_versions_are_listed_newest_first(self, catalog: Catalog) -> None:
        """By number, not by its digits; page by page; by status when asked."""
        add_model(catalog, "m", versions=12)
        add_model(catalog, "other", versions=3)
        with catalog.transaction() as tx:
            for number in (2, 10, 11):
                tx.update_version(replace(tx.version("m", number), status=ApprovalStatus.APPROVED))
        with catalog.read() as snapshot:
            pages = all_pages(lambda token: snapshot.versions("m", limit=5, after=token))
            assert [[v.version for v in page] for page in pages] == [[12, 11, 10, 9, 8], [7, 6, 5, 4, 3], [2, 1]]
            approved = all_pages(
                lambda token: snapshot.versions("m", limit=2, after=token, status=ApprovalStatus.APPROVED)
            )
            assert [[v.version for v in page] for page in approved] == [[11, 10], [2]]

    def test_versions_are_found_by_their_files(self, catalog: Catalog) -> None:
        """Of one model, oldest first; and digests in use over all models."""
        for model in ("m", "other"):
            add_model(catalog, model)
        with catalog.transaction() as tx:
            for number, content in ((1, b"same"), (2, b"different"), (3, b"same")):
                tx.insert_version(model_version("m", number, content=content))
            tx.insert_version(model_version("other", 1, content=b"elsewhere"))
            same, elsewhere = tx.version("m", 1).digest, tx.version("other", 1).digest
            assert [version.version for version in tx.versions_with("m", same)] == [1, 3]
            assert tx.versions_with("m", elsewhere) == tx.versions_with("x", same) == []
            unused = [f"{number:064x}" for number in range(2_000)]
            assert tx.digests_in_use([*unused, same, elsewhere]) == {same, elsewhere}
            assert tx.digests_in_use([]) == set()
            tx.delete_version("other", 1)
            assert tx.digests_in_use([same, elsewhere]) == {same}

    def test_an_alias_points_at_one_version(self, catalog: Catalog) -> None:
        """Setting it again moves it; models have their own; deleting the version takes it along."""
        for model in ("m", "other"):
            add_model(catalog, model, versions=2)
        with catalog.transaction() as tx:
            tx.set_alias("m", "champion", 1)
            tx.set_alias("m", "champion", 2)
            tx.set_alias("m", "challenger", 1)
            tx.set_alias("other", "champion", 1)
            assert tx.model("m").aliases == {"challenger": 1, "champion": 2}
            tx.delete_version("m", 2)
            tx.delete_alias("other", "champion")
        with catalog.read() as snapshot:
            assert [model.aliases for model in snapshot.models(limit=10)[0]] == [{"challenger": 1}, {}]

    def test_what_an_endpoint_names_is_not_deleted(self, catalog: Catalog) -> None:
        """As variant, shadow or part of a pipeline; once the endpoint lets go, it can be."""
        add_model(catalog, "m", versions=3)
        add_model(catalog, "prep", versions=2)
        config = endpoint_config("m", 1, pipeline=(ModelRef("prep", 2), ModelRef("m", 1)))
        config = replace(config, shadow_variants=endpoint_config("m", 2).variants)
        with catalog.transaction() as tx:
            tx.insert_endpoint(endpoint("e", config))
            for model, number in (("m", 1), ("m", 2), ("prep", 2)):
                with pytest.raises(Conflict, match="endpoint e names it"):
                    tx.delete_version(model, number)
            for model in ("m", "prep"):
                with pytest.raises(Conflict):
                    tx.delete_model(model)
            tx.delete_version("m", 3)
            tx.delete_version("prep", 1)
            tx.update_endpoint(endpoint("e", endpoint_config("m", 1)))
            tx.delete_model("prep")
            tx.delete_version("m", 2)
            tx.delete_endpoint("e")
            tx.delete_model("m")

    def test_uploads_are_kept_and_expire(self, catalog: Catalog) -> None:
        """Oldest first; those whose time is over can be asked for."""
        late, early = Upload("u2", "m", 20.0, 120.0), Upload("u1", "m", 10.0, 110.0)
        with catalog.transaction() as tx:
            tx.insert_upload(late)
            tx.insert_upload(early)
            with pytest.raises(AlreadyExists):
                tx.insert_upload(early)
        with catalog.transaction() as tx:
            assert tx.upload("u1") == early
            assert tx.uploads() == [early, late]
            assert tx.uploads(expired_at=109.0) == []
            assert tx.uploads(expired_at=110.0) == [early]
            tx.delete_upload("u1")
            assert tx.uploads() == [late]
