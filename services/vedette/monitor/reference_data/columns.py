"""What every reader of reference data keeps to: kinds of columns, limits, and Arrow's errors as ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np

from vedette.core.errors import InvalidArgument, TooLarge
from vedette.core.tensors import Array

Kind = Literal["numeric", "text"]
Kinds = Mapping[str, Kind]
"""How columns are wanted; those that are not named here are not read."""

MAX_COLUMNS = 10_000
MAX_ROWS = 100_000_000
MAX_LINE = 16 * 1024 * 1024
"""Bytes of one row of text: a cell of 10 MB is read, a file without line breaks is not."""
MAX_TEXT = 4_096
"""Characters of a text that are kept, as of captured text (`tabulation`)."""
CHUNK_ROWS = 65_536
CHUNK_CELLS = 4_000_000


@contextmanager
def arrow_errors(what: str) -> Iterator[None]:
    """Whatever Arrow says of a file as the caller's error, shortened."""
    import pyarrow as pa  # 40 MB that only reading takes

    try:
        yield
    except pa.ArrowCapacityError as error:
        raise TooLarge(f"{what}: {_short(error)}") from None
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        if "straddling object" in str(error):
            raise TooLarge(f"{what}: a row has more than {MAX_LINE} bytes") from None
        raise InvalidArgument(f"{what}: {_short(error)}") from None
    except MemoryError:
        raise TooLarge(f"{what}: it does not fit into memory") from None


def check_columns(names: Sequence[str]) -> tuple[str, ...]:
    """The names, if they can be those of a table.

    Raises:
        InvalidArgument: one is empty or stands there twice.
        TooLarge: there are too many.
    """
    if len(names) > MAX_COLUMNS:
        raise TooLarge(f"the data has {len(names)} columns; at most {MAX_COLUMNS} are read")
    seen: set[str] = set()
    for place, name in enumerate(names, start=1):
        if not name:
            raise InvalidArgument(f"column {place} has no name (an index that was saved along?)")
        if name in seen:
            raise InvalidArgument(f"there are two columns {name[:80]!r}")
        seen.add(name)
    return tuple(names)


def check_rows(rows: int) -> None:
    """Refuse more rows than are read."""
    if rows > MAX_ROWS:
        raise TooLarge(f"the data has more than {MAX_ROWS} rows")


def chunk_rows(columns: int) -> int:
    """Rows of a chunk with so many columns."""
    return max(1, min(CHUNK_ROWS, CHUNK_CELLS // max(columns, 1)))


def objects(values: Sequence[object]) -> Array:
    """An object array of these values, whatever they are."""
    made = np.empty(len(values), object)
    made[:] = values
    return made


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
