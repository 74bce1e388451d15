"""Shared memory for metrics: one region of float64 cells per worker, and which cells belong to which series.

Rule: standard library only (the supervisor makes the regions); a region has one writing process. It is a
memfd held by the supervisor, so counts survive a dead worker and nothing is left on disk.

Layout: header cells (`HEADER`), cells nobody reads (`DISCARD`, for instruments whose series is gone), the
series' cells, then the directory: JSON lines `[metric, [label values], first cell]`. Appending a line takes
effect by one 8-byte store of the directory's length; `version` is odd while the directory is rewritten.
"""

from __future__ import annotations

import json
import mmap
import os
import struct

CELLS = 128 * 1024
"""1 MiB: room for 5,000 series even if all were histograms of 20 buckets. Untouched pages cost nothing."""
DIRECTORY_BYTES = 4 * 1024 * 1024
_DIRECTORY_AT = CELLS * 8
_VERSION, _LENGTH, _PID, _STARTED, _RESTARTS, _BEAT = range(6)
_HEADER_CELLS = 8
DISCARD = _HEADER_CELLS
"""First of 56 cells that absorb what is observed after a series was dropped."""
_FIRST_CELL = 64
_MAX_LINE = 4096

Series = tuple[str, tuple[str, ...]]
"""Metric name and label values in the order of the metric's label names."""


class RegionFull(Exception):
    """No cells or no directory space are left."""


def create_region(name: str) -> int:
    """Make an empty region and return its file descriptor, which the caller owns."""
    fd = os.memfd_create(f"vedette-metrics-{name}")
    os.ftruncate(fd, _DIRECTORY_AT + DIRECTORY_BYTES)
    return fd


def mark_dead(fd: int) -> None:
    """The supervisor reaped the region's writer: its gauges no longer count, and nobody waits for its beat."""
    for cell in (_PID, _BEAT):
        os.pwrite(fd, struct.pack("d", 0.0), cell * 8)


def beats(fd: int) -> float:
    """How often the region's writer has beaten; 0: it has not begun to."""
    (count,) = struct.unpack("d", os.pread(fd, 8, _BEAT * 8))
    return float(count)


def count_restart(fd: int) -> None:
    """The supervisor starts a new process for this region's slot."""
    (restarts,) = struct.unpack("d", os.pread(fd, 8, _RESTARTS * 8))
    os.pwrite(fd, struct.pack("d", restarts + 1), _RESTARTS * 8)


class Region:
    """One region, mapped. Reading is safe in any process; the writing methods belong to the slot's worker."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _DIRECTORY_AT + DIRECTORY_BYTES)
        self.cells: memoryview[float] = memoryview(self._map)[:_DIRECTORY_AT].cast("d")
        self._series: dict[Series, tuple[int, int]] = {}
        self._next = _FIRST_CELL
        self._free: dict[int, list[int]] = {}

    @property
    def pid(self) -> int:
        """The live writer's process id, or 0."""
        return int(self.cells[_PID])

    @property
    def started(self) -> float:
        """When the writer began, seconds since the epoch."""
        return self.cells[_STARTED]

    @property
    def restarts(self) -> float:
        """How often the supervisor replaced this slot's process."""
        return self.cells[_RESTARTS]

    def beat(self) -> None:
        """Show the supervisor that the writer's event loop turns."""
        self.cells[_BEAT] += 1

    def take_over(self, pid: int, now: float, *, sizes: dict[str, int]) -> dict[Series, int]:
        """Become the writer: keep what the last one counted. Returns the first cell of each series.

        `sizes` gives the cells of a series by metric name.
        """
        for series, base in self.directory().items():
            size = sizes[series[0]]
            self._series[series] = (base, size)
            self._next = max(self._next, base + size)
        self.cells[_VERSION] -= self.cells[_VERSION] % 2  # odd: the last writer died inside a rewrite
        self._rewrite()  # and a line that it left unfinished goes
        self.cells[_PID], self.cells[_STARTED] = pid, now
        return {series: base for series, (base, _) in self._series.items()}

    def allocate(self, series: Series, size: int) -> int:
        """Cells for a new series, all zero; returns the first.

        Raises:
            RegionFull: nothing is left.
        """
        reusable = self._free.get(size)
        base = reusable[-1] if reusable else self._next
        if base + size > CELLS:
            raise RegionFull
        self.cells[base : base + size] = memoryview(bytes(size * 8)).cast("d")
        self._append(series, base)
        if reusable:
            reusable.pop()
        else:
            self._next = base + size
        self._series[series] = (base, size)
        return base

    def release(self, dropped: list[Series]) -> None:
        """Forget series; their cells are used again."""
        released = [self._series.pop(series) for series in dropped]
        self._rewrite()
        for base, size in released:
            self._free.setdefault(size, []).append(base)

    def directory(self) -> dict[Series, int]:
        """The series that exist and their first cells."""
        for _ in range(100):  # a rewrite takes microseconds; a writer killed inside one leaves it odd for good
            version = self.cells[_VERSION]
            text = self._map[_DIRECTORY_AT : _DIRECTORY_AT + int(self.cells[_LENGTH])]
            if version % 2 == 0 and self.cells[_VERSION] == version:
                break
        return _parse(text)

    def close(self) -> None:
        """Unmap; the memory lives as long as someone holds the descriptor."""
        self.cells.release()
        self._map.close()

    def _append(self, series: Series, base: int) -> None:
        line = _line(series, base)
        used = int(self.cells[_LENGTH])
        if len(line) > _MAX_LINE or used + len(line) > DIRECTORY_BYTES:
            raise RegionFull
        self._map[_DIRECTORY_AT + used : _DIRECTORY_AT + used + len(line)] = line
        self.cells[_LENGTH] = used + len(line)

    def _rewrite(self) -> None:
        text = b"".join(_line(series, base) for series, (base, _) in self._series.items())
        self.cells[_VERSION] += 1
        self._map[_DIRECTORY_AT : _DIRECTORY_AT + len(text)] = text
        self.cells[_LENGTH] = len(text)
        self.cells[_VERSION] += 1


def _line(series: Series, base: int) -> bytes:
    return json.dumps([series[0], series[1], base], separators=(",", ":")).encode() + b"\n"


def _parse(text: bytes) -> dict[Series, int]:
    found: dict[Series, int] = {}
    for line in text.splitlines():
        try:
            name, values, base = json.loads(line)
        except ValueError:  # half a line of a writer that was killed while rewriting
            continue
        found[name, tuple(values)] = base
    return found
