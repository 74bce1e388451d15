"""Profiles as bytes: the version on record stays readable, damage is DataLoss, work is bounded."""

from __future__ import annotations

import random
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from vedette.core.errors import DataLoss
from vedette.profiles import Layout, Profile, wire

GOLDEN = Path(__file__).with_name("profiles_v1.bin")
"""Written once by version 1, by `golden()` below; a new version adds a file and keeps this one."""


def golden() -> Profile:
    """Two windows over a baseline: numbers with every oddity, texts with a new category, an unknown column."""
    text = np.empty(6, dtype=object)
    text[:] = ["red", "green", "red", None, "1", "ü" * 300]
    baseline = Profile()
    baseline.fold({"x": np.linspace(0.1, 9.7, 400), "t": np.array(["red", "green"] * 200, dtype=object)})
    window = Profile(Layout.of(baseline), sample_rows=5)
    window.fold({"x": np.array([0.1, np.nan, np.inf, -3.0, 1e300, 5.0]), "t": text, "new": np.ones(6)}, list("abcdef"))
    window.fold({"x": np.arange(3_000.0)}, [f"k{row}" for row in range(3_000)])
    return window


def test_a_profile_of_version_1_reads_as_it_was_written() -> None:
    """The file was written by version 1 of the format: everything in it still means the same."""
    profile, now = Profile.from_bytes(GOLDEN.read_bytes()), golden()
    x, t = profile.columns["x"], profile.columns["t"]
    assert (profile.rows, profile.unknown_columns, profile.layout) == (3_006, {"new": 6}, now.layout)
    assert (x.rows, x.missing, x.infinite) == (3_006, 1, 1)
    assert repr(x.moments) == repr(now.columns["x"].moments)
    assert x.moments.sum == pytest.approx(1e300)
    assert (x.bins.counts.tolist(), x.bins.below, x.bins.above) == (
        now.columns["x"].bins.counts.tolist(),
        2,
        now.columns["x"].bins.above,
    )
    assert t.categories.known == {"green": 1, "red": 2}
    assert list(t.categories.fresh.values()) == [1, 1]
    assert t.types == {"Integral": 1, "Fractional": 0, "String": 4, "Boolean": 0, "Unknown": 1}
    assert x.distinct.registers.tolist() == now.columns["x"].distinct.registers.tolist()
    assert t.distinct.registers.tolist() == now.columns["t"].distinct.registers.tolist()
    assert profile.sample.hashes.tolist() == now.sample.hashes.tolist()
    assert repr(profile.sample.columns()) == repr(now.sample.columns())
    assert x.quantiles.count == 3_004
    assert x.quantiles.quantile([0.5])[0] == pytest.approx(1_500, abs=10)


def test_an_old_profile_merges_with_a_new_one() -> None:
    """Baselines are read for years."""
    merged = Profile.from_bytes(GOLDEN.read_bytes()).merge(golden())
    assert (merged.rows, merged.columns["x"].moments.count) == (6_012, 6_008)


@pytest.mark.parametrize("compression", [0, 1, 9])
def test_bytes_bring_back_the_same_profile(compression: int) -> None:
    """To the byte, at every compression."""
    data = golden().to_bytes(compression=compression)
    assert Profile.from_bytes(data).to_bytes(compression=compression) == data


def test_an_empty_profile_is_one_too() -> None:
    """No rows, no columns; with and without a layout."""
    for profile in (Profile(), Profile(Layout({}))):
        back = Profile.from_bytes(profile.to_bytes())
        assert (back.rows, back.columns, back.layout) == (0, {}, profile.layout)


def test_every_flipped_or_missing_byte_is_data_loss() -> None:
    """The checksum sees it."""
    data = golden().to_bytes()
    rng = random.Random(1)
    for at in [*range(12), *(rng.randrange(len(data)) for _ in range(300))]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << rng.randrange(8)
        if 6 <= at < 8:
            continue  # padding
        with pytest.raises(DataLoss):
            Profile.from_bytes(bytes(damaged))
        with pytest.raises(DataLoss):
            Profile.from_bytes(data[:at])


def sealed(content: bytes, version: int = 1) -> bytes:
    """Bytes with a checksum that fits, as someone would make them who wants to be read."""
    return struct.pack("<4sHxxI", b"VDPF", version, zlib.crc32(content)) + content


def test_an_unknown_version_is_named_as_such() -> None:
    """What a newer release wrote."""
    with pytest.raises(DataLoss, match="known version"):
        Profile.from_bytes(sealed(b"", version=2))


def test_content_that_inflates_without_end_is_refused_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that claims to be a large one."""
    monkeypatch.setattr(wire, "MAX_BYTES", 1 << 20)
    bomb = zlib.compress(bytes(50 << 20), 9)
    started = time.perf_counter()
    with pytest.raises(DataLoss, match="too large"):
        Profile.from_bytes(sealed(bomb))
    assert time.perf_counter() - started < 1


def document() -> list[Any]:
    """The golden profile as the plain lists of its MessagePack."""
    content: list[Any] = msgspec.msgpack.decode(zlib.decompress(golden().to_bytes()[12:]))
    return content


FIELDS = [field.name for field in msgspec.structs.fields(wire._Column)]

LIES: dict[str, Callable[[list[Any], dict[str, list[Any]]], object]] = {
    "fewer rows than the column": lambda top, columns: top.__setitem__(0, 5),
    "negative rows": lambda top, columns: top.__setitem__(0, -1),
    "a sample over its limit": lambda top, columns: top.__setitem__(4, 1),
    "hashes without rows": lambda top, columns: top.__setitem__(5, top[5][:-8]),
    "hashes that descend": lambda top, columns: top.__setitem__(5, top[5][8:] + top[5][:8]),
    "a longer document": lambda top, columns: top.append(1),
    "another kind": lambda top, columns: set_field(columns["x"], "kind", "image"),
    "a text that is numeric": lambda top, columns: set_field(columns["t"], "kind", "numeric"),
    "edges that descend": lambda top, columns: set_field(columns["x"], "edges", np.arange(21.0)[::-1].tobytes()),
    "an edge that is NaN": lambda top, columns: set_field(columns["x"], "edges", np.full(21, np.nan).tobytes()),
    "bins that do not add up": lambda top, columns: set_field(columns["x"], "below", 3),
    "bins that are negative": lambda top, columns: set_field(columns["x"], "bins", np.full(20, -1).tobytes()),
    "a huge sum": lambda top, columns: set_field(columns["x"], "total", b"\1" * 100_000),
    "a variance below zero": lambda top, columns: set_field(columns["x"], "squares", b"\0"),
    "a minimum over the maximum": lambda top, columns: set_field(columns["x"], "minimum", 1e305),
    "a minimum that is NaN": lambda top, columns: set_field(columns["x"], "minimum", float("nan")),
    "a count without values": lambda top, columns: set_field(columns["x"], "count", 0),
    "types that do not add up": lambda top, columns: set_field(columns["x"], "types", [1, 2, 3, 4, 1]),
    "too few types": lambda top, columns: set_field(columns["x"], "types", [1, 2, 3]),
    "a sketch of another column": lambda top, columns: set_field(columns["x"], "sketch", columns["t"][12]),
    "no sketch": lambda top, columns: set_field(columns["x"], "sketch", b""),
    "registers out of range": lambda top, columns: set_field(columns["x"], "registers", b"\xff" * 4096),
    "too few registers": lambda top, columns: set_field(columns["x"], "registers", b"\0"),
    "categories that do not add up": lambda top, columns: set_field(columns["t"], "other", 7),
    "more categories than the limit": lambda top, columns: set_field(columns["t"], "limit", 1),
    "a known category twice": lambda top, columns: set_field(columns["t"], "fresh", {"red": 2}),
    "counts without names": lambda top, columns: set_field(columns["t"], "known_counts", [1]),
    "a key of any length": lambda top, columns: set_field(columns["t"], "fresh", {"x" * 500: 2}),
}


def set_field(column: list[Any], name: str, value: object) -> None:
    """Change one field of a column."""
    column[FIELDS.index(name)] = value


@pytest.mark.parametrize("lie", LIES)
def test_content_that_contradicts_itself_is_data_loss(lie: str) -> None:
    """With a checksum that fits: what no fold could have written is not read."""
    content = document()
    LIES[lie](content, content[2])
    with pytest.raises(DataLoss):
        Profile.from_bytes(sealed(zlib.compress(msgspec.msgpack.encode(content))))


def test_the_untouched_document_is_read() -> None:
    """Else the test above would prove nothing."""
    assert Profile.from_bytes(sealed(zlib.compress(msgspec.msgpack.encode(document())))).rows == 3_006


def test_random_content_is_data_loss_or_a_profile() -> None:
    """Bytes of the document changed at random: nothing else comes out."""
    content = msgspec.msgpack.encode(document())
    rng = random.Random(5)
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            Profile.from_bytes(sealed(zlib.compress(damaged, 0)))
        except DataLoss:
            continue


def test_thirty_columns_of_a_hundred_thousand_rows_stay_under_three_megabytes() -> None:
    """Random float64, which no compression helps: sketches take 44 KB each, the sample the rest."""
    rng = np.random.default_rng(1)
    profile = Profile(sample_rows=0)
    profile.fold({f"f{n}": rng.normal(size=100_000) for n in range(30)})
    assert len(profile.to_bytes(compression=0)) < 1.6e6


if __name__ == "__main__":
    GOLDEN.write_bytes(golden().to_bytes(compression=9))
