"""text/csv: a row of values a line, no header unless it is exactly the feature names; quotes as in RFC 4180.

Rule: read in blocks, so that memory follows the tensors and not the text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from vedette.codec import predictions
from vedette.codec.rows import columns_of, joined, row_width, tensors_of
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.core.tensors import Tensor

MAX_COLUMNS = 1 << 20
"""Values in a line when the model itself does not say how many it takes."""

_BLOCK_CELLS = 1 << 16
_Line = tuple[int, list[str]]


def decode(body: bytes, signature: Signature) -> list[Tensor]:
    """The model's inputs from lines of values; an empty cell is a missing value.

    Raises:
        InvalidArgument: names the line, counted from 1, and what is wrong in it.
    """
    lines = _lines(body, row_width(signature) or MAX_COLUMNS)
    first = next(lines, None)
    if first and tuple(first[1]) == signature.feature_names:
        first = next(lines, None)
    if first is None:
        raise InvalidArgument("the CSV body has no rows")
    number, row = first
    try:
        columns = columns_of(signature, len(row))
    except InvalidArgument as error:
        raise InvalidArgument(f"line {number}: {error.message}") from error
    blocks = _blocks(chain([first], lines), columns.total)
    return joined([tensors_of(columns, rows, numbers=numbers, text=True) for numbers, rows in blocks])


def _lines(body: bytes, width: int) -> Iterator[_Line]:
    """Every line that is not blank, with its number; a record with line breaks has the number of its last."""
    text = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig", newline="")
    reader = csv.reader(_bounded(text, width), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise InvalidArgument("the CSV body is not valid UTF-8") from error
    except csv.Error as error:
        raise InvalidArgument(f"line {reader.line_num}: {error}") from error


def _bounded(lines: Iterator[str], width: int) -> Iterator[str]:
    """Refuse a line of far too many values before the parser makes an object of each."""
    inside = False
    for number, line in enumerate(lines, 1):
        if line.count(",") >= width and _commas(line, inside=inside) >= width:
            raise InvalidArgument(f"line {number}: more than the {width} values that a row may have")
        inside ^= bool(line.count('"') & 1)
        yield line


def _commas(line: str, *, inside: bool) -> int:
    """Commas outside quotes; `inside`: the line begins within quotes."""
    characters = np.frombuffer(line.encode(errors="replace"), np.uint8)
    quoted = np.bitwise_xor.accumulate(characters == ord('"')) ^ inside
    return int(np.count_nonzero((characters == ord(",")) & ~quoted))


def _blocks(lines: Iterator[_Line], width: int) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Lines in blocks of bounded size, all of one width."""
    numbers: list[int] = []
    rows: list[list[str]] = []
    for number, row in lines:
        if len(row) != width:
            raise InvalidArgument(f"line {number}: {len(row)} values where the first row has {width}")
        numbers.append(number)
        rows.append(row)
        if len(rows) * width >= _BLOCK_CELLS:
            yield numbers, rows
            numbers, rows = [], []
    if rows:
        yield numbers, rows


def encode(outputs: Sequence[Tensor], signature: Signature | None = None) -> bytes:  # noqa: ARG001 - as all formats
    """A line for each row, the outputs side by side, each row of them flattened.

    Raises:
        InvalidArgument: the outputs do not have the same number of rows, or BYTES are not UTF-8.
    """
    columns: list[list[str]] = []
    for tensor in outputs:
        width = predictions.row_size(tensor)
        texts = predictions.texts(tensor)
        columns += [texts[column::width] for column in range(width)]
    predictions.row_count(outputs)
    return "".join(",".join(row) + "\n" for row in zip(*columns)).encode()
