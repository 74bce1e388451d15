"""What kind of value a text is, and the bounded key under which it is counted.

Rule: a text of any length costs bounded memory once it is a key; its type is found by parsing, once per text.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Literal

TypeName = Literal["Integral", "Fractional", "String", "Boolean", "Unknown"]
TYPES: tuple[TypeName, ...] = ("Integral", "Fractional", "String", "Boolean", "Unknown")
"""Deequ's inferred types, SageMaker's `inferred_type`; Unknown counts missing values."""

MAX_KEY = 200
"""Characters of a key; a longer text is its beginning and a digest of the whole."""

_INTEGRAL = re.compile(r"[ ]*[-+]?[0-9]+[ ]*")
_FRACTIONAL = re.compile(r"[ ]*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[ ]*")
_LONGEST_NUMBER = 400


def type_of(text: str) -> TypeName:
    """The type that a text parses to."""
    return _parsed(text) if len(text) <= 32 else _type(text)


def _type(text: str) -> TypeName:
    if len(text) > _LONGEST_NUMBER:
        return "String"
    if _INTEGRAL.fullmatch(text):
        return "Integral"
    if _FRACTIONAL.fullmatch(text):
        return "Fractional"
    return "Boolean" if text in ("true", "false", "True", "False", "TRUE", "FALSE") else "String"


_parsed = lru_cache(maxsize=65536)(_type)


def key_of(text: str) -> str:
    """The text itself, or a bounded stand-in that differs where the texts differ."""
    if len(text) <= MAX_KEY:
        return text
    return f"{text[: MAX_KEY - 33]}~{digest_of(text, 16).hex()}"


def digest_of(text: str, size: int) -> bytes:
    """`size` bytes that depend on all of the text, the same in every process."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
