"""Profiles as bytes: a magic, a version, a checksum, then zlib over MessagePack.

Rule: a version once written stays readable; hostile bytes are DataLoss and cost bounded memory and time. Integers of
any size are little-endian two's complement, arrays are little-endian too.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from vedette.core.errors import DataLoss
from vedette.core.tensors import Array
from vedette.profiles.bins import Bins
from vedette.profiles.categories import Categories
from vedette.profiles.column import ColumnProfile
from vedette.profiles.distinct import MAX_RANK, REGISTERS, Distinct
from vedette.profiles.layout import ColumnLayout, Kind, Layout
from vedette.profiles.moments import Moments
from vedette.profiles.quantiles import Quantiles
from vedette.profiles.sample import RowSample
from vedette.profiles.texts import MAX_KEY, TYPES

if TYPE_CHECKING:
    from vedette.profiles.profile import Profile

VERSION = 1
MAX_BYTES = 256 << 20
"""Of a profile once inflated: some 5,000 columns."""

_MAGIC = b"VDPF"
_HEAD = struct.Struct("<4sHxxI")
"""Magic, version, CRC-32 of the rest."""
_LARGEST_SUM = 600
"""Bytes of a sum: 2**63 squares of the largest float take 4,290 bits."""

Count = Annotated[int, Meta(ge=0, le=1 << 62)]
Name = Annotated[str, Meta(max_length=MAX_KEY)]


class _Column(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    kind: Kind
    edges: bytes
    known: list[Name]
    rows: Count
    missing: Count
    infinite: Count
    types: list[Count]
    count: Count
    total: bytes
    squares: bytes
    minimum: float
    maximum: float
    sketch: bytes
    bins: bytes
    below: Count
    above: Count
    known_counts: list[Count]
    fresh: dict[Name, Count]
    other: Count
    limit: Count
    registers: bytes


class _Profile(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    rows: Count
    fixed: bool
    columns: dict[str, _Column]
    unknown: dict[Name, Count]
    limit: Count
    hashes: bytes
    sample: dict[str, bytes | list[Name | None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a profile is made of."""

    layout: Layout | None
    rows: int
    columns: dict[str, ColumnProfile]
    unknown_columns: dict[str, int]
    sample: RowSample


def encode(profile: Profile, compression: int) -> bytes:
    """The profile as bytes of the current version."""
    document = _Profile(
        rows=profile.rows,
        fixed=profile.layout is not None,
        columns={name: _column(column) for name, column in profile.columns.items()},
        unknown=profile.unknown_columns,
        limit=profile.sample.limit,
        hashes=profile.sample.hashes.astype("<u8").tobytes(),
        sample={name: _values(column) for name, column in profile.sample.columns().items()},
    )
    body = zlib.compress(msgspec.msgpack.encode(document), compression)
    return _HEAD.pack(_MAGIC, VERSION, zlib.crc32(body)) + body


def _column(column: ColumnProfile) -> _Column:
    moments, categories = column.moments, column.categories
    return _Column(
        kind=column.kind,
        edges=column.bins.edges.astype("<f8").tobytes(),
        known=list(column.layout.categories),
        rows=column.rows,
        missing=column.missing,
        infinite=column.infinite,
        types=[column.types[name] for name in TYPES],
        count=moments.count,
        total=_integer_bytes(moments.total),
        squares=_integer_bytes(moments.squares),
        minimum=moments.minimum,
        maximum=moments.maximum,
        sketch=column.quantiles.to_bytes(),
        bins=column.bins.counts.astype("<i8").tobytes(),
        below=column.bins.below,
        above=column.bins.above,
        known_counts=[categories.known[name] for name in column.layout.categories],
        fresh=categories.fresh,
        other=categories.other,
        limit=categories.limit,
        registers=column.distinct.registers.tobytes(),
    )


def _integer_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _values(column: Array) -> bytes | list[str | None]:
    if column.dtype.kind == "O":
        values: list[Any] = column.tolist()
        return values
    return column.astype("<f8").tobytes()


def decode(data: bytes) -> Parts:
    """The parts of the profile in `data`.

    Raises:
        DataLoss: damaged, or of an unknown version.
    """
    if len(data) < _HEAD.size:
        raise DataLoss("the profile is cut off")
    magic, version, checksum = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != VERSION:
        raise DataLoss("these bytes are not a profile of a known version")
    body = memoryview(data)[_HEAD.size :]
    if zlib.crc32(body) != checksum:
        raise DataLoss("the profile does not match its checksum")
    try:
        return _parts(msgspec.msgpack.decode(_inflated(body), type=_Profile))
    except (msgspec.DecodeError, zlib.error, ValueError, OverflowError) as error:
        raise DataLoss("the profile is damaged") from error


def _inflated(body: memoryview) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(body, MAX_BYTES)
    if not stream.eof or stream.unused_data:
        raise DataLoss("the profile is cut off or too large")
    return data


def _parts(document: _Profile) -> Parts:
    columns = {name: _read_column(column) for name, column in document.columns.items()}
    layout = Layout({name: column.layout for name, column in columns.items()}) if document.fixed else None
    hashes = _array(document.hashes, np.uint64)
    sample = {name: _cells(values) for name, values in document.sample.items()}
    _check(len(hashes) <= document.limit and bool(np.all(hashes[1:] >= hashes[:-1])))
    _check(all(len(values) == len(hashes) for values in sample.values()))
    _check(all(column.rows <= document.rows for column in columns.values()))
    return Parts(layout, document.rows, columns, document.unknown, RowSample(document.limit, sample, hashes))


def _check(consistent: bool) -> None:  # noqa: FBT001 - an assertion that is never switched off
    if not consistent:
        raise DataLoss("the profile contradicts itself")


def _cells(values: bytes | list[str | None]) -> Array:
    if isinstance(values, bytes):
        return _array(values, np.float64)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _array(data: bytes, kind: type[np.generic]) -> NDArray[Any]:
    return np.frombuffer(data, dtype=np.dtype(kind).newbyteorder("<")).astype(kind)


def _read_column(document: _Column) -> ColumnProfile:
    edges = _array(document.edges, np.float64)
    _check(bool(np.isfinite(edges).all()) and bool((np.diff(edges) > 0).all()) and len(edges) != 1)
    column = ColumnProfile(ColumnLayout(document.kind, tuple(edges.tolist()), tuple(document.known)))
    column.rows, column.missing, column.infinite = document.rows, document.missing, document.infinite
    column.types = dict(zip(TYPES, document.types, strict=True))
    column.moments = _moments(document)
    column.quantiles = Quantiles.from_bytes(document.sketch)
    column.bins = Bins(edges, _array(document.bins, np.int64), document.below, document.above)
    known = dict(zip(document.known, document.known_counts, strict=True))
    column.categories = Categories(known, document.fresh, document.other, document.limit)
    column.distinct = Distinct(_array(document.registers, np.uint8))
    _check_counts(column)
    return column


def _moments(document: _Column) -> Moments:
    _check(len(document.total) <= _LARGEST_SUM and len(document.squares) <= _LARGEST_SUM)
    total, squares = (int.from_bytes(part, "little", signed=True) for part in (document.total, document.squares))
    moments = Moments(document.count, total, squares, document.minimum, document.maximum)
    if moments.count:
        _check(math.isfinite(moments.minimum) and math.isfinite(moments.maximum))
        _check(moments.minimum <= moments.maximum and moments.count * squares >= total**2)
    else:
        _check(total == 0 == squares and math.isnan(moments.minimum) and math.isnan(moments.maximum))
    return moments


def _check_counts(column: ColumnProfile) -> None:
    """What holds for every profile that was folded: the ways to count a column add up to the same rows."""
    bins, registers, categories = column.bins, column.distinct.registers, column.categories
    _check(len(bins.counts) == max(0, len(bins.edges) - 1) and bool((bins.counts >= 0).all()))
    _check(not len(bins.edges) or bins.total == column.moments.count)
    _check(column.quantiles.count == column.moments.count)
    _check(column.moments.count + column.infinite + column.missing <= column.rows)
    _check(sum(column.types.values()) == column.rows and column.types["Unknown"] == column.missing)
    _check(len(registers) == REGISTERS and int(registers.max()) <= MAX_RANK)
    _check(len(categories.fresh) <= categories.limit and len(categories.known) == len(column.layout.categories))
    _check(not categories.known.keys() & categories.fresh.keys())
    _check(categories.total == (column.present if column.kind == "text" else 0))
