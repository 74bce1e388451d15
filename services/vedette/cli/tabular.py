"""Rows from a file, standard input or the command line, as `Client.predict` takes them.

Rule: the format is told by the file's ending, else by the first character; nothing is ever unpickled.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from vedette.core.errors import InvalidArgument

NPY = b"\x93NUMPY"


def read_data(source: str, *, header: bool | None = None) -> Any:
    """The data that an argument of the command line means.

    Raises:
        InvalidArgument: no such file, nothing in it, or not the format that it seems to be.
    """
    if source == "-":
        if sys.stdin.isatty():
            raise InvalidArgument("no data: give a file, the data itself, or pipe it in")
        return parse(sys.stdin.buffer.read(), "standard input", header=header)
    path = Path(source)
    if source[:1] not in "[{" and _is_file(path):
        return parse(path.read_bytes(), source, header=header)
    if path.suffix in (".csv", ".json", ".npy"):
        raise InvalidArgument(f"{source}: no such file")
    return parse(source.encode(), "the data", header=header)


def parse(content: bytes, name: str, *, header: bool | None = None) -> Any:
    """Rows, columns or an array from npy, JSON or CSV; `name` is for errors."""
    if content.startswith(NPY):
        return _npy(content, name)
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{name}: neither text in UTF-8 nor npy") from error
    if not text:
        raise InvalidArgument(f"{name}: empty")
    return _json(text, name) if text[0] in "[{" else _csv(text, name, header=header)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the data itself, longer than any file name
        return False


def _npy(content: bytes, name: str) -> Any:
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InvalidArgument(f"{name}: not a usable npy file: {error}") from error


def _json(text: str, name: str) -> Any:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{name}: not valid JSON: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("instances"), list):
        return document["instances"]
    if isinstance(document, dict) and isinstance(document.get("inputs"), list):
        return _v2_inputs(document["inputs"], name)
    return document


def _v2_inputs(inputs: list[Any], name: str) -> dict[str, Any]:
    """The inputs of an Open Inference Protocol request as arrays by name."""
    try:
        return {item["name"]: np.array(item["data"]).reshape(item["shape"]) for item in inputs}
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgument(f"{name}: not an inference request: {error}") from error


def _csv(text: str, name: str, *, header: bool | None) -> Any:
    """Columns by name when the first line is names, else rows in the model's order."""
    try:
        lines = [line for line in csv.reader(io.StringIO(text), strict=True, skipinitialspace=True) if line]
    except csv.Error as error:
        raise InvalidArgument(f"{name}: not valid CSV: {error}") from error
    for number, line in enumerate(lines, start=1):
        if len(line) != len(lines[0]):
            raise InvalidArgument(f"{name}: line {number} has {len(line)} fields, the first has {len(lines[0])}")
    named = _looks_like_names(lines) if header is None else header
    rows = lines[1:] if named else lines
    if not rows:
        raise InvalidArgument(f"{name}: no rows")
    columns = [_column([row[i] for row in rows]) for i in range(len(lines[0]))]
    if named:
        return dict(zip(lines[0], columns, strict=True))
    if any(column.dtype.kind == "O" for column in columns):
        columns = [column.astype(object) for column in columns]
    return np.stack(columns, axis=1)


def _looks_like_names(lines: list[list[str]]) -> bool:
    """No number among the first line's fields, and more lines after it."""
    return len(lines) > 1 and all(_number(field) is None for field in lines[0])


def _column(fields: list[str]) -> Any:
    """Numbers where every field is one (an empty field is NaN), else text."""
    numbers = [float("nan") if field == "" else _number(field) for field in fields]
    if all(number is not None for number in numbers) and any(field != "" for field in fields):
        return np.array(numbers)
    return np.array(fields, dtype=object)


def _number(field: str) -> float | int | None:
    for kind in (int, float):
        try:
            return kind(field)
        except ValueError:
            continue
    return None
