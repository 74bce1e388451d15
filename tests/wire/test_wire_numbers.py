"""Our messages against those of a client library that we did not write: every number, type and label."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

from vedette.proto.inference.v1 import inference_pb2

OURS = "vedette.proto.inference.v1."
THEIRS = "inference."
SUBSETS = {"ModelConfig", "ModelVersionPolicy", "ModelInput", "ModelOutput", "ModelInstanceGroup", "ModelWarmup"}
"""Messages of which we define only what has a meaning here; a number that is there must still be right."""


def files(*modules) -> list[descriptor_pb2.FileDescriptorProto]:
    return [descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb) for module in modules]


def messages(protos, prefix: str) -> dict[str, descriptor_pb2.DescriptorProto]:
    """Every message by its name within the package, nested ones and map entries too."""

    def walk(message, path: str) -> Iterator[tuple[str, descriptor_pb2.DescriptorProto]]:
        yield path, message
        for nested in message.nested_type:
            yield from walk(nested, f"{path}.{nested.name}")

    return dict(pair for proto in protos for message in proto.message_type for pair in walk(message, message.name))


def fields(message, package: str) -> dict[int, tuple[object, ...]]:
    """What the wire and generated code see of each field, by number."""
    return {
        field.number: (
            field.name,
            field.type,
            field.label,
            field.type_name.removeprefix(f".{package}"),
            message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "",
        )
        for field in message.field
    }


OUR_MESSAGES = messages(files(inference_pb2), OURS)
THEIR_MESSAGES = messages(files(service_pb2, model_config_pb2), THEIRS)


@pytest.mark.parametrize("name", sorted(OUR_MESSAGES))
def test_every_message_has_the_fields_that_clients_know(name: str) -> None:
    """Name, number, type, label and oneof of each field are those of the client's descriptors."""
    ours, theirs = fields(OUR_MESSAGES[name], OURS), fields(THEIR_MESSAGES[name], THEIRS)
    if name in SUBSETS:
        theirs = {number: field for number, field in theirs.items() if number in ours}
    assert ours == theirs


def test_no_message_of_the_service_is_missing() -> None:
    """Everything but the parts of ModelConfig that mean nothing here is defined."""
    service = messages(files(service_pb2), THEIRS)
    assert set(service) - set(OUR_MESSAGES) == set()


def test_enums_have_the_numbers_that_clients_know() -> None:
    """DataType and the kinds of instance groups, value by value."""
    for ours, theirs in (
        (inference_pb2.DataType, model_config_pb2.DataType),
        (inference_pb2.ModelInstanceGroup.Kind, model_config_pb2.ModelInstanceGroup.Kind),
        (inference_pb2.ModelInput.Format, model_config_pb2.ModelInput.Format),
    ):
        assert dict(ours.items()) == dict(theirs.items())


def test_the_service_has_every_method_with_its_messages() -> None:
    """Each method that a client may call exists with the same messages and the same streaming."""

    def methods(module, package: str):
        (service,) = (each for proto in files(module) for each in proto.service)
        return {
            method.name: (
                method.input_type.removeprefix(f".{package}"),
                method.output_type.removeprefix(f".{package}"),
                method.client_streaming,
                method.server_streaming,
            )
            for method in service.method
        }

    assert methods(inference_pb2, OURS) == methods(service_pb2, THEIRS)


@pytest.mark.parametrize("first", ["vedette.proto.inference.v1.inference_pb2", "tritonclient.grpc.service_pb2"])
def test_both_libraries_live_in_one_process(first: str) -> None:
    """Importing ours and tritonclient's generated code in either order works: no symbol is defined twice."""
    program = (
        f"import {first}\n"
        "from tritonclient.grpc import service_pb2 as theirs\n"
        "from vedette.proto.inference.v1 import inference_pb2 as ours\n"
        "message = theirs.ModelInferRequest(model_name='m', raw_input_contents=[b'x'])\n"
        "assert ours.ModelInferRequest.FromString(message.SerializeToString()).model_name == 'm'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
