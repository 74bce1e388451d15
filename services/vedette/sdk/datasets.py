"""Reference data to send: a file, a DataFrame or columns, as one stream of bytes in a format that the monitor reads.

Rule: a file is sent as it is; only data in memory is written, as CSV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from vedette.core.errors import InvalidArgument

FORMATS = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Dataset:
    """Bytes to send and what they are."""

    format: str
    size: int
    path: Path | None = None
    content: bytes = b""

    def chunks(self) -> Iterator[bytes]:
        """The content, at most `CHUNK_BYTES` at a time. Blocks on the disk."""
        if self.path is None:
            yield from (self.content[at : at + CHUNK_BYTES] for at in range(0, len(self.content), CHUNK_BYTES))
            return
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def dataset_of(data: str | PathLike[str] | Any, format: str = "") -> Dataset:
    """What `data` stands for: a path, something with columns (a DataFrame, a mapping), or bytes with a `format`.

    Raises:
        InvalidArgument: a file that is not there, an unknown format, or columns of different lengths.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return Dataset(_known(format, "bytes"), len(data), content=bytes(data))
    if isinstance(data, str | PathLike):
        path = Path(data)
        if not path.is_file():
            raise InvalidArgument(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
        return Dataset(_known(format or FORMATS.get(path.suffix.lower(), ""), str(path)), path.stat().st_size, path)
    return _written(data)


def _known(format: str, what: str) -> str:
    if format not in FORMATS.values():
        raise InvalidArgument(
            f"{what}: the format must be csv, parquet or jsonl" + (f", not {format!r}" * bool(format))
        )
    return format


def _written(data: Any) -> Dataset:
    columns = _columns(data)
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise InvalidArgument("reference data needs columns, all of one length")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*([_cell(value) for value in values] for values in columns.values()), strict=True))
    content = text.getvalue().encode()
    return Dataset("csv", len(content), content=content)


def _columns(data: Any) -> dict[str, Sequence[Any]]:
    if hasattr(data, "columns") and hasattr(data, "to_dict"):  # a DataFrame, without importing pandas
        if not data.columns.is_unique:
            raise InvalidArgument("the DataFrame has two columns of one name")
        return {str(name): data[name].tolist() for name in data.columns}
    if not isinstance(data, Mapping):
        raise InvalidArgument("reference data is a path, a DataFrame or a mapping of columns")
    columns: dict[str, Sequence[Any]] = {}
    for name, values in data.items():
        if not isinstance(values, Iterable) or isinstance(values, str | bytes):
            raise InvalidArgument(f"column {str(name)!r} is no sequence of values")
        columns[str(name)] = list(values)
    return columns


def _cell(value: Any) -> object:
    """Missing values are empty cells."""
    missing = value is None or type(value).__name__ == "NAType" or value != value  # NaN is not itself
    return "" if missing else value
