"""One JSON document to a control route and the document that comes back.

Rule: what has no answer is asked with `Connection.send` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from vedette.sdk.aio.connection import AsyncConnection, Call
from vedette.sdk.documents import encode, read

Document = TypeVar("Document")
JSON = {"content-type": "application/json"}


async def fetch(
    connection: AsyncConnection, kind: type[Document], path: str, *, query: Sequence[tuple[str, str]] = ()
) -> Document:
    """The document at a path."""
    return read(kind, (await connection.send(Call("GET", path, query=tuple(query)))).body)


async def change(
    connection: AsyncConnection, kind: type[Document], method: str, path: str, document: object = None
) -> Document:
    """What the server answers to a change; `document` None sends an empty one."""
    body = encode({} if document is None else document)
    return read(kind, (await connection.send(Call(method, path, body=body, headers=JSON))).body)
