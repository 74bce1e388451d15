"""`GrpcRegistry` against the real service: what `core.ports.Registry` promises."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.registry_room import Room, open_room

from vedette.core.errors import Conflict, DataLoss, NotFound, Unavailable
from vedette.core.ports import Change, ReplicaReport, RepositoryEntry, Synced
from vedette.registry.client import GrpcRegistry


@pytest.fixture
async def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    async with open_room(tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture
async def client(room: Room) -> AsyncIterator[GrpcRegistry]:
    registry = GrpcRegistry(room.grpc)
    yield registry
    await registry.close()


async def take(registry: GrpcRegistry, after: int, count: int) -> list[Change | Synced]:
    """The first events of a watch."""
    found = []
    async with asyncio.timeout(10):
        events = registry.watch(after)
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
        await events.aclose()
    return found


async def test_a_watch_begins_with_what_stands_and_goes_on_with_what_happens(room: Room, client: GrpcRegistry) -> None:
    """Current state, Synced, then each change with its deployment complete."""
    await room.upload("m", details='{"signature": {"feature_names": ["a", "b", "c"], "categories": {"a": ["x", "y"]}}}')
    await asyncio.to_thread(room.desk.deployments.create_short, "m")
    events = client.watch(0)
    async with asyncio.timeout(10):
        first, synced = await anext(events), await anext(events)
        await asyncio.to_thread(room.desk.deployments.update_weights, "m", {"primary": 2.0})
        second = await anext(events)
        await asyncio.to_thread(room.desk.deployments.stop, "m")
        third = await anext(events)
    await events.aclose()
    assert isinstance(first, Change)
    assert first.deployment is not None
    version = room.desk.models.version("m", 1)
    assert first.deployment.versions == (version,)
    assert version.signature.categories == {"a": ("x", "y")}
    assert first.deployment.config == room.desk.deployments.generations("m", limit=9, page_token="")[0][1].config
    assert synced == Synced(1, whole=True)
    assert isinstance(second, Change)
    assert second.deployment is not None
    assert second.deployment.config.variants[0].weight == 2.0
    assert third == Change(3, "m", None)


async def test_a_watch_of_an_empty_registry_is_synced_at_once(client: GrpcRegistry) -> None:
    """Nothing to serve is a state too."""
    assert await take(client, 0, 1) == [Synced(0, whole=True)]


async def test_a_watcher_that_comes_back_gets_only_what_it_missed(room: Room, client: GrpcRegistry) -> None:
    """Revisions after the one handled, then Synced, which is not the whole."""
    await room.upload("m")
    await asyncio.to_thread(room.desk.deployments.create_short, "m")
    await take(client, 0, 2)
    await asyncio.to_thread(room.desk.deployments.stop, "m")
    assert await take(client, 1, 2) == [Change(2, "m", None), Synced(2)]


async def test_a_watcher_from_another_history_gets_everything(room: Room, client: GrpcRegistry) -> None:
    """A revision that this log never had means that the log is another one."""
    await room.upload("m")
    await asyncio.to_thread(room.desk.deployments.create_short, "m")
    change, synced = await take(client, 99, 2)
    assert isinstance(change, Change)
    assert synced == Synced(1, whole=True)


async def test_a_state_that_broke_off_is_asked_for_again(room: Room, client: GrpcRegistry) -> None:
    """Going on from the middle of a whole state would never tell what is not wanted any more."""
    for name in ("a", "b"):
        await room.upload(name)
        await asyncio.to_thread(room.desk.deployments.create_short, name)
    (first,) = await take(client, 0, 1)
    again = await take(client, first.revision, 3)
    assert [event.revision for event in again] == [1, 2, 2]
    assert again[-1] == Synced(2, whole=True)


async def test_reports_move_an_endpoint(room: Room, client: GrpcRegistry) -> None:
    """Ready from every replica is InService."""
    await room.upload("m")
    await asyncio.to_thread(room.desk.deployments.create_short, "m")
    await client.report(ReplicaReport("r1", "m", 1, "loading"))
    assert room.desk.deployments.get("m").status == "Creating"
    await client.report(ReplicaReport("r1", "m", 1, "ready"))
    assert room.desk.deployments.get("m").status == "InService"


async def test_what_was_reported_is_repeated_within_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that has nothing new to say stays alive for the registry."""
    async with open_room(tmp_path, monkeypatch, lease_s=0.3) as room:
        await room.upload("m")
        await asyncio.to_thread(room.desk.deployments.create_short, "m")
        client = GrpcRegistry(room.grpc)
        monkeypatch.setattr(client, "_interval_s", 0.05)
        await client.report(ReplicaReport("r1", "m", 1, "ready"))
        room.clock.advance(1000.0)
        async with asyncio.timeout(5):
            while not fresh(room):  # noqa: ASYNC110 - the repetition itself is what is waited for
                await asyncio.sleep(0.01)
        await client.close()


def fresh(room: Room) -> bool:
    """Whether the registry has heard of the endpoint since the clock moved."""
    with room.ports.catalog.read() as view:
        return bool(view.reports("m", since=room.clock.time() - 0.3))


async def test_a_fetch_brings_the_files(room: Room, client: GrpcRegistry, tmp_path: Path) -> None:
    """Every byte, over many chunks."""
    content = b"graph" + bytes(range(256)) * 4096
    await room.upload("m", content)
    folder = tmp_path / "fetched"
    folder.mkdir()
    await client.fetch(room.desk.models.version("m", 1), folder)
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    assert (folder / "model.onnx").read_bytes() == content


async def test_a_fetch_of_several_files(room: Room, client: GrpcRegistry, tmp_path: Path) -> None:
    """External data comes along under its own name."""
    upload = (await room.http.post("/v1/models/m/uploads")).json()["id"]
    for name, content in (("model.onnx", b"graph"), ("weights.data", b"w" * 600_000)):
        assert (await room.http.put(f"/v1/uploads/{upload}/files/{name}", content=content)).status_code == 204
    assert (await room.http.post(f"/v1/uploads/{upload}/commit", json={})).status_code == 201
    folder = tmp_path / "fetched"
    folder.mkdir()
    await client.fetch(room.desk.models.version("m", 1), folder)
    assert (
        hashlib.sha256((folder / "weights.data").read_bytes()).hexdigest() == hashlib.sha256(b"w" * 600_000).hexdigest()
    )


async def test_a_fetched_file_is_believed_only_by_its_digest(room: Room, client: GrpcRegistry, tmp_path: Path) -> None:
    """One flipped bit in the store is DataLoss here."""
    await room.upload("m", b"graph one")
    version = room.desk.models.version("m", 1)
    held = room.ports.artifacts._objects  # the memory store's own bytes
    files, _contents = held[version.digest]
    held[version.digest] = (files, {"model.onnx": b"graph onf"})
    folder = tmp_path / "fetched"
    folder.mkdir()
    with pytest.raises(DataLoss):
        await client.fetch(version, folder)


async def test_errors_are_rebuilt_from_their_code(room: Room, client: GrpcRegistry, tmp_path: Path) -> None:
    """A NotFound or Conflict over there is one here, with its words."""
    await room.upload("m")
    version = room.desk.models.version("m", 1)
    await asyncio.to_thread(room.desk.models.delete_version, "m", 1)
    with pytest.raises(NotFound, match="version 1"):
        await client.fetch(version, tmp_path)
    with pytest.raises(NotFound):
        await client.unload("nothing")
    with pytest.raises(Conflict, match="no version that may be deployed"):
        await client.load("m")


async def test_load_and_unload_move_desired_state(room: Room, client: GrpcRegistry) -> None:
    """Load deploys the model of that name; unload takes it out of service; load again puts it back."""
    await room.upload("m")
    await client.load("m")
    assert room.desk.deployments.get("m").config.variants[0].version == 1
    await client.unload("m")
    assert room.desk.deployments.get("m").status == "OutOfService"
    await client.load("m")
    assert room.desk.deployments.get("m").status == "Creating"


async def test_the_index_lists_endpoints_and_models(room: Room, client: GrpcRegistry) -> None:
    """Models that are not deployed are unavailable."""
    await room.upload("deployed")
    await room.upload("idle")
    await client.load("deployed")
    room.say("deployed", 1, "ready")
    assert await client.index() == [
        RepositoryEntry("deployed", "1", "READY"),
        RepositoryEntry("idle", "1", "UNAVAILABLE", "not deployed"),
    ]


async def test_a_registry_that_is_down_is_unavailable(tmp_path: Path) -> None:
    """Every method says so, none hangs."""
    client = GrpcRegistry("127.0.0.1:1")
    report = ReplicaReport("r", "m", 1, "ready")
    for call in (client.index(), client.load("m"), client.report(report), anext(client.watch(0))):
        with pytest.raises(Unavailable):
            await call
    await client.close()
    await client.close()


async def test_a_stopping_registry_ends_its_watches(room: Room, client: GrpcRegistry) -> None:
    """Unavailable, so that the replica looks for the registry again."""
    events = client.watch(0)
    await anext(events)
    room.service.drain()
    with pytest.raises(Unavailable):
        async with asyncio.timeout(10):
            await anext(events)
