"""JSON Lines as columns: a row is an object, an array in the order of the features, or SageMaker's captured record.

Rule: lines are decoded in blocks of a few megabytes; a column is numbers when all of a chunk's values are.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from vedette.core.errors import InvalidArgument, TooLarge
from vedette.core.tensors import Array
from vedette.monitor.quality.outcomes import PREDICTION
from vedette.monitor.reference_data.arrow_texts import numbers_of
from vedette.monitor.reference_data.columns import MAX_LINE, MAX_TEXT, Kind, Kinds, check_columns, check_rows, objects
from vedette.profiles import Columns

BLOCK_BYTES = 2 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_CAPTURED = "captureData"
_DECODER = msgspec.json.Decoder()
Row = Mapping[str, object]


class JsonLinesFile:
    """A `Dataset`; a key that a row does not have is missing there. Made by reading all of it once, for the keys."""

    def __init__(self, path: Path, *, names: Sequence[str] = ()) -> None:
        self._path = path
        self._names = tuple(names)
        self.columns = check_columns(tuple(self._keys()))

    def chunks(self, kinds: Kinds) -> Iterator[Columns]:
        wanted = [name for name in self.columns if name in kinds]
        for number, rows in self._numbered():
            yield {name: _column([row.get(name) for row in rows], name, kinds[name], number) for name in wanted}

    def _keys(self) -> dict[str, None]:
        keys: dict[str, None] = {}
        count = 0
        for _, rows in self._numbered():
            count += len(rows)
            check_rows(count)
            for row in rows:
                if not row.keys() <= keys.keys():
                    keys |= dict.fromkeys(row)
            check_columns(tuple(keys))
        return keys

    def _numbered(self) -> Iterator[tuple[int, list[Row]]]:
        with self._path.open("rb") as file:
            for number, block in _blocks(file):
                rows = self._rows(block, number)
                if rows:
                    yield number, rows

    def _rows(self, block: bytes, number: int) -> list[Row]:
        """The rows of some lines; `number` is that of the first."""
        try:
            values = _DECODER.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            values = [_decoded(line, number + place) for place, line in enumerate(block.split(b"\n")) if line.strip()]
        return [row for place, value in enumerate(values) for row in self._expanded(value, number + place)]

    def _expanded(self, value: object, number: int) -> Iterator[Row]:
        if isinstance(value, dict):
            if _CAPTURED in value and _CAPTURED not in self._names:
                yield from self._captured(value[_CAPTURED], number)
            else:
                yield value
        elif isinstance(value, list):
            yield self._positional(value, number)
        else:
            raise InvalidArgument(f"line {number} is neither an object nor an array")

    def _positional(self, values: Sequence[object], number: int) -> Row:
        if len(values) != len(self._names):
            raise InvalidArgument(f"line {number} has {len(values)} values, where the model has {len(self._names)}")
        return dict(zip(self._names, values))

    def _captured(self, record: object, number: int) -> Iterator[Row]:
        """The rows of a captured request: CSV in, and a prediction for each row where the output is CSV too."""
        inputs, outputs = _csv_of(record, "endpointInput"), _csv_of(record, "endpointOutput")
        if inputs is None:
            raise InvalidArgument(f"line {number}: only captured records with CSV input can be read")
        predicted = outputs is not None and len(outputs) == len(inputs) and all(len(row) == 1 for row in outputs)
        for place, row in enumerate(inputs):
            yield {
                **self._positional(row, number),
                **({PREDICTION: outputs[place][0]} if outputs and predicted else {}),
            }


def _blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Whole lines, some megabytes at a time, with the number of the first."""
    number, rest = 1, file.read(len(_BOM))
    rest = b"" if rest == _BOM else rest
    while data := file.read(BLOCK_BYTES):
        whole, newline, after = data.rpartition(b"\n")
        if not newline:
            rest += data
            if len(rest) > MAX_LINE:
                raise TooLarge(f"line {number} has more than {MAX_LINE} bytes")
            continue
        block = rest + whole
        yield number, block
        number, rest = number + block.count(b"\n") + 1, after
    if rest.strip():
        yield number, rest


def _decoded(line: bytes, number: int) -> object:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"line {number} is not JSON: {str(error)[:200]}") from None
    except RecursionError:
        raise InvalidArgument(f"line {number} is nested too deeply") from None


def _column(values: list[Any], name: str, kind: Kind, number: int) -> Array:
    kinds = set(map(type, values))
    if kinds <= {int, float, type(None)}:
        try:
            return np.array(values, np.float64)
        except OverflowError:
            raise InvalidArgument(f"column {name[:80]!r}: a number is out of range after line {number}") from None
    if kinds == {bool}:
        return np.array(values, np.bool_)
    if kinds & {dict, list}:
        raise InvalidArgument(f"column {name[:80]!r} holds lists or objects after line {number}, not numbers or text")
    texts = objects([_text(value) for value in values])
    return numbers_of(_arrow(texts)) if kind == "numeric" and kinds <= {str, type(None)} else texts


def _arrow(texts: Array) -> Any:
    import pyarrow as pa

    return pa.array(texts, pa.string())


def _text(value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value[:MAX_TEXT]
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _csv_of(record: object, side: str) -> list[list[str]] | None:
    """The rows of one side of a captured record, when it is CSV."""
    part = record.get(side) if isinstance(record, dict) else None
    if not isinstance(part, dict) or part.get("encoding") != "CSV" or not isinstance(part.get("data"), str):
        return None
    try:
        return [row for row in csv.reader(part["data"].splitlines()) if row]
    except csv.Error:
        return None
