"""Models, versions and aliases through the HTTP routes and the domain beneath them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.registry_room import Room, open_room

from vedette.core.errors import Conflict, NotFound, Unavailable
from vedette.registry.models import Candidate
from vedette.registry.versions import Details


@pytest.fixture
async def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    async with open_room(tmp_path, monkeypatch) as opened:
        yield opened


async def test_versions_count_up_and_are_pending(room: Room) -> None:
    """1, 2, 3, and nobody has approved them yet."""
    versions = [await room.upload("m", f"graph {n}".encode()) for n in range(3)]
    assert [version["version"] for version in versions] == [1, 2, 3]
    assert {version["status"] for version in versions} == {"PendingManualApproval"}
    assert room.desk.models.get("m").latest_version == 3


async def test_the_same_bytes_and_signature_are_the_same_version(room: Room) -> None:
    """200 and the old one; another signature on the same bytes is a version of its own."""
    first = await room.http.post("/v1/models/m/versions", content=b"graph")
    again = await room.http.post("/v1/models/m/versions", content=b"graph")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    other = await room.upload("m", b"graph", '{"signature": {"target": "sold"}}')
    assert other["version"] == 2
    assert other["digest"] == first.json()["digest"]


async def test_what_is_said_again_of_the_same_bytes_is_kept(room: Room) -> None:
    """Metadata key by key and a description where one is given; what is not mentioned stays."""
    await room.upload("m", b"graph", json.dumps({"metadata": {"run": "1", "by": "me"}, "description": "first"}))
    again = await room.upload("m", b"graph", json.dumps({"metadata": {"run": "2"}, "tags": {"team": "risk"}}))
    assert (again["version"], again["metadata"], again["description"]) == (1, {"run": "2", "by": "me"}, "first")
    assert (await room.upload("m", b"graph", json.dumps({"description": "second"})))["description"] == "second"
    kept = room.desk.models.version("m", 1)
    assert (kept.metadata, kept.description) == ({"run": "2", "by": "me"}, "second")
    assert room.desk.models.get("m").tags == {"team": "risk"}
    many = json.dumps({"metadata": {f"k{n}": "" for n in range(64)}, "description": "third"})
    answer = await room.http.post("/v1/models/m/versions", content=b"graph", params={"details": many})
    assert answer.status_code == 400
    assert room.desk.models.version("m", 1) == kept


async def test_a_number_is_never_used_twice(room: Room) -> None:
    """Not even after the version is deleted."""
    await room.upload("m", b"graph 1")
    assert (await room.http.delete("/v1/models/m/versions/1")).status_code == 204
    assert (await room.upload("m", b"graph 1"))["version"] == 2


async def test_details_reach_the_version_and_tags_the_model(room: Room) -> None:
    """Metadata and description are the version's; tags are added to the model's."""
    details = {"metadata": {"run": "7"}, "description": "first", "tags": {"team": "risk"}}
    version = await room.upload("m", b"graph 1", json.dumps(details))
    assert (version["metadata"], version["description"]) == ({"run": "7"}, "first")
    await room.upload("m", b"graph 2", json.dumps({"tags": {"stage": "dev"}}))
    assert room.desk.models.get("m").tags == {"team": "risk", "stage": "dev"}


async def test_approval_and_notes_can_change_and_nothing_else(room: Room) -> None:
    """Status, metadata and description; an unknown key or status is refused."""
    await room.upload("m")
    changed = await room.http.patch("/v1/models/m/versions/1", json={"status": "Approved", "metadata": {"a": "b"}})
    assert (changed.json()["status"], changed.json()["metadata"]) == ("Approved", {"a": "b"})
    for document in ({"digest": "0"}, {"status": "Splendid"}, {"metadata": {"a": 1}}, []):
        assert (await room.http.patch("/v1/models/m/versions/1", json=document)).status_code == 400


async def test_a_deployed_version_is_neither_deleted_nor_rejected(room: Room) -> None:
    """The Conflict names the endpoint, for the model too; what served before an update is still deployed."""
    await room.upload("m", b"graph 1")
    await room.upload("m", b"graph 2")
    await room.http.post("/v1/endpoints", json={"name": "e", "model": "m", "version": 1})
    room.say("e", 1, "ready")
    config = {"model": "m", "variants": [{"name": "primary", "version": 2}]}
    await room.http.put("/v1/endpoints/e", json={"config": config})
    for path in ("/v1/models/m/versions/1", "/v1/models/m/versions/2", "/v1/models/m"):
        refused = await room.http.delete(path)
        assert refused.status_code == 409
        assert "endpoint 'e'" in refused.json()["detail"]
    refused = await room.http.patch("/v1/models/m/versions/2", json={"status": "Rejected"})
    assert refused.status_code == 409
    room.say("e", 2, "ready")
    assert (await room.http.delete("/v1/models/m/versions/1")).status_code == 204


async def test_a_version_in_a_pipeline_or_shadow_is_deployed(room: Room) -> None:
    """Under whatever name it stands in the configuration."""
    await room.upload("m", b"wide m")
    await room.upload("p", b"wide p")
    await room.upload("m", b"wide shadow")
    pipeline = [{"model": "p", "version": 1}, {"model": "m", "version": 1}]
    config = {
        "model": "m",
        "variants": [{"name": "a", "version": 1, "pipeline": pipeline}],
        "shadow_variants": [{"name": "s", "version": 2}],
    }
    made = await room.http.post("/v1/endpoints", json={"name": "e", "config": config})
    assert made.status_code == 201, made.text
    for path in ("/v1/models/p", "/v1/models/p/versions/1", "/v1/models/m/versions/2"):
        assert (await room.http.delete(path)).status_code == 409


async def test_deleting_removes_files_that_nobody_else_names(room: Room) -> None:
    """Two models with the same bytes share them until both are gone."""
    digest = (await room.upload("a"))["digest"]
    await room.upload("b")
    await asyncio.to_thread(room.desk.models.delete_version, "a", 1)
    assert room.ports.artifacts.holds(digest)
    await asyncio.to_thread(room.desk.models.delete, "b")
    assert not room.ports.artifacts.holds(digest)
    with pytest.raises(NotFound):
        room.desk.models.get("b")


async def test_a_version_whose_files_are_gone_is_not_registered(room: Room) -> None:
    """Between the files and the transaction somebody may have cleared up."""
    await room.upload("m")
    version = room.desk.models.version("m", 1)
    candidate = Candidate("n", version.files, version.signature, version.admission, Details())
    await asyncio.to_thread(room.desk.models.delete, "m")
    with pytest.raises(Unavailable, match="send them again"):
        room.desk.models.register(candidate)
    with pytest.raises(NotFound):
        room.desk.models.get("n")


async def test_a_start_clears_files_without_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that died between putting files and registering them leaves no trace."""
    async with open_room(tmp_path, monkeypatch) as room:
        kept = (await room.upload("m"))["digest"]
        upload = await room.desk.uploads.begin("m")
        with room.ports.artifacts.create(upload.id, "model.onnx") as file:
            file.write(b"orphan")
            file.finish()
        from vedette.core.models import manifest_digest

        orphan = manifest_digest(room.ports.artifacts.staged_files(upload.id))
        room.ports.artifacts.put(orphan, upload.id)
        room.desk.models.drop_orphans()
        assert list(room.ports.artifacts.digests()) == [kept]


async def test_aliases_move_and_go(room: Room) -> None:
    """An alias points at one version at a time, which must exist."""
    await room.upload("m", b"graph 1")
    await room.upload("m", b"graph 2")
    for version in (1, 2):
        moved = await room.http.put("/v1/models/m/aliases/champion", json={"version": version})
        assert moved.json()["aliases"] == {"champion": version}
    assert (await room.http.put("/v1/models/m/aliases/champion", json={"version": 9})).status_code == 404
    assert (await room.http.put("/v1/models/m/aliases/a%2Fb", json={"version": 1})).status_code in {400, 404}
    assert (await room.http.delete("/v1/models/m/aliases/champion")).status_code == 204
    assert (await room.http.delete("/v1/models/m/aliases/champion")).status_code == 404
    assert room.desk.models.get("m").aliases == {}


async def test_models_are_made_changed_and_listed(room: Room) -> None:
    """Paging by name, filters by part of the name and by tags that must all hold."""
    for name in ("alpha", "beta", "gamma"):
        tags = {"team": "risk", "first": name[0]}
        assert (await room.http.post("/v1/models", json={"name": name, "tags": tags})).status_code == 201
    assert (await room.http.post("/v1/models", json={"name": "beta"})).status_code == 409
    page = (await room.http.get("/v1/models", params={"limit": 2})).json()
    assert [model["name"] for model in page["items"]] == ["alpha", "beta"]
    rest = (await room.http.get("/v1/models", params={"limit": 2, "page_token": page["next_page_token"]})).json()
    assert ([model["name"] for model in rest["items"]], rest["next_page_token"]) == (["gamma"], "")
    found = (await room.http.get("/v1/models", params={"tag": ["team=risk", "first=b"]})).json()
    assert [model["name"] for model in found["items"]] == ["beta"]
    found = (await room.http.get("/v1/models", params={"name_contains": "MM"})).json()
    assert [model["name"] for model in found["items"]] == ["gamma"]
    changed = await room.http.patch("/v1/models/beta", json={"description": "second"})
    assert (changed.json()["description"], changed.json()["tags"]["team"]) == ("second", "risk")
    assert (await room.http.patch("/v1/models/beta", json={"tags": {}})).json()["tags"] == {}


async def test_versions_are_listed_newest_first(room: Room) -> None:
    """With paging and by status."""
    for n in range(3):
        await room.upload("m", f"graph {n}".encode())
    await room.http.patch("/v1/models/m/versions/2", json={"status": "Approved"})
    page = (await room.http.get("/v1/models/m/versions", params={"limit": 2})).json()
    assert [version["version"] for version in page["items"]] == [3, 2]
    approved = (await room.http.get("/v1/models/m/versions", params={"status": "Approved"})).json()
    assert [version["version"] for version in approved["items"]] == [2]
    assert (await room.http.get("/v1/models/nothing/versions")).status_code == 404


async def test_what_happened_is_told_on_the_stream_after_it_is_kept(room: Room) -> None:
    """CloudEvents in order, with a sequence that shows a gap."""
    await room.upload("m")
    await room.http.patch("/v1/models/m/versions/1", json={"status": "Approved"})
    await room.http.post("/v1/endpoints", json={"name": "m"})
    room.say("m", 1, "ready")
    async with asyncio.timeout(5):
        await room.ports.stream.wait("lifecycle", 3, 5.0)
    messages = await room.events()
    events = [json.loads(message.value) for message in messages]
    assert [event["type"] for event in events] == [
        "vedette.model.registered",
        "vedette.model.status",
        "vedette.endpoint.changed",
        "vedette.endpoint.changed",
    ]
    assert [event["data"].get("status") for event in events] == [None, "Approved", "Creating", "InService"]
    assert all(event["specversion"] == "1.0" and event["subject"] == "m" and event["id"] for event in events)
    assert [message.sequence for message in messages] == [1, 2, 3, 4]
    assert {message.content_type for message in messages} == {"application/cloudevents+json"}


async def test_the_registry_counts_itself(room: Room) -> None:
    """Gauges of models and endpoints by status."""
    await room.upload("m")
    await room.http.post("/v1/endpoints", json={"name": "m"})
    async with asyncio.timeout(5):
        while not room.metrics.value("vedette_registry_endpoints", status="Creating"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert room.metrics.value("vedette_registry_models") == 1
    assert room.metrics.value("vedette_admissions_total", outcome="admitted") == 1


async def test_a_conflict_is_not_a_race(room: Room) -> None:
    """Deploying and deleting the same version at once: exactly one of them happens."""
    for n in range(10):
        name = f"m{n}"
        await room.upload(name)
        deploy = asyncio.to_thread(room.desk.deployments.create_short, name)
        delete = asyncio.to_thread(room.desk.models.delete_version, name, 1)
        done = await asyncio.gather(deploy, delete, return_exceptions=True)
        refused = [outcome for outcome in done if isinstance(outcome, Conflict | NotFound)]
        assert len(refused) == 1, done
