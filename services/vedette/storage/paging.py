"""Page tokens: where a list goes on, sealed so that nobody reads meaning into them.

Rule: a token is bound to one list with one set of filters. The seal finds damage and mix-ups; it is no
secret, and need not be one, because a token only ever says "after this key" of a list its holder may read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from vedette.core.errors import InvalidArgument

T = TypeVar("T")
Key = TypeVar("Key", str, int)

MAX_LIMIT = 1_000
_SEAL_BYTES = 9
_MAX_TOKEN = 1024


class Listing:
    """One list with its filters: reads the token a caller gives and makes the next one.

    Raises:
        InvalidArgument: `limit` is not from 1 to `MAX_LIMIT`.
    """

    def __init__(self, name: str, *, limit: int, filters: Sequence[object] = ()) -> None:
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidArgument(f"a page has 1 to {MAX_LIMIT} items, not {limit}")
        self.limit = limit
        self._scope = json.dumps([name, *filters], default=str).encode()

    def start(self, token: str, first: Key) -> Key:
        """The key after which the page begins; `first` for the empty token.

        Raises:
            InvalidArgument: the token was not made by this listing, or was changed since.
        """
        if not token:
            return first
        text = self._unseal(token)
        key = json.loads(text)
        if type(key) is not type(first):
            raise _bad_token()
        return key

    def page(self, items: list[T], key: Callable[[T], str | int]) -> tuple[list[T], str]:
        """Cut `items`, of which one more than `limit` was read, to a page and its next token."""
        if len(items) <= self.limit:
            return items, ""
        kept = items[: self.limit]
        return kept, self._seal(json.dumps(key(kept[-1]), ensure_ascii=False).encode())

    def _seal(self, text: bytes) -> str:
        return base64.urlsafe_b64encode(self._digest(text) + text).decode().rstrip("=")

    def _unseal(self, token: str) -> bytes:
        if len(token) > _MAX_TOKEN or not token.isascii():
            raise _bad_token()
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _bad_token() from None
        text = sealed[_SEAL_BYTES:]
        # Compared as text: base64 has spare bits at the end, so several tokens would decode to these bytes.
        if token != self._seal(text):
            raise _bad_token()
        return text

    def _digest(self, text: bytes) -> bytes:
        return hashlib.sha256(self._scope + b"\0" + text).digest()[:_SEAL_BYTES]


def _bad_token() -> InvalidArgument:
    return InvalidArgument("this page token does not belong to this list with these filters")
