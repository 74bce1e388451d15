"""Values of text columns: their types, found by parsing, and the bounded keys under which they are counted.

Rule: a text of any length costs bounded memory once it is a key, and bounded time to find its type.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import lru_cache
from typing import Literal

from vedette.core.tensors import Array

TypeName = Literal["Integral", "Fractional", "String", "Boolean", "Unknown"]
TYPES: tuple[TypeName, ...] = ("Integral", "Fractional", "String", "Boolean", "Unknown")
"""Deequ's inferred types, which are SageMaker's `inferred_type`; Unknown is a missing value."""

MAX_KEY = 200
"""Characters of a key; a longer text is counted under its beginning and a digest of the whole."""

_NUMBER_STARTS = frozenset("0123456789+-.")
_BOOLEANS = frozenset(("true", "false", "True", "False", "TRUE", "FALSE"))
_INTEGRAL = re.compile(r"[-+]?[0-9]+")
_FRACTIONAL = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 400
"""The longest float64 written in full has 327 characters before the point."""


def type_of(text: str) -> TypeName:
    """The type that a text parses to: decimal numbers, `true` and `false`; all else is String."""
    if text[:1] in _NUMBER_STARTS:
        return _number_type(text) if len(text) <= 32 else _parsed(text)
    return "Boolean" if text in _BOOLEANS else "String"


def _parsed(text: str) -> TypeName:
    if len(text) > _LONGEST_NUMBER:
        return "String"
    if _INTEGRAL.fullmatch(text):
        return "Integral"
    return "Fractional" if _FRACTIONAL.fullmatch(text) else "String"


_number_type = lru_cache(maxsize=16384)(_parsed)
"""Columns repeat their values, chunk after chunk."""


def number_of(text: str) -> float | None:
    """The number that a text of type Integral or Fractional is; infinite when it is too large."""
    return float(text) if type_of(text) in ("Integral", "Fractional") else None


def key_of(text: str) -> str:
    """The text itself, or where it is long or not Unicode, a bounded stand-in that differs where the texts differ."""
    if len(text) <= MAX_KEY and (text.isascii() or _is_unicode(text)):
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    beginning = text[: MAX_KEY - len(digest) - 1].encode("utf-8", "replace").decode()
    return f"{beginning}~{digest}"


def _is_unicode(text: str) -> bool:
    """Whether it holds no half of a surrogate pair, which JSON can smuggle in and UTF-8 cannot say."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def counted(values: Array) -> tuple[dict[str, int], int]:
    """How often each text occurs in an object array, and how many values are missing.

    Values should be str or None. Others are taken as the text that a person would write for them.
    """
    cells = values.tolist()
    try:
        counts = Counter(cells)
    except TypeError:  # lists and the like have no hash
        counts = Counter(map(written, cells))
    # 1, 1.0 and True are one key of a dict, so values that are not texts are written out before they are counted.
    if not set(map(type, counts)) <= {str, type(None)}:
        counts = Counter(map(written, cells))
    return counts, counts.pop(None, 0)


def written(value: object) -> str | None:
    """A value as text: whole floats without a point, NaN as missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
