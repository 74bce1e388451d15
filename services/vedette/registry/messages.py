"""Protobuf messages <-> the dataclasses of the kernel: the same field names, so that one pair of functions does.

Rule: a field that was not set keeps the dataclass's default; what does not fit the dataclass is refused.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from vedette.core.errors import InvalidArgument
from vedette.core.models import CaptureSettings, DynamicBatching, Limits, SessionOptions
from vedette.proto.registry.v1 import registry_pb2 as pb
from vedette.registry.endpoints import Choice, ConfigDraft, StepDraft, VariantDraft

Value = TypeVar("Value")
Proto = TypeVar("Proto", bound=Message)


def to_message(value: object, message: Proto) -> Proto:
    """Fill a new message from a dataclass with the same field names and return it."""
    return ParseDict(_wrapped(msgspec.to_builtins(value, str_keys=True)), message)


def from_message(message: Message, kind: type[Value]) -> Value:
    """The dataclass `kind` with what the message holds.

    Raises:
        InvalidArgument: a value does not fit, a word that is none of the allowed ones for example.
    """
    try:
        return msgspec.convert(_unwrapped(_fields(message)), kind, strict=False)
    except (msgspec.ValidationError, ParseError, ValueError) as error:
        raise InvalidArgument(f"{kind.__name__}: {error}") from None


def draft_from(message: pb.EndpointConfig) -> ConfigDraft:
    """A configuration in which versions may still be aliases."""
    return ConfigDraft(
        model=message.model,
        variants=tuple(map(_variant, message.variants)),
        shadow_variants=tuple(map(_variant, message.shadow_variants)),
        limits=from_message(message.limits, Limits),
        capture=from_message(message.capture, CaptureSettings),
        dynamic_batching=from_message(message.dynamic_batching, DynamicBatching),
    )


def _variant(message: pb.Variant) -> VariantDraft:
    return VariantDraft(
        name=message.name,
        version=_choice(message),
        weight=message.weight if message.HasField("weight") else 1.0,
        pipeline=tuple(StepDraft(step.model, _choice(step)) for step in message.pipeline),
        options=_options(message.options),
    )


def _options(message: pb.SessionOptions) -> SessionOptions:
    """An empty list of providers means the default, because the wire cannot tell it from none given."""
    given = _fields(message)
    if not given["providers"]:
        del given["providers"]
    try:
        return msgspec.convert(given, SessionOptions)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"options: {error}") from None


def _choice(message: pb.Variant | pb.ModelRef) -> Choice:
    if bool(message.alias) == bool(message.version):
        raise InvalidArgument("give either a version or an alias")
    return "@" + message.alias.removeprefix("@") if message.alias else message.version


def _fields(message: Message) -> dict[str, Any]:
    return MessageToDict(message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)


def _wrapped(value: Any) -> Any:
    """Lists inside a map become messages, because protobuf has no map of lists."""
    if isinstance(value, dict):
        return {
            key: {name: {"values": list(items)} for name, items in inner.items()}
            if key == "categories" and isinstance(inner, dict)
            else _wrapped(inner)
            for key, inner in value.items()
        }
    return [_wrapped(item) for item in value] if isinstance(value, list | tuple) else value


def _unwrapped(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: {name: items["values"] for name, items in inner.items()}
            if key == "categories" and isinstance(inner, dict)
            else _unwrapped(inner)
            for key, inner in value.items()
        }
    return [_unwrapped(item) for item in value] if isinstance(value, list) else value
