"""What a stranger with nothing but the port can find out: reflection and health, by their own clients."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.wire.target import Target

SERVICE = "inference.GRPCInferenceService"
pytestmark = pytest.mark.ours


@pytest.fixture(scope="module")
def channel(grpc_address: str) -> Iterator[grpc.Channel]:
    """A plain channel."""
    with grpc.insecure_channel(grpc_address) as channel:
        yield channel


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    """The protocol's service under its own name, and health."""
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {SERVICE, "grpc.health.v1.Health"} <= set(services)


def test_a_stranger_can_call_by_reflection_alone(channel: grpc.Channel, target: Target) -> None:
    """Descriptors from the server suffice to build a request, call ModelInfer and read the answer."""
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName(SERVICE).FindMethodByName("ModelInfer")
    assert method.input_type.full_name == "inference.ModelInferRequest"
    ask = message_factory.GetMessageClass(method.input_type)
    tell = message_factory.GetMessageClass(method.output_type)
    identity = target.identity("FP32")
    made = ask(model_name=identity.model, raw_input_contents=[identity.raw()])
    made.inputs.add(name=identity.takes, datatype="FP32", shape=identity.shape)
    call = channel.unary_unary(
        f"/{SERVICE}/ModelInfer", request_serializer=ask.SerializeToString, response_deserializer=tell.FromString
    )
    assert list(call(made, timeout=30).raw_output_contents) == [identity.raw()]


def test_reflection_shows_every_method(channel: grpc.Channel) -> None:
    """All twenty, with streaming where it is."""
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    methods = pool.FindServiceByName(SERVICE).methods
    assert len(methods) == 20
    assert [method.name for method in methods if method.client_streaming] == ["ModelStreamInfer"]


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_says_serving(channel: grpc.Channel, service: str) -> None:
    """grpc.health.v1, for the server and for the service."""
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_does_not_know_strangers(channel: grpc.Channel) -> None:
    """NOT_FOUND for a service that is not here."""
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
