"""JSON documents as every control route takes and gives them.

Rule: an unknown key is an error, and numbers are numbers: nothing is guessed from text.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
Integer = Annotated[int, Field(strict=True, ge=-(2**31), lt=2**31)]
Positive = Annotated[int, Field(strict=True, ge=1, lt=2**31)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Limit = Annotated[int, Query(ge=1, le=100)]
Token = Annotated[str, Query(max_length=1000)]


class Document(BaseModel):
    """A JSON object whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Page(BaseModel, Generic[Item]):
    """One page of a list; an empty token follows the last."""

    items: list[Item]
    next_page_token: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
