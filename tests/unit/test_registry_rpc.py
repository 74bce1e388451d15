"""The gRPC surface: the same operations as over HTTP, driven with the generated stub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.registry_room import Room, open_room

from vedette.core.errors import InvalidArgument
from vedette.core.models import Endpoint, ModelVersion, QueuePolicy
from vedette.proto.registry.v1 import registry_pb2 as pb
from vedette.proto.registry.v1.registry_pb2_grpc import RegistryServiceStub
from vedette.registry import rpc
from vedette.registry.messages import draft_from, from_message, to_message
from vedette.testing.samples import model_version


@pytest.fixture
async def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    async with open_room(tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture
async def stub(room: Room) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(room.grpc) as channel:
        yield RegistryServiceStub(channel)


def upload(*files: tuple[str, bytes], model: str = "m", details: pb.Details | None = None) -> Iterator[Any]:
    """The messages of an upload; chunks of three bytes."""
    yield pb.UploadVersionRequest(start=pb.UploadStart(model=model, details=details))
    for name, content in files:
        for at in range(0, len(content), 3):
            yield pb.UploadVersionRequest(chunk=pb.FileChunk(file=name, data=content[at : at + 3]))


async def refused(call: Any, code: str) -> str:
    """Assert the code in the trailing metadata and return the words."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert dict(caught.value.trailing_metadata() or ())["vedette-code"] == code, caught.value.details()
    return caught.value.details() or ""


async def test_every_method_of_the_proto_is_served(room: Room) -> None:
    """And every one has its action and its own message types."""
    declared = {method.name: method for method in pb.DESCRIPTOR.services_by_name["RegistryService"].methods}
    served = {method.name: method for method in rpc.service(room.desk).methods}
    assert set(served) == set(declared)
    for name, method in served.items():
        assert declared[name].input_type == method.request.DESCRIPTOR
        assert declared[name].output_type == method.response.DESCRIPTOR
        streams = (declared[name].client_streaming, declared[name].server_streaming)
        assert streams == (method.kind.startswith("stream"), method.kind.endswith("stream"))


async def test_an_upload_in_chunks(room: Room, stub: Any) -> None:
    """Several files; the same again is the same version."""
    completion = pb.Completion(feature_names=["a", "b", "c"], categories={"a": pb.Values(values=["x", "y"])})
    details = pb.Details(signature=completion, metadata={"categories": "kept", "alias": "kept"}, tags={"t": "v"})
    files = (("model.onnx", b"graph bytes"), ("w.data", b"weights"))
    first = await stub.UploadVersion(upload(*files, details=details))
    assert (first.created, first.version.version, len(first.version.files)) == (True, 1, 2)
    assert not (await stub.UploadVersion(upload(*files, details=details))).created
    kept = room.desk.models.version("m", 1)
    assert kept.signature.categories == {"a": ("x", "y")}
    assert kept.metadata == {"categories": "kept", "alias": "kept"}
    assert from_message(first.version, ModelVersion) == kept
    assert room.desk.models.get("m").tags == {"t": "v"}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [pb.UploadVersionRequest(chunk=pb.FileChunk(file="model.onnx", data=b"x"))],
        list(upload()),
        list(upload(("model.onnx", b""))),
        list(upload(("../model.onnx", b"x"))),
        list(upload(("model.onnx", b"xyz"), ("w.data", b"x"), ("model.onnx", b"abc"))),
        [*upload(("model.onnx", b"x")), *upload()],
        list(upload(("model.onnx", b"bad"))),
        list(upload(("model.onnx", b"x"), model="../m")),
        list(upload(("model.onnx", b"x"), details=pb.Details(signature=pb.Completion(kind="audio")))),
        list(upload(("model.onnx", b"x"), details=pb.Details(signature=pb.Completion(feature_names=["a"])))),
    ],
)
async def test_uploads_that_make_no_sense_are_refused(room: Room, stub: Any, messages: list[Any]) -> None:
    """The caller's fault, and nothing stays."""
    await refused(stub.UploadVersion(iter(messages)), "invalid_argument")
    assert room.desk.models.page(limit=9) == ([], "")
    assert room.ports.artifacts.uploads() == []


async def test_models_versions_and_aliases(room: Room, stub: Any) -> None:
    """Create, list, change, approve, alias, delete."""
    await stub.CreateModel(pb.CreateModelRequest(name="m", tags={"team": "risk"}))
    await refused(stub.CreateModel(pb.CreateModelRequest(name="m")), "already_exists")
    await stub.UploadVersion(upload(("model.onnx", b"graph")))
    listed = await stub.ListModels(pb.ListModelsRequest(tags={"team": "risk"}))
    assert [(model.name, model.latest_version) for model in listed.items] == [("m", 1)]
    await refused(stub.ListModels(pb.ListModelsRequest(limit=101)), "invalid_argument")
    changed = await stub.UpdateModel(pb.UpdateModelRequest(name="m", description="d"))
    assert (changed.model.description, dict(changed.model.tags)) == ("d", {"team": "risk"})
    cleared = await stub.UpdateModel(pb.UpdateModelRequest(name="m", tags=pb.Tags()))
    assert (cleared.model.description, dict(cleared.model.tags)) == ("d", {})
    approved = await stub.UpdateVersion(pb.UpdateVersionRequest(model="m", version=1, status="Approved"))
    assert approved.version.status == "Approved"
    await refused(stub.UpdateVersion(pb.UpdateVersionRequest(model="m", version=1, status="Fine")), "invalid_argument")
    found = await stub.ListVersions(pb.ListVersionsRequest(model="m", status="Approved"))
    assert [version.version for version in found.items] == [1]
    aliased = await stub.SetAlias(pb.SetAliasRequest(model="m", alias="champion", version=1))
    assert dict(aliased.model.aliases) == {"champion": 1}
    await stub.DeleteAlias(pb.DeleteAliasRequest(model="m", alias="champion"))
    await refused(stub.GetVersion(pb.GetVersionRequest(model="m", version=2**62)), "not_found")
    await refused(stub.GetVersion(pb.GetVersionRequest(model="m", version=-1)), "not_found")
    await stub.DeleteVersion(pb.DeleteVersionRequest(model="m", version=1))
    await stub.DeleteModel(pb.DeleteModelRequest(name="m"))
    await refused(stub.GetModel(pb.GetModelRequest(name="m")), "not_found")
    imported = stub.ImportVersion(pb.ImportVersionRequest(model="m", source="/etc/passwd"))
    await refused(imported, "permission_denied")


async def test_a_whole_life_of_an_endpoint(room: Room, stub: Any) -> None:
    """Short form with an alias, update with unset fields at their defaults, weights, rollback, stop, start, delete."""
    await stub.UploadVersion(upload(("model.onnx", b"graph 1")))
    await stub.UploadVersion(upload(("model.onnx", b"graph 2")))
    await stub.SetAlias(pb.SetAliasRequest(model="m", alias="champion", version=1))
    made = await stub.CreateEndpoint(pb.CreateEndpointRequest(name="m", version="@champion"))
    assert made.endpoint.config.variants[0].version == 1
    room.say("m", 1, "ready")
    config = pb.EndpointConfig(
        model="m",
        variants=[pb.Variant(name="a", alias="champion"), pb.Variant(name="b", version=2, weight=0)],
        limits=pb.Limits(timeout_s=5),
        dynamic_batching=pb.DynamicBatching(
            max_queue_delay_microseconds=500,
            preferred_batch_size=[8, 16],
            priority_levels=2,
            default_priority_level=2,
            priority_queue_policy={1: pb.QueuePolicy(timeout_action="DELAY", max_queue_size=9)},
        ),
    )
    updated = (await stub.UpdateEndpoint(pb.UpdateEndpointRequest(name="m", config=config))).endpoint
    assert [(v.version, v.weight, list(v.options.providers)) for v in updated.config.variants] == [
        (1, 1.0, ["CPUExecutionProvider"]),
        (2, 0.0, ["CPUExecutionProvider"]),
    ]
    assert (updated.config.limits.timeout_s, updated.config.limits.max_queue) == (5.0, 1024)
    batching = room.desk.deployments.get("m").config.dynamic_batching
    assert (batching.enabled, batching.preferred_batch_size) == (True, (8, 16))
    assert batching.priority_queue_policy == {1: QueuePolicy("DELAY", max_queue_size=9)}
    assert from_message(updated, Endpoint) == room.desk.deployments.get("m")
    room.say("m", 2, "ready")
    weighed = await stub.UpdateWeights(pb.UpdateWeightsRequest(name="m", weights={"b": 1.0}))
    assert weighed.endpoint.config.variants[1].weight == 1.0
    back = await stub.RollbackEndpoint(pb.RollbackEndpointRequest(name="m"))
    assert back.endpoint.config.variants[1].weight == 0.0
    history = await stub.ListGenerations(pb.ListGenerationsRequest(name="m"))
    assert [line.cause for line in history.items] == ["rollback to 2", "weights", "update", "create"]
    assert (await stub.StopEndpoint(pb.StopEndpointRequest(name="m"))).endpoint.status == "OutOfService"
    assert (await stub.StartEndpoint(pb.StartEndpointRequest(name="m"))).endpoint.status == "Creating"
    found = await stub.ListEndpoints(pb.ListEndpointsRequest(status="Creating", name_contains="M"))
    assert [endpoint.name for endpoint in found.items] == ["m"]
    assert (await stub.GetEndpoint(pb.GetEndpointRequest(name="m"))).endpoint == found.items[0]
    assert (await stub.DeleteEndpoint(pb.DeleteEndpointRequest(name="m"))).endpoint.status == "Deleting"


@pytest.mark.parametrize(
    "request_",
    [
        pb.CreateEndpointRequest(name="../m"),
        pb.CreateEndpointRequest(name="m", version="newest"),
        pb.CreateEndpointRequest(name="m", model="m", config=pb.EndpointConfig(model="m")),
        pb.CreateEndpointRequest(name="m", config=pb.EndpointConfig(model="m")),
        pb.CreateEndpointRequest(name="m", config=pb.EndpointConfig(model="m", variants=[pb.Variant(name="a")])),
        pb.CreateEndpointRequest(
            name="m", config=pb.EndpointConfig(model="m", variants=[pb.Variant(name="a", version=1, alias="x")])
        ),
        pb.CreateEndpointRequest(
            name="m",
            config=pb.EndpointConfig(model="m", variants=[pb.Variant(name="a", version=1, weight=float("nan"))]),
        ),
        pb.CreateEndpointRequest(
            name="m",
            config=pb.EndpointConfig(
                model="m",
                variants=[pb.Variant(name="a", version=1, options=pb.SessionOptions(graph_optimization="most"))],
            ),
        ),
        pb.CreateEndpointRequest(
            name="m",
            config=pb.EndpointConfig(
                model="m",
                variants=[pb.Variant(name="a", version=1)],
                capture=pb.CaptureSettings(mode="maybe"),
            ),
        ),
    ],
)
async def test_endpoints_that_make_no_sense_are_refused(room: Room, stub: Any, request_: Any) -> None:
    """Nothing is deployed."""
    await room.upload("m")
    await refused(stub.CreateEndpoint(request_), "invalid_argument")
    assert room.desk.deployments.index()[0].reason == "not deployed"


async def test_an_idle_watch_beats(room: Room, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty message now and then, so that a broken connection is noticed."""
    monkeypatch.setattr(rpc, "HEARTBEAT_S", 0.01)
    watch = stub.Watch(pb.WatchRequest())
    kinds = [(await watch.read()).WhichOneof("event") for _ in range(3)]
    watch.cancel()
    assert kinds == ["synced", None, None]


@given(
    st.builds(
        model_version,
        st.just("m"),
        st.integers(1, 2**31 - 1),
        metadata=st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=3),
        description=st.text(max_size=10),
        created_at=st.floats(0, 1e10),
    )
)
def test_versions_cross_the_wire_unchanged(version: ModelVersion) -> None:
    """To a message and back, whatever the texts are."""
    sent = to_message(version, pb.ModelVersion()).SerializeToString()
    assert from_message(pb.ModelVersion.FromString(sent), ModelVersion) == version
    assert msgspec.to_builtins(version)["signature"]["categories"]


def test_words_that_are_none_of_the_allowed_are_refused() -> None:
    """A message with a status of its own invention is no version."""
    message = to_message(model_version("m", 1), pb.ModelVersion())
    message.status = "Splendid"
    with pytest.raises(InvalidArgument):
        from_message(message, ModelVersion)
    with pytest.raises(InvalidArgument):
        draft_from(pb.EndpointConfig(model="m", capture=pb.CaptureSettings(mode="x")))
