"""Profiles as bytes: a magic, a version, a checksum, then zlib over MessagePack.

Rule: a version once written stays readable; hostile bytes are DataLoss and cost bounded memory and time.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from vedette.core.errors import DataLoss
from vedette.core.tensors import Array
from vedette.profiles.bins import Bins
from vedette.profiles.categories import Categories
from vedette.profiles.column import ColumnProfile
from vedette.profiles.distinct import Distinct
from vedette.profiles.layout import ColumnLayout, Kind, Layout
from vedette.profiles.moments import Moments
from vedette.profiles.profile import Profile
from vedette.profiles.quantiles import Quantiles
from vedette.profiles.sample import RowSample
from vedette.profiles.texts import TYPES

VERSION = 1
_MAGIC = b"VDPF"
_HEAD = struct.Struct("<4sHxxI")
"""Magic, version, CRC-32 of the rest."""
MAX_BYTES = 256 << 20
"""Of a profile once inflated."""


class _Column(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    kind: Kind
    edges: bytes
    known: list[str]
    rows: int
    missing: int
    infinite: int
    types: list[int]
    count: int
    total: bytes
    squares: bytes
    minimum: float
    maximum: float
    sketch: bytes
    bins: bytes
    below: int
    above: int
    known_counts: list[int]
    fresh: dict[str, int]
    other: int
    registers: bytes


class _Profile(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    rows: int
    fixed: bool
    names: list[str]
    columns: list[_Column]
    unknown: dict[str, int]
    sample_limit: int
    hashes: bytes
    sample: dict[str, bytes | list[str | None]]


def encode(profile: Profile) -> bytes:
    """The profile as bytes of the current version."""
    document = _Profile(
        rows=profile.rows,
        fixed=bool(profile.layout.columns),
        names=list(profile.columns),
        columns=[_column(column) for column in profile.columns.values()],
        unknown=profile.unknown_columns,
        sample_limit=profile.sample.limit,
        hashes=profile.sample.hashes.astype("<u8").tobytes(),
        sample={name: _values(column) for name, column in profile.sample.columns().items()},
    )
    body = zlib.compress(msgspec.msgpack.encode(document), 1)
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
        registers=column.distinct.registers.tobytes(),
    )


def _integer_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _values(column: Array) -> bytes | list[str | None]:
    if column.dtype.kind == "O":
        values: list[Any] = column.tolist()
        return values
    return column.astype("<f8").tobytes()


def decode(data: bytes) -> Profile:
    """The profile in `data`.

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
        return _profile(msgspec.msgpack.decode(_inflated(body), type=_Profile))
    except DataLoss:
        raise
    except Exception as error:
        raise DataLoss("the profile is damaged") from error


def _inflated(body: memoryview) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(body, MAX_BYTES)
    if not stream.eof:
        raise DataLoss("the profile is cut off or too large")
    return data


def _profile(document: _Profile) -> Profile:
    columns = {name: _read_column(column) for name, column in zip(document.names, document.columns, strict=True)}
    layout = Layout({name: column.layout for name, column in columns.items()}) if document.fixed else Layout()
    profile = Profile(layout, sample_rows=document.sample_limit)
    profile.rows, profile.columns, profile.unknown_columns = document.rows, columns, document.unknown
    hashes = np.frombuffer(document.hashes, dtype="<u8").astype(np.uint64)
    profile.sample = RowSample.of(
        {name: _array(v) for name, v in document.sample.items()}, hashes, document.sample_limit
    )
    return profile


def _array(values: bytes | list[str | None]) -> Array:
    if isinstance(values, bytes):
        return np.frombuffer(values, dtype="<f8").astype(np.float64)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _read_column(document: _Column) -> ColumnProfile:
    edges = np.frombuffer(document.edges, dtype="<f8").astype(np.float64)
    column = ColumnProfile(ColumnLayout(document.kind, tuple(edges.tolist()), tuple(document.known)))
    column.rows, column.missing, column.infinite = document.rows, document.missing, document.infinite
    column.types = dict(zip(TYPES, document.types, strict=True))
    total, squares = (int.from_bytes(part, "little", signed=True) for part in (document.total, document.squares))
    column.moments = Moments(document.count, total, squares, document.minimum, document.maximum)
    column.quantiles = Quantiles.from_bytes(document.sketch)
    counts: NDArray[np.int64] = np.frombuffer(document.bins, dtype="<i8").astype(np.int64)
    column.bins = Bins(edges, counts, document.below, document.above)
    known = dict(zip(document.known, document.known_counts, strict=True))
    column.categories = Categories(known, document.fresh, document.other)
    column.distinct = Distinct(np.frombuffer(document.registers, dtype=np.uint8).copy())
    return column
