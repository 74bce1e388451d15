"""Server reflection for services whose wire name is not the package of their messages.

Rule: descriptors live in a pool of their own. The Open Inference Protocol's messages are ours under another
package, because generating them as `inference` breaks any process that also loads tritonclient.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor

from vedette.chassis.rpc import Rpc, RpcService


def reflection_pool(services: Iterable[RpcService]) -> descriptor_pool.DescriptorPool:
    """A pool in which every service stands under its wire name with its messages under `reflect_as`."""
    pool = descriptor_pool.DescriptorPool()
    seen: set[str] = set()
    for service in services:
        files = _files(service)
        own = service.methods[0].request.DESCRIPTOR.file.package
        shown = service.reflect_as or own
        for file in files:
            proto = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(proto)
            del proto.service[:]  # stated below from the table of what is really served
            if shown != own:
                _rename(proto, own, shown, files)
            _add(pool, seen, proto)
        _add(pool, seen, _service_file(service, own, shown, files))
    return pool


def add_files(pool: descriptor_pool.DescriptorPool, files: Iterable[FileDescriptor]) -> None:
    """Files of services that are not ours (health), as they are, those they import first."""
    for file in files:
        add_files(pool, file.dependencies)
        try:
            pool.FindFileByName(file.name)
        except KeyError:
            pool.AddSerializedFile(file.serialized_pb)


def _add(pool: descriptor_pool.DescriptorPool, seen: set[str], proto: descriptor_pb2.FileDescriptorProto) -> None:
    if proto.name not in seen:
        seen.add(proto.name)
        pool.AddSerializedFile(proto.SerializeToString())


def _files(service: RpcService) -> list[FileDescriptor]:
    """Every file that the service's messages need, each after those it imports."""
    ordered: dict[str, FileDescriptor] = {}

    def visit(file: Any) -> None:
        if file.name not in ordered:
            for needed in file.dependencies:
                visit(needed)
            ordered[file.name] = file

    for rpc in service.methods:
        visit(rpc.request.DESCRIPTOR.file)
        visit(rpc.response.DESCRIPTOR.file)
    return list(ordered.values())


def _shown_name(file: str, own: str, shown: str, files: list[FileDescriptor]) -> str:
    ours = {each.name for each in files if each.package == own}
    return f"{shown}/{file.rpartition('/')[2]}" if file in ours and shown != own else file


def _rename(proto: descriptor_pb2.FileDescriptorProto, own: str, shown: str, files: list[FileDescriptor]) -> None:
    proto.name = _shown_name(proto.name, own, shown, files)
    proto.dependency[:] = [_shown_name(name, own, shown, files) for name in proto.dependency]
    if proto.package != own:
        return
    proto.package = shown
    for message in proto.message_type:
        _rename_types(message, own, shown)


def _rename_types(message: descriptor_pb2.DescriptorProto, own: str, shown: str) -> None:
    for entry in message.field:
        if entry.type_name.startswith(f".{own}."):
            entry.type_name = f".{shown}.{entry.type_name[len(own) + 2 :]}"
    for nested in message.nested_type:
        _rename_types(nested, own, shown)


def _service_file(
    service: RpcService, own: str, shown: str, files: list[FileDescriptor]
) -> descriptor_pb2.FileDescriptorProto:
    package, _, name = service.name.rpartition(".")
    imported = sorted({_shown_name(file.name, own, shown, files) for file in files})
    proto = descriptor_pb2.FileDescriptorProto(
        name=f"{service.name}.service.proto", package=package, syntax="proto3", dependency=imported
    )
    declared = proto.service.add(name=name)
    for rpc in service.methods:
        declared.method.append(_method(rpc, own, shown))
    return proto


def _method(rpc: Rpc, own: str, shown: str) -> descriptor_pb2.MethodDescriptorProto:
    def wire(full_name: str) -> str:
        return f".{shown}.{full_name[len(own) + 1 :]}" if full_name.startswith(f"{own}.") else f".{full_name}"

    return descriptor_pb2.MethodDescriptorProto(
        name=rpc.name,
        input_type=wire(rpc.request.DESCRIPTOR.full_name),
        output_type=wire(rpc.response.DESCRIPTOR.full_name),
        client_streaming=rpc.kind.startswith("stream"),
        server_streaming=rpc.kind.endswith("stream"),
    )
