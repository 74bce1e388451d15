"""Resident memory of this process: how much it is, and giving free pages back.

Rule: Linux only; where the C library is not glibc, giving back does nothing.
"""

from __future__ import annotations

import ctypes
import gc
import resource
from pathlib import Path

_PAGE = resource.getpagesize()
_STATM = Path("/proc/self/statm")


def virtual_bytes() -> int:
    """Address space of this process: what RLIMIT_AS counts."""
    return int(_STATM.read_text().split()[0]) * _PAGE


def resident_bytes() -> int:
    """Physical memory that this process holds."""
    return int(_STATM.read_text().split()[1]) * _PAGE


def release_free_pages() -> None:
    """Ask the allocator for its free pages.

    ONNX Runtime frees weights and arena when a session dies, but glibc keeps what was allocated in small
    pieces (optimised and repacked initialisers) on its own lists: without `malloc_trim` the resident size
    stays up until something else reuses it.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
