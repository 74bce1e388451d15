"""What the C library's allocator keeps of memory that is free again.

Rule: called before a worker has threads; where the C library is not glibc it does nothing.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of mallopt(3), as glibc's malloc.h numbers them."""
_ARENAS = 2
_LARGE_BYTES = 1 << 20


def keep_little() -> None:
    """Give large blocks back as soon as they are free, and have threads share their small ones.

    By itself glibc learns from freed blocks of up to 32 MiB to keep such on its heaps, of which eight for each CPU
    may be, and Arrow's own allocator keeps more: under 18,000 rows a second of 30 features the monitor held 440 MB, and
    560 MB for good once ten texts of 10 MB had come; like this it holds 350 MB, and 370 MB after them.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # read when Arrow is imported
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (
            (_ARENA_MAX, _ARENAS),
            (_MMAP_THRESHOLD, _LARGE_BYTES),
            (_TRIM_THRESHOLD, _LARGE_BYTES),
        ):
            mallopt(parameter, value)
