"""Captures at rest: Parquet files by endpoint, variant, date and hour, and SageMaker's JSON Lines where asked for.

A consumer group of its own: messages are gathered, written to files whose names hold the offsets they came from,
synced, renamed into place, and only then is the group's offset committed. What was renamed but not committed is
removed before going on and written again, so that every capture is in exactly one file.

Rule: retention by age and a budget of bytes always hold; the oldest hour goes first, and what goes is counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vedette.codec.captures import CONTENT_TYPE, decode_captures, read_captures
from vedette.core.clock import Clock
from vedette.core.errors import InvalidArgument, Unavailable, VedetteError
from vedette.core.events import Delivery
from vedette.core.metrics import Metrics
from vedette.core.models import check_name
from vedette.core.ports import EventStream
from vedette.monitor.traffic.capture_records import ContentTypes, file_name, folder_of, record_lines

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

GROUP = "archive"
_READ = 64
_WAIT_S = 1.0
_BACK_OFF_S = 5.0
_SWEEP_S = 60.0
_HOUR_S = 3600.0
_END_OF_DATES = 253_402_300_800.0
"""The year 10000: a time beyond it is of a clock that counts something else."""
_PARQUET = re.compile(r"captures-(?P<first>[0-9]{12})-[0-9]{12}(?:-[0-9]+)?\.parquet")
_LINES = re.compile(r"[0-9]{2}-[0-9]{2}-[0-9]{3}-(?P<unique>[0-9a-f-]{36})\.jsonl")


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """Where and how long captures are kept."""

    folder: Path
    retention_s: float = 30 * 86400.0
    max_bytes: int = 10 << 30
    flush_s: float = 60.0
    """How long captures gather before they become files."""
    flush_bytes: int = 32 << 20
    sagemaker: bool = False
    """Write SageMaker's JSON Lines beside the Parquet files."""
    types: ContentTypes = field(default_factory=ContentTypes)


@dataclass(slots=True)
class _Gathered:
    """Messages that are not in a file yet."""

    first: int
    end: int
    since: float
    size: int = 0
    messages: list[tuple[bytes, pa.RecordBatch]] = field(default_factory=list)
    """Values, and the batches that are views of them."""


_SAID_ONCE = ("producer", "version", "model")
_REPEATED = (*_SAID_ONCE, "code", "request_type", "response_type", "custom_attributes")


class Archive:
    """Follows the topic `captures` and keeps it. One at a time for a folder."""

    def __init__(self, stream: EventStream, settings: ArchiveSettings, *, clock: Clock, metrics: Metrics) -> None:
        self._stream = stream
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._gathered: _Gathered | None = None
        self._stopping = False
        self._swept = 0.0

    async def run(self) -> None:
        """Until `stop`: read, gather, write. A disk that is full is tried again; nothing is committed meanwhile."""
        offset = await self._begin()
        while not self._stopping:
            try:
                offset = await self._step(offset)
            except (Unavailable, OSError) as error:
                log.warning("the archive cannot be written", extra={"reason": str(error)})
                await asyncio.sleep(_BACK_OFF_S)
                offset = await self._begin()
        await self.flush()

    def stop(self) -> None:
        """Let `run` write what it has and end."""
        self._stopping = True

    async def flush(self) -> None:
        """Write what is gathered and commit. Raises OSError when the disk refuses; nothing is committed then."""
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return
        if gathered.messages:
            await asyncio.to_thread(self._write, gathered)
        await self._stream.commit("captures", GROUP, gathered.end)

    async def _begin(self) -> int:
        """Forget what was gathered, remove what was placed but not committed; returns where to go on.

        One flush at most is in that state, and its files begin at one offset. So where several begin behind the
        committed one, that was lost: then only the newest are made again, and only from what the stream still has.
        """
        self._gathered = None
        committed, end = await self._stream.committed("captures", GROUP), await self._stream.end("captures")
        firsts = await asyncio.to_thread(lambda: {_first_offset(path.name) for path in self._files()})
        if max(firsts, default=-1) >= end:
            log.warning("the archive holds captures of an earlier stream; they stay", extra={"end": end})
            return committed
        first = max(firsts, default=-1)
        if first < committed:
            return committed
        held = await self._stream.read("captures", first, 1)
        if not held or held[0].offset != first:
            return first + 1
        await asyncio.to_thread(self._remove, first)
        return first

    async def _step(self, offset: int) -> int:
        """One look at the stream; returns the offset to go on from."""
        deliveries = await self._stream.read("captures", offset, _READ)
        for delivery in deliveries:
            self._gather(delivery)
            offset = delivery.offset + 1
        if self._due():
            await self.flush()
        if self._clock.time() - self._swept > _SWEEP_S:
            self._swept = self._clock.time()
            await asyncio.to_thread(self.sweep)
        if not deliveries:
            await self._stream.wait("captures", offset, _WAIT_S)
        return offset

    def _gather(self, delivery: Delivery) -> None:
        gathered = self._gathered
        if gathered is None:
            gathered = self._gathered = _Gathered(delivery.offset, delivery.offset, self._clock.time())
        gathered.end = delivery.offset + 1
        value = delivery.message.value
        try:
            if delivery.message.content_type != CONTENT_TYPE:
                raise InvalidArgument("the message holds no captures")
            batch = read_captures(value)
            check_name(_named(batch, "endpoint"), "endpoint name")  # names become folders
            check_name(_named(batch, "variant"), "variant name")
        except VedetteError as error:
            # the monitor's own intake counts it and sets it aside; an archive has nothing to add
            log.warning("a message is not archived", extra={"offset": delivery.offset, "reason": str(error)})
            return
        gathered.messages.append((value, batch))
        gathered.size += len(value)

    def _due(self) -> bool:
        gathered = self._gathered
        if gathered is None:
            return False
        return (
            gathered.size >= self._settings.flush_bytes or self._clock.time() - gathered.since >= self._settings.flush_s
        )

    def _write(self, gathered: _Gathered) -> None:
        by_hour: dict[Path, dict[str, list[pa.Table]]] = {}
        now = self._clock.time()
        for _, batch in gathered.messages:
            whole = _table(batch)
            for hour, table in _by_hour(whole, _dated(whole.column("time").to_numpy(), now)):
                alike = by_hour.setdefault(self._parquet_folder(batch, hour), {})
                alike.setdefault(str(table.schema), []).append(table)
        for folder, schemas in by_hour.items():
            for number, tables in enumerate(schemas.values()):
                more = f"-{number}" if number else ""  # another version may have other tensors
                name = f"captures-{gathered.first:012d}-{gathered.end - 1:012d}{more}.parquet"
                _write_parquet(folder / name, tables)
        if self._settings.sagemaker:
            self._write_lines(gathered)

    def _parquet_folder(self, batch: pa.RecordBatch, hour: float) -> Path:
        at = datetime.fromtimestamp(hour, UTC)
        names = [f"{name}={_named(batch, name)}" for name in ("endpoint", "variant")]
        parts = (*names, f"{at:date=%Y-%m-%d}", f"{at:hour=%H}")
        return self._settings.folder.joinpath("parquet", *parts)

    def _write_lines(self, gathered: _Gathered) -> None:
        by_hour: dict[str, list[tuple[float, bytes]]] = {}
        for value, _ in gathered.messages:
            batch = decode_captures(value)
            batch = replace(batch, times=_dated(batch.times, self._clock.time()))
            for moment, line in record_lines(batch, self._settings.types):
                by_hour.setdefault(folder_of(batch.endpoint, batch.variant, moment), []).append((moment, line))
        for name, lines in by_hour.items():
            path = self._settings.folder / "sagemaker" / name / file_name(lines[0][0], _unique(gathered.first))
            _write_bytes(path, b"".join(line for _, line in lines))

    def _remove(self, first: int) -> None:
        """The files of the flush that began there."""
        for path in self._files():
            if _first_offset(path.name) == first:
                path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what is over age or over the budget, oldest first; returns how many bytes went."""
        files = sorted(((path.stat().st_mtime, path) for path in self._files()), key=lambda entry: entry[0])
        total = sum(path.stat().st_size for _, path in files)
        gone = 0
        for written, path in files:
            if self._clock.time() - written < self._settings.retention_s and total - gone <= self._settings.max_bytes:
                break
            gone += path.stat().st_size
            path.unlink(missing_ok=True)
            _remove_empty(path.parent, self._settings.folder)
        if gone:
            log.info("the archive let go of its oldest files", extra={"bytes": gone})
        return gone

    def _files(self) -> list[Path]:
        """Every file of the archive, unfinished ones removed."""
        found = []
        for path in self._settings.folder.rglob("*"):
            if path.name.endswith(".partial"):
                path.unlink(missing_ok=True)
            elif path.is_file():
                found.append(path)
        return found


def _unique(offset: int) -> str:
    """A version 4 UUID whose first 48 bits are an offset: the name stays SageMaker's and tells where it is from."""
    return str(uuid.UUID(int=(offset << 80) | (uuid.uuid4().int & ((1 << 80) - 1))))


def _first_offset(name: str) -> int:
    """The first offset that a file of the archive came from; -1: the file is not one of ours."""
    if match := _PARQUET.fullmatch(name):
        return int(match["first"])
    if match := _LINES.fullmatch(name):
        return uuid.UUID(match["unique"]).int >> 80
    return -1


def _named(batch: pa.RecordBatch, name: str) -> str:
    """What the message's metadata says once for all rows."""
    found: bytes = batch.schema.metadata[name.encode()]
    return found.decode()


def _table(batch: pa.RecordBatch) -> pa.Table:
    """The message's rows with the columns that the message holds once."""
    import pyarrow as pa

    table = pa.Table.from_batches([batch])
    for name in _SAID_ONCE:
        column = pa.repeat(pa.scalar(_named(batch, name)), len(table)).cast(pa.string())
        table = table.add_column(0, pa.field(name, pa.string(), nullable=False), column)
    plain = [_plain(table.schema.field(number)) for number in range(table.num_columns)]
    return table.cast(pa.schema(plain)).replace_schema_metadata(None)


def _plain(kept: pa.Field) -> pa.Field:
    """A field as it is kept: text instead of dictionaries, so that files of different messages go together."""
    import pyarrow as pa

    return kept.with_type(pa.string()) if pa.types.is_dictionary(kept.type) else kept


def _dated(times: NDArray[np.float64], now: float) -> NDArray[np.float64]:
    """Times that are dates; a record with none lies where it arrived, and its column says what was captured."""
    dated: NDArray[np.float64] = np.where((times >= 0) & (times < _END_OF_DATES), times, now)
    return dated


def _by_hour(table: pa.Table, times: NDArray[np.float64]) -> Iterator[tuple[float, pa.Table]]:
    """The rows by the UTC hour they were answered in."""
    import pyarrow as pa

    hours = np.floor(times / _HOUR_S) * _HOUR_S
    for hour in np.unique(hours):
        yield float(hour), table.filter(pa.array(hours == hour))


def _write_parquet(path: Path, tables: Sequence[pa.Table]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pa.concat_tables(tables)
    with _placed(path) as partial:
        repeated = [name for name in whole.column_names if name in _REPEATED or "_shape:" in name]
        # ids and tensors hardly repeat: a dictionary of them would cost half of the time and save nothing
        pq.write_table(whole, partial, compression="zstd", compression_level=1, use_dictionary=repeated)


def _write_bytes(path: Path, content: bytes) -> None:
    with _placed(path) as partial:
        partial.write_bytes(content)


class _placed:  # noqa: N801 - reads as a verb where it is used
    """A partial file that takes its place, durably, when the block ends well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")

    def __enter__(self) -> Path:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._partial

    def __exit__(self, kind: object, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._partial.unlink(missing_ok=True)
            return
        with self._partial.open("rb") as file:
            os.fsync(file.fileno())
        self._partial.replace(self._path)
        _sync_folder(self._path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_empty(folder: Path, root: Path) -> None:
    """Folders of hours that hold nothing any more."""
    while folder != root and not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)
        folder = folder.parent
