"""Baselines in the registry: kept whole, replaced whole, gone with their version; over HTTP, gRPC and the client."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.registry_room import Room, open_room

from vedette.core.errors import Conflict, DataLoss, InvalidArgument, NotFound, Overloaded, TooLarge, Unavailable
from vedette.core.models import Signature, Upload, manifest_digest
from vedette.entities.monitors import CONSTRAINTS_FILE, PROFILE_FILE, STATISTICS_FILE
from vedette.ports.baselines import ANALYSIS_FILE, QUALITY_CONSTRAINTS_FILE, QUALITY_STATISTICS_FILE
from vedette.ports.baselines import Baselines as BaselinesPort
from vedette.proto.registry.v1 import registry_pb2 as pb
from vedette.proto.registry.v1.registry_pb2_grpc import RegistryServiceStub
from vedette.registry.baselines import BaselineDraft
from vedette.registry.client import GrpcRegistry
from vedette.testing.baselines import BaselinesContract, baseline_files, measured_files
from vedette.testing.registry import MemoryRegistry, artifact_file

PATH = "/v1/models/m/versions/1/baselines"
JSON = {"content-type": "application/json"}


@pytest.fixture
async def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    async with open_room(tmp_path, monkeypatch, max_baseline_bytes=2_000_000) as opened:
        await opened.upload("m", b"graph 1")
        await opened.upload("m", b"graph 2")
        yield opened


def draft(name: str = "default", *, version: int = 1, **fields: Any) -> BaselineDraft:
    """A baseline of version 1 of `m`."""
    given: dict[str, Any] = {"rows": 4, "columns": 1, "files": baseline_files()}
    return BaselineDraft("m", version, name, **{**given, **fields})


def artifacts(room: Room) -> set[str]:
    """Every artifact that the registry holds."""
    return set(room.ports.artifacts.digests())


class TestGrpcRegistry(BaselinesContract):
    """The client of the real service."""

    @pytest.fixture
    async def baselines(self, room: Room) -> AsyncIterator[BaselinesPort]:
        client = GrpcRegistry(room.grpc)
        yield client
        await client.close()


class TestMemoryRegistry(BaselinesContract):
    """The twin that other services' tests run on."""

    @pytest.fixture
    def baselines(self) -> BaselinesPort:
        twin = MemoryRegistry()
        for version in (1, 2):
            twin.add_version("m", version, {"model.onnx": b"graph %d" % version}, signature=Signature((), ()))
        return twin

    async def test_it_can_break(self, baselines: MemoryRegistry) -> None:
        """Bytes that changed are `DataLoss`, and a registry that is down `Unavailable`."""
        made = await baselines.put_baseline("m", 1, "default", baseline_files(), rows=1, columns=1)
        baselines.corrupt(made, PROFILE_FILE, b"changed")
        with pytest.raises(DataLoss):
            await baselines.baseline_file(made, PROFILE_FILE)
        baselines.down = True
        with pytest.raises(Unavailable):
            await baselines.baseline("m", 1, "default")


async def test_a_baseline_is_told_on_the_stream(room: Room) -> None:
    """When it is put, edited and deleted, with its digest."""
    made = room.desk.baselines.put(draft())
    edited = room.desk.baselines.edit("m", 1, "default", b'{"features": []}')
    room.desk.baselines.delete("m", 1, "default")
    async with asyncio.timeout(10):
        while len(await room.events()) < 5:
            await room.ports.stream.wait("lifecycle", len(await room.events()), 1.0)
    told = [json.loads(message.value) for message in await room.events()][2:]
    assert [event["type"] for event in told] == [
        "vedette.model.baseline", "vedette.model.baseline", "vedette.model.baseline-deleted",
    ]  # fmt: skip
    assert told[0]["data"] == {"model": "m", "version": 1, "baseline": "default", "digest": made.digest}
    assert told[1]["data"]["digest"] == edited.digest


async def test_files_go_when_nothing_names_them_any_more(room: Room) -> None:
    """Replaced, deleted, with the version or the model; those that another baseline names as well stay."""
    models, before = room.desk.models, artifacts(room)
    desk = room.desk.baselines
    first, twin = desk.put(draft()), desk.put(draft("twin"))
    assert first.digest == twin.digest
    newer = desk.put(draft(files=baseline_files(profile=b"newer")))
    assert artifacts(room) - before == {first.digest, newer.digest}
    desk.delete("m", 1, "twin")
    assert artifacts(room) - before == {newer.digest}
    other = desk.put(draft(version=2, files=baseline_files(profile=b"of 2")))
    models.drop_orphans()
    assert artifacts(room) - before == {newer.digest, other.digest}
    models.delete_version("m", 1)
    assert newer.digest not in artifacts(room)
    assert other.digest in artifacts(room)
    models.delete("m")
    assert artifacts(room) == set()


async def test_putting_the_same_files_again_changes_nothing_but_the_time(room: Room) -> None:
    """The artifact stays, and no upload is left."""
    first = room.desk.baselines.put(draft())
    room.clock.advance(5.0)
    second = room.desk.baselines.put(draft())
    assert (second.digest, second.created_at) == (first.digest, first.created_at + 5.0)
    assert second.digest in artifacts(room)
    assert room.ports.artifacts.uploads() == []


async def test_an_edit_keeps_all_but_the_constraints(room: Room) -> None:
    """Counts, birth and the other files; the digest is new."""
    made = room.desk.baselines.put(draft())
    room.clock.advance(5.0)
    edited = room.desk.baselines.edit("m", 1, "default", b'{"features": [{"name": "f0"}]}')
    assert (edited.rows, edited.columns, edited.created_at) == (made.rows, made.columns, made.created_at)
    assert edited.digest != made.digest
    assert made.digest not in artifacts(room)
    was, now = ({file.path: file.sha256 for file in each.files} for each in (made, edited))
    assert {path for path in was if was[path] != now[path]} == {CONSTRAINTS_FILE}


@pytest.mark.parametrize("step", ["read", "_store"])
async def test_of_two_edits_at_once_the_second_is_told(room: Room, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """It was made of a baseline that is not there any more, whether it had read it already or not."""
    desk = room.desk.baselines
    desk.put(draft())
    go_on = getattr(desk, step)

    def overtaken(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(desk, step, go_on)
        desk.edit("m", 1, "default", b'{"features": []}')
        return go_on(*given, **more)

    monkeypatch.setattr(desk, step, overtaken)
    with pytest.raises(Conflict):
        desk.edit("m", 1, "default", b'{"features": [{"name": "late"}]}')
    with desk.open("m", 1, "default", CONSTRAINTS_FILE)[1] as source:
        assert source.read() == b'{"features": []}'


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"rows": 0}, InvalidArgument),
        ({"columns": 0}, InvalidArgument),
        ({"name": "../x"}, InvalidArgument),
        ({"version": 3}, NotFound),
        ({"version": 2**40}, NotFound),
        ({"digest": "0" * 64}, InvalidArgument),
        ({"files": {**baseline_files(), STATISTICS_FILE: b"[]"}}, InvalidArgument),
        ({"files": {**baseline_files(), STATISTICS_FILE: b'{"features": []}'}}, InvalidArgument),
        ({"files": {**baseline_files(), STATISTICS_FILE: b"[" * 10_000}}, InvalidArgument),
        ({"files": {**baseline_files(), CONSTRAINTS_FILE: b"{}"}}, InvalidArgument),
        ({"files": {**baseline_files(), CONSTRAINTS_FILE: b'{"features": [{}]}'}}, InvalidArgument),
        ({"files": {**baseline_files(), CONSTRAINTS_FILE: b"\xff"}}, InvalidArgument),
        ({"files": {**baseline_files(), PROFILE_FILE: b""}}, InvalidArgument),
        ({"files": baseline_files(profile=b"x" * 2_000_000)}, TooLarge),
    ],
)
async def test_what_is_no_baseline_is_refused(room: Room, change: dict[str, Any], error: type[Exception]) -> None:
    """Before or while it is stored, and nothing of it stays."""
    before = artifacts(room)
    given = {"name": "default", **change}
    with pytest.raises(error):
        room.desk.baselines.put(draft(given.pop("name"), **given))
    room.desk.models.drop_orphans()
    assert artifacts(room) == before
    assert room.ports.artifacts.uploads() == []
    with room.ports.catalog.read() as view:
        assert view.uploads() == []
        assert view.baselines("m", 1, limit=9) == ([], "")


async def test_a_version_has_a_bounded_number_of_baselines(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused; replacing one of them is not."""
    monkeypatch.setattr("vedette.registry.baselines.MAX_BASELINES", 2)
    for name in ("a", "b", "a"):
        room.desk.baselines.put(draft(name))
    with pytest.raises(Conflict):
        room.desk.baselines.put(draft("c"))


async def test_staging_is_bounded(room: Room) -> None:
    """A baseline takes its place among the uploads under way."""
    with room.ports.catalog.transaction() as tx:
        for number in range(64):
            tx.insert_upload(Upload(f"u{number}", "m", 0.0, 1e12))
    with pytest.raises(Overloaded):
        room.desk.baselines.put(draft())


def body(**changes: Any) -> bytes:
    """The document of a baseline."""
    files = {name: base64.b64encode(data).decode() for name, data in baseline_files().items()}
    return json.dumps({"rows": 4, "columns": 1, "files": files, **changes}).encode()


async def test_http_puts_lists_shows_and_deletes(room: Room) -> None:
    """The whole life of a baseline over HTTP."""
    put = await room.http.put(f"{PATH}/default", content=body(), headers=JSON)
    assert put.status_code == 200, put.text
    made = put.json()
    assert (made["name"], made["rows"], len(made["files"])) == ("default", 4, 3)
    await room.http.put(f"{PATH}/march", content=body(digest=made["digest"]), headers=JSON)
    pages = (await room.http.get(PATH, params={"limit": 1})).json()
    assert pages["items"] == [made]
    following = await room.http.get(PATH, params={"limit": 1, "page_token": pages["next_page_token"]})
    assert [item["name"] for item in following.json()["items"]] == ["march"]
    assert (await room.http.get(f"{PATH}/default")).json() == made
    assert (await room.http.delete(f"{PATH}/default")).status_code == 204
    assert (await room.http.get(f"{PATH}/default")).status_code == 404


async def test_http_gives_files_and_takes_constraints(room: Room) -> None:
    """JSON as JSON, the profile as bytes; edited constraints make a new digest."""
    made = (await room.http.put(f"{PATH}/default", content=body(), headers=JSON)).json()
    statistics = await room.http.get(f"{PATH}/default/files/{STATISTICS_FILE}")
    assert statistics.headers["content-type"] == "application/json"
    assert statistics.content == baseline_files()[STATISTICS_FILE]
    assert (await room.http.get(f"{PATH}/default/files/{PROFILE_FILE}")).content == b"profile"
    assert (await room.http.get(f"{PATH}/default/files/model.onnx")).status_code == 404
    edit = b'{"version": 0, "features": [{"name": "f0", "completeness": 0.5}]}'
    edited = await room.http.put(f"{PATH}/default/files/{CONSTRAINTS_FILE}", content=edit, headers=JSON)
    assert edited.status_code == 200, edited.text
    assert edited.json()["digest"] != made["digest"]
    assert (await room.http.get(f"{PATH}/default/files/{CONSTRAINTS_FILE}")).content == edit
    assert (
        await room.http.put(f"{PATH}/default/files/{STATISTICS_FILE}", content=edit, headers=JSON)
    ).status_code == 404


@pytest.mark.parametrize("file", [ANALYSIS_FILE, QUALITY_CONSTRAINTS_FILE])
async def test_measured_documents_are_edited_like_constraints(room: Room, stub: Any, file: str) -> None:
    """Over both protocols, on a baseline that has the document and on one that gets its first; the others stay."""
    made = (await room.http.put(f"{PATH}/default", content=body(), headers=JSON)).json()
    first = measured_files()[file]
    added = await room.http.put(f"{PATH}/default/files/{file}", content=first, headers=JSON)
    assert added.status_code == 200, added.text
    assert {each["path"] for each in added.json()["files"]} == {each["path"] for each in made["files"]} | {file}
    edit = first.replace(b"}", b" }")
    named = {"model": "m", "version": 1, "name": "default"}
    edited = (await stub.PutConstraints(pb.PutConstraintsRequest(**named, constraints=edit, file=file))).baseline
    assert edited.digest not in {made["digest"], added.json()["digest"]}
    assert (await room.http.get(f"{PATH}/default/files/{file}")).content == edit
    assert (await room.http.get(f"{PATH}/default/files/{PROFILE_FILE}")).content == b"profile"


@pytest.mark.parametrize(
    ("file", "content", "status"),
    [
        (ANALYSIS_FILE, b"[]", 400),
        (ANALYSIS_FILE, b"{}", 400),
        (ANALYSIS_FILE, b'{"explanations": []}', 400),
        (QUALITY_CONSTRAINTS_FILE, b'{"regression_constraints": 1}', 400),
        (QUALITY_CONSTRAINTS_FILE, b'{"explanations": {}}', 400),
        (QUALITY_CONSTRAINTS_FILE, b'{"regression_constraints": {}, "x": "' + b"y" * (4 << 20) + b'"}', 413),
        (QUALITY_STATISTICS_FILE, measured_files()[QUALITY_STATISTICS_FILE], 404),
        (PROFILE_FILE, b"{}", 404),
        ("model.onnx", b"{}", 404),
    ],
)
async def test_only_documents_of_their_shape_are_taken(room: Room, file: str, content: bytes, status: int) -> None:
    """What was measured and what is not text is nobody's to edit; what is refused changes nothing."""
    made = (await room.http.put(f"{PATH}/default", content=body(), headers=JSON)).json()
    assert (await room.http.put(f"{PATH}/default/files/{file}", content=content, headers=JSON)).status_code == status
    assert (await room.http.get(f"{PATH}/default")).json() == made


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{" * 10_000, 400),
        (body(rows=0), 400),
        (body(rows="4"), 400),
        (body(more=1), 400),
        (body(files={}), 400),
        (body(files={PROFILE_FILE: "not base64!"}), 400),
        (body(digest="0" * 64), 400),
        (b" " * 4_000_001, 413),
    ],
)
async def test_http_refuses_what_is_no_baseline(room: Room, content: bytes, status: int) -> None:
    """Malformed, too large, or with the wrong digest."""
    answer = await room.http.put(f"{PATH}/default", content=content, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await room.http.put(f"{PATH}/default", content=body())).status_code == 400  # no content-type


@pytest.fixture
async def stub(room: Room) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(room.grpc) as channel:
        yield RegistryServiceStub(channel)


def parts(files: dict[str, bytes], **fields: Any) -> Iterator[pb.PutBaselineRequest]:
    """The messages of a baseline; chunks of three bytes."""
    given: dict[str, Any] = {"model": "m", "version": 1, "name": "default", "rows": 4, "columns": 1}
    yield pb.PutBaselineRequest(start=pb.BaselineStart(**{**given, **fields}))
    for name, content in files.items():
        for at in range(0, len(content), 3):
            yield pb.PutBaselineRequest(chunk=pb.FileChunk(file=name, data=content[at : at + 3]))


async def test_grpc_does_the_same(room: Room, stub: Any) -> None:
    """Put, get, list, edit, fetch, delete."""
    digest = manifest_digest(artifact_file(name, data) for name, data in baseline_files().items())
    made = (await stub.PutBaseline(parts(baseline_files(), digest=digest))).baseline
    assert made.digest == digest == room.desk.baselines.get("m", 1, "default").digest
    key = {"model": "m", "version": 1}
    assert (await stub.GetBaseline(pb.GetBaselineRequest(**key, name="default"))).baseline == made
    assert list((await stub.ListBaselines(pb.ListBaselinesRequest(**key))).items) == [made]
    edit = pb.PutConstraintsRequest(**key, name="default", constraints=b'{"features": []}')
    edited = (await stub.PutConstraints(edit)).baseline
    fetch = pb.FetchBaselineFileRequest(**key, name="default", file=CONSTRAINTS_FILE, digest=edited.digest)
    assert b"".join([answer.chunk.data async for answer in stub.FetchBaselineFile(fetch)]) == b'{"features": []}'
    await stub.DeleteBaseline(pb.DeleteBaselineRequest(**key, name="default"))
    assert list((await stub.ListBaselines(pb.ListBaselinesRequest(**key))).items) == []


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([], "invalid_argument"),
        (list(parts(baseline_files()))[1:], "invalid_argument"),
        ([*parts(baseline_files()), *parts({})], "invalid_argument"),
        (list(parts({**baseline_files(), "../x": b"abc"})), "invalid_argument"),
        (list(parts(baseline_files(), digest="0" * 64)), "invalid_argument"),
        (list(parts(baseline_files(), version=9)), "not_found"),
        (
            [*parts({})] + [pb.PutBaselineRequest(chunk=pb.FileChunk(file=PROFILE_FILE, data=bytes(1_000_000)))] * 3,
            "too_large",
        ),
    ],
    ids=["nothing", "no start", "two starts", "other file", "digest", "no version", "too large"],
)
async def test_grpc_refuses_what_is_no_baseline(room: Room, stub: Any, messages: list[Any], code: str) -> None:
    """With the code of the domain, and nothing is kept."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.PutBaseline(iter(messages))
    assert dict(caught.value.trailing_metadata() or ())["vedette-code"] == code
    assert room.desk.baselines.page("m", 1, limit=9) == ([], "")


async def test_a_file_that_was_damaged_on_disk_is_data_loss(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client believes only the digest."""
    client = GrpcRegistry(room.grpc)
    made = await client.put_baseline("m", 1, "default", baseline_files(), rows=4, columns=1)
    held = room.ports.artifacts._objects[made.digest][1]  # type: ignore[attr-defined]
    for damaged in (b"profilx", b"", b"profile and more"):
        held[PROFILE_FILE] = damaged
        with pytest.raises(DataLoss):
            await client.baseline_file(made, PROFILE_FILE)
    await client.close()
