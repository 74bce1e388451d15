"""Reading and writing long texts beside the event loop, so that one long body holds up nobody else.

Rule: short work stays where it is: a hop to a thread costs more than reading a few kilobytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from vedette.codec.binary import byte_size
from vedette.core.tensors import Tensor

SHORT = 32 * 1024
"""Bytes of text that the slowest of our decoders reads in 2 ms (CSV, measured at 16 MB/s)."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def beside_the_loop(size: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Do the work here when `size` bytes of text are short, else in a thread."""
    if size <= SHORT:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def text_size(tensors: Sequence[Tensor]) -> int:
    """About how long the tensors get as text."""
    return sum(byte_size(tensor) * 2 for tensor in tensors)
