"""An open window in memory: the profile of its rows, what is told beside it, and predictions that wait for labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from vedette.core.errors import CODES, DataLoss
from vedette.core.tensors import Array
from vedette.ports.monitors import PredictionBlock, WindowKey, WindowState
from vedette.profiles import Layout, Profile

UNKEPT = "predictions_not_kept"
DAMAGED = "the state of this window was damaged"


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows whose ground truth may come."""

    ids: list[str]
    """The inference id of each row's request, else its event id."""
    places: list[int]
    """The row's place within its request."""
    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, rows: int) -> Kept:
        """So many of the rows at most."""
        if len(self) <= rows:
            return self
        return Kept(self.ids[:rows], self.places[:rows], {name: c[:rows] for name, c in self.columns.items()})

    def encode(self) -> bytes:
        """As bytes."""
        columns = {name: _packed(column) for name, column in self.columns.items()}
        return msgspec.msgpack.encode((self.ids, self.places, columns))

    @classmethod
    def decode(cls, payload: bytes) -> Kept:
        """What `encode` made the bytes of. `DataLoss` when it did not."""
        kind = tuple[list[str], list[int], dict[str, tuple[str, bytes, list[str | None]]]]
        try:
            ids, places, packed = msgspec.msgpack.decode(payload, type=kind)
            return cls(ids, places, {name: _column(*values) for name, values in packed.items()})
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise DataLoss("kept predictions cannot be read") from error


def _packed(column: Array) -> tuple[str, memoryview, list[str | None]]:
    """Type, bytes and texts: a column has the one or the other."""
    if column.dtype == object:
        return "", memoryview(b""), column.tolist()
    return column.dtype.str, np.ascontiguousarray(column).data, []


def _column(kind: str, numbers: bytes, values: list[str | None]) -> Array:
    if kind:
        return np.frombuffer(numbers, np.dtype(kind))
    column = np.empty(len(values), object)
    column[:] = values
    return column


class Lot:
    """One open window. Not thread-safe."""

    def __init__(
        self,
        key: WindowKey,
        endpoint: str,
        end: float,
        *,
        model: str = "",
        baseline: str = "",
        layout: Layout | None = None,
    ) -> None:
        self.key = key
        self.dirty = True
        self._endpoint = endpoint
        self._end = end
        self._model = model
        self._baseline = baseline
        self._counts: Counter[str] = Counter()
        self._excluded: frozenset[str] = frozenset()
        self._blocks = 0
        self._kept: list[Kept] = []
        self._kept_rows = 0
        self._profile = Profile(layout)
        self._reason = ""

    @property
    def damaged(self) -> bool:
        """Whether rows of it cannot be read any more."""
        return self._reason == DAMAGED

    @classmethod
    def of(cls, state: WindowState) -> Lot:
        """Go on from a stored state; with nothing where its profile is damaged, and never as if nothing had been."""
        lot = cls(state.key, state.endpoint, state.end, model=state.model, baseline=state.baseline)
        lot._reason = state.reason
        try:
            lot._profile = Profile.from_bytes(state.profile) if state.profile else lot._profile
        except DataLoss:
            lot._reason = DAMAGED
        lot._counts.update(state.counts)
        lot._excluded = frozenset(state.excluded)
        lot._blocks, lot._kept_rows = state.blocks, state.counts.get("predictions", 0)
        lot.dirty = lot._reason != state.reason
        return lot

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to what is told beside the results."""
        if counts:
            self._counts.update(counts)
            self.dirty = True

    def exclude(self, columns: frozenset[str]) -> None:
        """These were cut out of captures of this window; the caller bounds their number."""
        if not columns <= self._excluded:
            self._excluded |= columns
            self.dirty = True

    def add(self, columns: Mapping[str, Array], keys: Sequence[str]) -> None:
        """Fold rows; `keys` name them, so that a replay draws the same sample."""
        if len(keys):
            self._profile.fold(columns, keys)
            self.dirty = True

    def keep(self, rows: Kept, *, most: int) -> None:
        """Keep rows for their ground truth, `most` in all."""
        taken = rows.first(most - self._kept_rows)
        if len(taken):
            self._kept.append(taken)
            self._kept_rows += len(taken)
        self.count(+Counter({"predictions": len(taken), UNKEPT: len(rows) - len(taken)}))

    def take_blocks(self) -> list[PredictionBlock]:
        """The rows kept since the last call, each make of columns as a block; to be stored with `state`."""
        found = []
        for kept in _joined(self._kept):
            block = PredictionBlock(self._endpoint, self.key, self._blocks, len(kept), kept.encode())
            found.append(block)
            self._blocks += 1
        self._kept = []
        return found

    def state(self, *, sealed: bool = False) -> WindowState:
        """The window as it is stored now."""
        counts = dict(self._counts)
        self.dirty = False
        return WindowState(
            self.key,
            self._endpoint,
            self._end,
            sealed,
            self._profile.rows,
            counts,
            tuple(sorted(self._excluded)),
            reason=self._reason,
            model=self._model,
            baseline=self._baseline,
            profile=self._profile.to_bytes(),
            blocks=self._blocks,
        )


def _joined(parts: Sequence[Kept]) -> list[Kept]:
    """Neighbours with the same columns as one."""
    groups: list[list[Kept]] = []
    for part in parts:
        if groups and _make(groups[-1][0]) == _make(part):
            groups[-1].append(part)
        else:
            groups.append([part])
    return [_together(group) for group in groups]


def _make(part: Kept) -> list[tuple[str, str]]:
    return [(name, column.dtype.str) for name, column in part.columns.items()]


def _together(group: Sequence[Kept]) -> Kept:
    if len(group) == 1:
        return group[0]
    columns = {name: np.concatenate([part.columns[name] for part in group]) for name in group[0].columns}
    return Kept([i for part in group for i in part.ids], [p for part in group for p in part.places], columns)


def requests_by_code(codes: Sequence[str], here: Array | None) -> Counter[str]:
    """Requests, and those that failed by their code."""
    if here is not None:
        codes = [code for code, wanted in zip(codes, here.tolist()) if wanted]
    by_code = Counter(codes)
    told = Counter({"requests": len(codes)})
    for code, count in by_code.items():
        if code != "OK":
            told[f"failed:{code if code in CODES else 'other'}"] += count
    return told
