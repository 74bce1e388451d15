"""Memory and SQLite, fed the same random story, give the same answers and the same errors throughout."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.core.errors import VedetteError
from vedette.core.models import EndpointStatus, Generation, Model, ModelRef, Upload
from vedette.core.ports import ReplicaReport
from vedette.ports.catalog import Catalog, CatalogSnapshot, CatalogTransaction
from vedette.storage.memory import MemoryCatalog
from vedette.storage.sql import SqlCatalog
from vedette.testing.samples import baseline, deployment, endpoint, endpoint_config, model_version

name = st.sampled_from(["a", "A", "b.c"])
number = st.integers(1, 4)
contents = st.sampled_from([b"", b"\0", b"\1"])
Step = tuple[str, Callable[[CatalogTransaction], Any]]


def step(method: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    """A call of one method of a transaction."""
    return st.tuples(*arguments).map(lambda given: (method, lambda tx: getattr(tx, method)(*given)))


configs = st.builds(
    lambda model, version, other, pinned: endpoint_config(
        model, version, pipeline=(ModelRef(model, version), ModelRef(other, pinned)) if other != model else ()
    ),
    name, number, name, number,
)  # fmt: skip
wanted_endpoints = st.builds(
    lambda who, config, status, generation: replace(endpoint(who, config, status=status), generation=generation),
    name, configs, st.sampled_from(list(EndpointStatus)), number,
)  # fmt: skip
steps = st.one_of(
    step("insert_model", st.builds(lambda n, tag: Model(n, 0, tags={"t": tag}), name, name)),
    step("update_model", st.builds(lambda n, tag: Model(n, 0, tags={"t": tag, "u": ""}), name, name)),
    step("delete_model", name),
    step("next_version", name),
    step("insert_version", st.builds(lambda n, v, c: model_version(n, v, content=c), name, number, contents)),
    step("update_version", st.builds(lambda n, v, d: model_version(n, v, description=d), name, number, name)),
    step("delete_version", name, number),
    step("set_alias", name, name, number),
    step("delete_alias", name, name),
    step("put_baseline", st.builds(lambda n, v, b, c: baseline(n, v, b, content=c), name, number, name, contents)),
    step("delete_baseline", name, number, name),
    step("insert_endpoint", wanted_endpoints),
    step("update_endpoint", wanted_endpoints),
    step("delete_endpoint", name),
    step("insert_generation", st.builds(Generation, name, number, configs, name, number)),
    step("append_change", name, st.one_of(st.none(), st.builds(deployment, name, number))),
    step("insert_upload", st.builds(Upload, name, name, number.map(float), number.map(float))),
    step("delete_upload", name),
    st.builds(
        lambda r, e, g, at: ("put_report", lambda tx: tx.put_report(ReplicaReport(r, e, g, "ready"), at=float(at))),
        name, name, number, number,
    ),
    number.map(lambda at: ("forget_reports", lambda tx: tx.forget_reports(before=float(at)))),
)  # fmt: skip


def outcome(act: Callable[[], Any]) -> tuple[str, Any]:
    """What a call gives: a value, or the kind of error with its message."""
    try:
        return "value", act()
    except VedetteError as error:
        return error.code, error.message


def play(catalog: Catalog, story: list[list[Step]], failing: set[int]) -> list[Any]:
    """Run each list of steps as a transaction, those in `failing` up to an exception; return all outcomes."""
    told: list[Any] = []

    def transact(index: int, transaction: list[Step]) -> None:
        with catalog.transaction() as tx:
            told.extend((method, outcome(lambda act=act: act(tx))) for method, act in transaction)  # type: ignore[misc]
            told.append(everything(tx))
            if index in failing:
                raise ZeroDivisionError

    for index, transaction in enumerate(story):
        try:
            transact(index, transaction)
        except ZeroDivisionError:
            told.append("rolled back")
        with catalog.read() as snapshot:
            told.append(everything(snapshot))
    return told


def everything(snapshot: CatalogSnapshot) -> list[Any]:
    """All that a snapshot can say about the few names of these stories."""
    names = ("a", "A", "b.c")
    digests = [model_version("a", 1, content=bytes(content)).digest for content in ([], [0], [1])]
    digests += [baseline("a", 1, "a", content=bytes(content)).digest for content in ([], [0], [1])]
    about = [snapshot.models(limit=2), snapshot.models(limit=9, tags={"t": "a"}), snapshot.endpoints(limit=2)]
    about += [snapshot.endpoints(limit=9, model=n) for n in names] + [snapshot.reports(n, since=2.0) for n in names]
    for n in names:
        about += [outcome(lambda n=n: snapshot.versions(n, limit=2))]  # type: ignore[misc]
        about += [outcome(lambda n=n: snapshot.generations(n, limit=2))]  # type: ignore[misc]
        about += [outcome(lambda n=n, v=v: snapshot.baselines(n, v, limit=2)) for v in (1, 2)]  # type: ignore[misc]
        about += [snapshot.endpoints_naming(n), snapshot.endpoints_naming(n, 2), snapshot.versions_with(n, digests[0])]
    about += [snapshot.uploads(), snapshot.uploads(expired_at=2.0), snapshot.digests_in_use(digests)]
    about += [snapshot.log(), snapshot.changes(0, 99), snapshot.changes(3, 2), snapshot.desired(0, 99)]
    return [*about, snapshot.model_count(), snapshot.endpoint_counts()]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(steps, max_size=8), min_size=1, max_size=8), st.sets(st.integers(0, 7), max_size=2))
def test_memory_and_sqlite_tell_the_same_story(story: list[list[Step]], failing: set[int]) -> None:
    """Values, errors with their words, pages with their tokens, rollbacks and compaction."""
    with tempfile.TemporaryDirectory() as folder:
        memory, sqlite = MemoryCatalog(kept_changes=3), SqlCatalog(f"sqlite:///{folder}/a.db", kept_changes=3)
        for catalog in (memory, sqlite):
            catalog.migrate()
        try:
            assert play(sqlite, story, failing) == play(memory, story, failing)
        finally:
            sqlite.close()
