"""The page headers of a Parquet file, read before anything is decoded: how much memory each page says it takes.

Rule: Arrow allocates what a page header asks for, up to 2 GB a page, so the headers are walked first: they must cover
exactly the bytes that the footer gives their column. Only the fields needed are read, of Thrift's compact protocol.
Source: parquet-format's `parquet.thrift` (PageHeader) and Thrift's `thrift-compact-protocol.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

from vedette.core.errors import InvalidArgument, TooLarge

MAX_PAGE_BYTES = 64 * 1024 * 1024
"""Of one page, unpacked; writers aim at 1 MiB, and a dictionary page is as large as its column's different texts."""
MAX_PAGE_VALUES = 64 * 1024 * 1024
"""Values of one page: some encodings take room for all of them at once."""
MAX_PAGES = 2_000_000
MAX_HEADER = 64 * 1024
"""Bytes of one page's header, which may hold its minimum and maximum."""
_TYPE, _UNPACKED, _PACKED = 1, 2, 3
_KINDS_OF_PAGES = (5, 7, 8)
"""Fields of the header that describe data, dictionary and newer data pages; each begins with a count of values."""
_DEPTH = 8
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 0, 1, 2, 3, 7, 8, 12
_INTEGERS = (4, 5, 6)


def check_pages(file: BinaryIO, metadata: Any) -> None:
    """Walk the pages of every column of a file whose footer is `metadata` (pyarrow's).

    Raises:
        TooLarge: a page takes more than `MAX_PAGE_BYTES`, or there are too many.
        InvalidArgument: the pages do not fit the footer.
    """
    pages = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for place in range(row_group.num_columns):
            pages += _check_chunk(file, row_group.column(place), MAX_PAGES - pages)


def _check_chunk(file: BinaryIO, chunk: Any, room: int) -> int:
    """Walk one column of a row group; returns how many pages it has."""
    at, count = chunk.data_page_offset, 0
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    end = at + chunk.total_compressed_size
    while at < end:
        file.seek(at)
        page = _page(file.read(min(MAX_HEADER, end - at)))
        if page.unpacked > MAX_PAGE_BYTES or page.values > MAX_PAGE_VALUES:
            raise TooLarge(f"a page of column {chunk.path_in_schema[:80]!r} takes more than {MAX_PAGE_BYTES} bytes")
        at += page.length + page.packed
        count += 1
        if count > room:
            raise TooLarge(f"the Parquet file has more than {MAX_PAGES} pages")
    if at != end:
        raise InvalidArgument("the Parquet file's pages do not fit its footer")
    return count


@dataclass(frozen=True, slots=True)
class _Page:
    unpacked: int
    packed: int
    values: int
    length: int
    """Bytes of the header."""


def _page(data: bytes) -> _Page:
    reader = _Compact(data)
    try:
        fields = reader.struct(0)
    except IndexError:
        raise InvalidArgument("the Parquet file has a damaged page") from None
    unpacked, packed = fields.get(_UNPACKED, -1), fields.get(_PACKED, -1)
    if _TYPE not in fields or unpacked < 0 or packed < 0:
        raise InvalidArgument("the Parquet file has a damaged page")
    return _Page(unpacked, packed, max(fields.get(-kind, 0) for kind in _KINDS_OF_PAGES), reader.at)


class _Compact:
    """Reads Thrift's compact protocol. IndexError past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self, depth: int) -> dict[int, int]:
        """The integer fields of a struct by id, and under minus its id the first field of a struct in it."""
        if depth > _DEPTH:
            raise InvalidArgument("the Parquet file has a damaged page")
        fields: dict[int, int] = {}
        last = 0
        while True:
            head = self._byte()
            kind = head & 0x0F
            if kind == _STOP:
                return fields
            last = last + (head >> 4) if head >> 4 else self._zigzag()
            if kind in _INTEGERS:
                fields[last] = self._zigzag()
            elif kind == _STRUCT:
                fields[-last] = self.struct(depth + 1).get(1, 0)
            else:
                self._skip(kind)

    def _skip(self, kind: int) -> None:
        if kind in (_TRUE, _FALSE):
            return
        if kind in (_BYTE, _DOUBLE):
            self._forward(1 if kind == _BYTE else 8)
        elif kind == _BINARY:
            self._forward(self._varint())
        else:  # no field of a page header is a list, a set or a map
            raise InvalidArgument("the Parquet file has a damaged page")

    def _forward(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise IndexError

    def _byte(self) -> int:
        value = self._data[self.at]
        self.at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise IndexError

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
