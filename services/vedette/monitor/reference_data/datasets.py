"""Reference data as people have it: CSV, Parquet or JSON Lines in a file, read as columns chunk by chunk.

Rule: what the file holds is hostile: limits stand in `columns`, memory is bounded by a chunk, and what is no table is
`InvalidArgument` or `TooLarge` with words that name the line or the column and never the path.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal, Protocol

from vedette.core.errors import InvalidArgument, TooLarge, Unavailable
from vedette.monitor.reference_data.columns import Kinds
from vedette.profiles import Columns

Format = Literal["csv", "parquet", "jsonl"]
FORMATS: tuple[Format, ...] = ("csv", "parquet", "jsonl")
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
