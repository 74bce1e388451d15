"""Lists of the registry, walked page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from vedette.sdk.aio.connection import AsyncConnection, Call
from vedette.sdk.documents import read_page

PAGE_ITEMS = 100

Item = TypeVar("Item")


async def walk(
    connection: AsyncConnection, path: str, query: list[tuple[str, str]], kind: type[Item]
) -> AsyncIterator[Item]:
    """Every item of a list, one request for each hundred as they are consumed."""
    token = ""
    while True:
        page = [*query, ("limit", str(PAGE_ITEMS))] + ([("page_token", token)] if token else [])
        items, token = read_page(kind, (await connection.send(Call("GET", path, query=tuple(page)))).body)
        for item in items:
            yield item
        if not token:
            return
