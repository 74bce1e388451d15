"""CSV as columns: everything is read as text and made numbers column by column, chunk by chunk.

Rule: a column is what the whole model says it is, not what its first rows look like: a chunk of a numeric column that
holds something else comes as texts, so that nothing is lost and every value is counted by its own type.
Measured: 470,000 rows of 30 numbers a second on one core, against 280,000 with Arrow's own parsing of floats.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vedette.core.errors import InvalidArgument, TooLarge
from vedette.core.tensors import Array
from vedette.monitor.reference_data.arrow_texts import numbers_of, texts_of
from vedette.monitor.reference_data.columns import (
    MAX_COLUMNS,
    MAX_LINE,
    Kind,
    Kinds,
    arrow_errors,
    check_columns,
    check_rows,
    chunk_rows,
)
from vedette.profiles import Columns

BLOCK_BYTES = 2 * 1024 * 1024
"""Arrow reads 32 blocks ahead of what it parses, whatever it is told."""
HEAD_BYTES = 4 * 1024 * 1024


class CsvFile:
    """A `Dataset`: UTF-8, commas, double quotes, with or without header."""

    def __init__(self, path: Path, *, names: Sequence[str] = (), header: bool | None = None) -> None:
        self._path = path
        first = _first_row(path)
        self._header = _is_header(first, names) if header is None else header
        self.columns = check_columns(first if self._header else _positional(first, names))

    def chunks(self, kinds: Kinds) -> Iterator[Columns]:
        wanted = [name for name in self.columns if name in kinds]
        with arrow_errors("the CSV cannot be read"):
            for batch in self._batches(wanted):
                step = chunk_rows(len(wanted))
                for start in range(0, batch.num_rows, step):
                    part = batch.slice(start, step)
                    yield {name: column_of(part.column(name), kinds[name]) for name in wanted}

    def _batches(self, wanted: Sequence[str]) -> Iterator[Any]:
        """Batches of texts; where a row does not fit into a small block, the rest in large ones."""
        import pyarrow as pa

        rows = 0
        for block_bytes in (BLOCK_BYTES, MAX_LINE):
            skip = rows
            try:
                for batch in self._blocks(wanted, block_bytes):
                    fresh = batch.slice(min(skip, batch.num_rows))
                    skip -= batch.num_rows - fresh.num_rows
                    rows += fresh.num_rows
                    check_rows(rows)
                    yield fresh
            except pa.ArrowInvalid as error:
                if block_bytes == MAX_LINE or "straddling" not in str(error):
                    raise
            else:
                return

    def _blocks(self, wanted: Sequence[str], block_bytes: int) -> Iterator[Any]:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        read = arrow_csv.ReadOptions(
            block_size=block_bytes, use_threads=False, column_names=None if self._header else list(self.columns)
        )
        convert = arrow_csv.ConvertOptions(
            include_columns=list(wanted),
            column_types=dict.fromkeys(self.columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        )
        parse = arrow_csv.ParseOptions(newlines_in_values=True)
        # Opened by us, so that no error can name the path.
        with self._path.open("rb") as file, arrow_csv.open_csv(file, read, parse, convert) as reader:
            yield from reader


def column_of(column: Any, kind: Kind) -> Array:
    """A column of texts as the array of a chunk."""
    return texts_of(column) if kind == "text" else numbers_of(column)


def _first_row(path: Path) -> list[str]:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    text = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        row = next(csv.reader(io.StringIO(text.decode(head), newline=""), strict=True), [])
    except UnicodeDecodeError:
        raise InvalidArgument("the CSV is not valid UTF-8") from None
    except csv.Error as error:
        raise InvalidArgument(f"the CSV's first line cannot be read: {error}") from None
    if not row:
        raise InvalidArgument("the CSV is empty or begins with an empty line")
    if len(row) > MAX_COLUMNS or (len(head) == HEAD_BYTES and b"\n" not in head):
        raise TooLarge(f"the CSV's first line has more than {MAX_COLUMNS} columns or {HEAD_BYTES} bytes")
    return row


def _is_header(first: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a first row names columns: it holds an expected name, or no number at all.

    A row 0, 1, 2, ... counts as a header as well: it is what a data frame without names is saved with.
    """
    if set(first) & set(names) or list(first) == [str(place) for place in range(len(first))]:
        return True
    return not any(map(_is_number, first))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _positional(first: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    if names and len(names) != len(first):
        raise InvalidArgument(
            f"the CSV has no header and {len(first)} columns, where the model has {len(names)} features: add a header"
        )
    return names or [f"_c{place}" for place in range(len(first))]  # Spark's names, as SageMaker's documents have them
