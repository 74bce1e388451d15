# Generated from vedette/sdk/aio by `python -m tests.sdk_twin`: change that and run it again.
"""One JSON document to a control route and the document that comes back.

Rule: what has no answer is asked with `Connection.send` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from vedette.sdk.documents import encode, read
from vedette.sdk.sync.connection import Call, Connection

Document = TypeVar("Document")
JSON = {"content-type": "application/json"}


def fetch(
    connection: Connection, kind: type[Document], path: str, *, query: Sequence[tuple[str, str]] = ()
) -> Document:
    """The document at a path."""
    return read(kind, (connection.send(Call("GET", path, query=tuple(query)))).body)


def change(connection: Connection, kind: type[Document], method: str, path: str, document: object = None) -> Document:
    """What the server answers to a change; `document` None sends an empty one."""
    body = encode({} if document is None else document)
    return read(kind, (connection.send(Call(method, path, body=body, headers=JSON))).body)
