# Generated from vedette/sdk/aio by `python -m tests.sdk_twin`: change that and run it again.
"""Lists of the registry, walked page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from vedette.sdk.documents import read_page
from vedette.sdk.sync.connection import Call, Connection

PAGE_ITEMS = 100

Item = TypeVar("Item")


def walk(connection: Connection, path: str, query: list[tuple[str, str]], kind: type[Item]) -> Iterator[Item]:
    """Every item of a list, one request for each hundred as they are consumed."""
    token = ""
    while True:
        page = [*query, ("limit", str(PAGE_ITEMS))] + ([("page_token", token)] if token else [])
        items, token = read_page(kind, (connection.send(Call("GET", path, query=tuple(page)))).body)
        yield from items
        if not token:
            return
