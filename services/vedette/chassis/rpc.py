"""gRPC as our services see it: tables of methods, each with its message types and its action.

Rule: a handler raises `VedetteError`; the chassis (`grpc_calls.py`) turns it into a status and trailing metadata.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.message import Message

from vedette.chassis.auth import Action

Kind = Literal["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method: `handler(request, context)` is a coroutine, or an async generator where it streams out."""

    name: str
    kind: Kind
    action: Action
    handler: Callable[..., Any]
    request: type[Message]
    response: type[Message]
    read: Callable[[bytes], Any] | None = None
    """Reads a request in place of the message's own parser; raises DecodeError like it."""
    writes_bytes: bool = False
    """The handler answers with the bytes of the response message instead of the message."""


@dataclass(frozen=True, slots=True)
class RpcService:
    """A gRPC service under its wire name, which may differ from the package of its messages."""

    name: str
    methods: tuple[Rpc, ...]
    reflect_as: str = ""
    """Package name that reflection shows; empty: the messages' own."""
