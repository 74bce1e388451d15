"""Lines of ground truth: SageMaker's records and `{"id": ..., "label": ...}`.

Rule: a line that is no label is counted and costs no other line anything.

SageMaker: `{"groundTruthData": {"data": "1", "encoding": "CSV"}, "eventMetadata": {"eventId": "..."},
"eventVersion": "0"}`; with the encoding JSON the data is a value, a list, or `{"instances": [{"label": 0}, ...]}`.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from vedette.core.errors import InvalidArgument
from vedette.ports.monitors import Label

MAX_ID = 1_000
MAX_TEXT = 1_000
MAX_ROWS = 10_000
MAX_REASONS = 5
"""Refused lines of which the reason is told."""
_NUMBER = re.compile(r"[+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,4})?")


@dataclass(slots=True)
class LabelLines:
    """What lines of ground truth hold."""

    labels: list[Label] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Of each label, its line."""
    refused: int = 0
    why: list[str] = field(default_factory=list)
    """Number and reason of the first lines that are refused."""

    def refuse(self, number: int, reason: object) -> None:
        """The line is no label, or one that nobody can use."""
        self.refused += 1
        if len(self.why) < MAX_REASONS:
            self.why.append(f"line {number}: {reason}"[:300])

    def sift(self, wrong: Callable[[Label], str]) -> None:
        """Refuse the labels of which it says why they cannot be used."""
        labels, numbers = self.labels, self.numbers
        self.labels, self.numbers = [], []
        for number, label in zip(numbers, labels):
            if reason := wrong(label):
                self.refuse(number, reason)
            else:
                self.labels.append(label)
                self.numbers.append(number)


def read_labels(lines: bytes, *, at: float) -> LabelLines:
    """The labels, and what is refused because it is none."""
    read = LabelLines()
    for number, line in enumerate(lines.splitlines(), 1):
        if not line.strip():
            continue
        try:
            label = _label(line, at)
        except (InvalidArgument, msgspec.MsgspecError, csv.Error, UnicodeError, RecursionError) as error:
            read.refuse(number, error)
        else:
            read.labels.append(label)
            read.numbers.append(number)
    return read


def _label(line: bytes, at: float) -> Label:
    document = msgspec.json.decode(line)
    if not isinstance(document, dict):
        raise InvalidArgument("not a JSON object")
    if "groundTruthData" in document:
        metadata = document.get("eventMetadata")
        identity = metadata.get("eventId") if isinstance(metadata, dict) else None
        value = _sagemaker(document["groundTruthData"])
    elif "label" in document:
        identity, value = document.get("id"), document["label"]
    else:
        raise InvalidArgument('neither "groundTruthData" nor "label" is there')
    if not isinstance(identity, str) or not 0 < len(identity) <= MAX_ID or "\0" in identity:
        raise InvalidArgument(f"the id must be a text of 1 to {MAX_ID} characters")
    return Label(identity, msgspec.json.encode(_checked(value)).decode(), at)


def _sagemaker(data: Any) -> Any:
    if not isinstance(data, dict):
        raise InvalidArgument('"groundTruthData" must be an object')
    encoding, content = data.get("encoding"), data.get("data")
    if encoding == "CSV" and isinstance(content, str):
        cells = [_cell(cell) for row in csv.reader(io.StringIO(content)) for cell in row]
        return cells[0] if len(cells) == 1 else cells
    if encoding == "JSON":
        return _instances(msgspec.json.decode(content) if isinstance(content, str) else content)
    raise InvalidArgument('the encoding must be "CSV" or "JSON"')


def _instances(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("instances"), list):
        return [each.get("label") if isinstance(each, dict) else each for each in value["instances"]]
    return value.get("label") if isinstance(value, dict) else value


def _cell(text: str) -> str | float:
    return float(text) if _NUMBER.fullmatch(text.strip()) else text


def _checked(value: Any) -> Any:
    """A label, or a list with one for each row of the request."""
    if isinstance(value, list):
        if not 0 < len(value) <= MAX_ROWS:
            raise InvalidArgument(f"a list of labels has 1 to {MAX_ROWS} of them")
        return [None if each is None else _scalar(each) for each in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, str) and 0 < len(value) <= MAX_TEXT and "\0" not in value:
        return value
    if isinstance(value, bool | int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise InvalidArgument("a label is a number, true or false, or a text")
