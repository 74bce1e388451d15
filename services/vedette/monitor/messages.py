"""Protobuf messages <-> the dataclasses of the kernel and the HTTP documents: the same field names everywhere.

Rule: a field that was not set has the default that the document gives it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from pydantic import ValidationError

from vedette.chassis.control.problems import first_problem
from vedette.core.errors import InvalidArgument
from vedette.entities.monitors import Monitor
from vedette.monitor.documents import MonitorCreate
from vedette.proto.monitor.v1 import monitor_pb2 as pb

Proto = TypeVar("Proto", bound=Message)
_OWN = ("status", "reason", "created_at", "updated_at")


def to_message(value: object, message: Proto) -> Proto:
    """Fill a new message from a dataclass with the same field names and return it."""
    return ParseDict(msgspec.to_builtins(value, str_keys=True), message)


def monitor_from(message: pb.Monitor) -> Monitor:
    """The monitor that a message describes; what only the service sets is left aside.

    Raises:
        InvalidArgument: a value that does not fit, by the field's name.
    """
    given = {name: value for name, value in plain(message).items() if name not in _OWN}
    try:
        document = MonitorCreate.model_validate(given)
    except ValidationError as error:
        raise InvalidArgument(first_problem(error.errors(), "monitor")) from None
    return document.monitor(document.name)


def plain(message: Message) -> dict[str, Any]:
    """The fields of a message that were set, as Python values."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if isinstance(value, Message):
            found[field.name] = _struct(value) if isinstance(value, Struct) else plain(value)
        elif hasattr(value, "items"):
            found[field.name] = dict(value.items())
        elif field.is_repeated:
            found[field.name] = [plain(item) if isinstance(item, Message) else item for item in value]
        else:
            found[field.name] = value
    return found


def _struct(value: Struct) -> Any:
    try:
        return _whole(MessageToDict(value))
    except ValueError:
        raise InvalidArgument("a number must be finite") from None


def _whole(value: Any) -> Any:
    """A Struct knows only floating numbers: whole ones are integers again."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
