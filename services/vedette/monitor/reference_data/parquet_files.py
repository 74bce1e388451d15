"""Parquet as columns: row groups are decoded page by page, texts stay coded by their dictionary.

Rule: nothing is decoded before the footer and every page's header have said how much memory it takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vedette.core.errors import InvalidArgument, TooLarge
from vedette.core.tensors import Array
from vedette.monitor.reference_data.arrow_texts import numbers_of, texts_of
from vedette.monitor.reference_data.columns import Kind, Kinds, arrow_errors, check_columns, check_rows, chunk_rows
from vedette.monitor.reference_data.parquet_pages import check_pages
from vedette.profiles import Columns

MAX_FOOTER = 16 * 1024 * 1024
_INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls an index that it saves along."""


class ParquetTable:
    """A `Dataset` of flat columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts: list[str] = []
        _check_footer(path)
        with self._opened() as file:
            check_rows(file.metadata.num_rows)
            schema = file.schema_arrow
            self.columns = check_columns([name for name in schema.names if not _INDEX.fullmatch(name)])
            self._texts = [f.name for f in schema if _is_text(f.type)]
            for field in schema:
                if field.name in self.columns and not _is_flat(field.type):
                    raise InvalidArgument(f"column {field.name[:80]!r} is {str(field.type)[:80]}, not numbers or text")
            with path.open("rb") as raw:
                check_pages(raw, file.metadata)

    def chunks(self, kinds: Kinds) -> Iterator[Columns]:
        wanted = [name for name in self.columns if name in kinds]
        with self._opened() as file:
            for batch in file.iter_batches(chunk_rows(len(wanted)), columns=wanted, use_threads=False):
                yield {name: _column(batch.column(name), kinds[name]) for name in wanted}

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with arrow_errors("the Parquet file cannot be read"):
            from pyarrow import parquet

            with (
                self._path.open("rb") as raw,
                parquet.ParquetFile(
                    raw,
                    buffer_size=1 << 16,
                    pre_buffer=False,
                    read_dictionary=self._texts,
                    thrift_string_size_limit=MAX_FOOTER,
                    thrift_container_size_limit=1_000_000,
                ) as file,
            ):
                yield file


def _check_footer(path: Path) -> None:
    """Refuse a file whose footer is not there or larger than is read whole."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        raw.seek(max(0, size - 8))
        tail = raw.read()
    if size < 12 or tail[4:] != b"PAR1":
        raise InvalidArgument("the data is no Parquet file, or its end is missing")
    footer = int.from_bytes(tail[:4], "little")
    if footer > size - 12:
        raise InvalidArgument("the Parquet file's footer is damaged")
    if footer > MAX_FOOTER:
        raise TooLarge(f"the Parquet file's footer has more than {MAX_FOOTER} bytes")


def _column(column: Any, kind: Kind) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_text(column.type):
        return texts_of(column) if kind == "text" else numbers_of(pc.cast(column, pa.string()))
    if pa.types.is_null(column.type) or pa.types.is_decimal(column.type) or column.null_count:
        column = pc.cast(column, pa.float64())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))


def _is_flat(kind: Any) -> bool:
    from pyarrow import types

    numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)
    return bool(numbers or types.is_null(kind) or _is_text(kind))
