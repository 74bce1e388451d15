"""Reference data as people have it: CSV, Parquet or JSON Lines in a file, read as columns chunk by chunk.

Rule: what the file holds is hostile: every limit stands here, memory is bounded by a chunk, and what is no table is
`InvalidArgument` or `TooLarge` with words that name the line or the column and never the path.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from vedette.core.errors import InvalidArgument, TooLarge, Unavailable
from vedette.core.tensors import Array
from vedette.profiles import Columns

Format = Literal["csv", "parquet", "jsonl"]
Kind = Literal["numeric", "text"]
Kinds = Mapping[str, Kind]
"""How columns are wanted; those that are not named here are not read."""

FORMATS: tuple[Format, ...] = ("csv", "parquet", "jsonl")
MAX_COLUMNS = 10_000
MAX_ROWS = 100_000_000
MAX_LINE = 16 * 1024 * 1024
"""Bytes of one row of text: a cell of 10 MB is read, a file without line breaks is not."""
MAX_TEXT = 4_096
"""Characters of a text that are kept, as of captured text (`tabulation`)."""
CHUNK_ROWS = 65_536
CHUNK_CELLS = 4_000_000
SPOOL_BYTES = 1 << 20


class Dataset(Protocol):
    """A table in a file, which can be read as often as needed."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns in order."""

    def chunks(self, kinds: Kinds) -> Iterator[Columns]:
        """The rows, columns by name. Blocks.

        A numeric column is an array of numbers (NaN: missing), or of texts where a chunk holds something else; a
        text column is an object array of `str | None`, or numbers where the file has numbers.
        """


def open_dataset(path: Path, format: str, *, names: Sequence[str] = (), header: bool | None = None) -> Dataset:
    """The table in a file. `names` are the columns that are expected, in order: a CSV without header has them.

    `header` says whether the first line of a CSV is one; None: it is, unless it holds numbers and no expected name.

    Raises:
        InvalidArgument: the format is none of `FORMATS`, or the file is not of this format or empty.
        TooLarge: it has more than `MAX_COLUMNS` columns or `MAX_ROWS` rows.
    """
    # Each brings a parser of its own, so only the one that is asked for is loaded.
    if format == "csv":
        from vedette.monitor.reference_data.csv_files import CsvFile

        return CsvFile(path, names=names, header=header)
    if format == "parquet":
        from vedette.monitor.reference_data.parquet_files import ParquetTable

        return ParquetTable(path)
    if format == "jsonl":
        from vedette.monitor.reference_data.jsonl_files import JsonLinesFile

        return JsonLinesFile(path, names=names)
    raise InvalidArgument(f"format {format[:40]!r} is none of {', '.join(FORMATS)}")


@asynccontextmanager
async def spooled(chunks: AsyncIterable[bytes], folder: Path, *, max_bytes: int) -> AsyncIterator[Path]:
    """The stream as a temporary file below `folder`, which is gone at the end of the block.

    Raises:
        TooLarge: more than `max_bytes` came.
        InvalidArgument: nothing came.
    """
    with disk_errors(), tempfile.TemporaryDirectory(dir=folder, prefix="dataset-") as place:
        path = Path(place) / "data"
        with path.open("wb") as file:
            received, waiting = 0, bytearray()
            async for chunk in chunks:
                received += len(chunk)
                if received > max_bytes:
                    raise TooLarge(f"the data is over the limit of {max_bytes} bytes")
                waiting += chunk
                if len(waiting) >= SPOOL_BYTES:
                    await asyncio.to_thread(file.write, bytes(waiting))
                    waiting.clear()
            await asyncio.to_thread(file.write, bytes(waiting))
        if not received:
            raise InvalidArgument("the data is empty")
        yield path


@contextmanager
def disk_errors() -> Iterator[None]:
    """A disk that is full or failing as an error that a caller may read."""
    try:
        yield
    except OSError as error:
        raise Unavailable("the monitor's disk is full or failing; nothing was stored") from error


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
