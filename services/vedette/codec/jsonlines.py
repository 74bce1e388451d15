"""application/jsonlines: an instance a line in any form of `instances`; the answer has a prediction a line.

Rule: a line is a whole JSON value; blank lines do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vedette.codec.checks import check_json
from vedette.codec.instance_rows import decode_instances
from vedette.codec.jsondata import to_json
from vedette.codec.predictions import json_rows
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.core.tensors import Tensor

_VALUE = msgspec.json.Decoder()


def decode(body: bytes, signature: Signature) -> list[Tensor]:
    """The model's inputs from lines of instances.

    Raises:
        InvalidArgument: names the line that is not JSON, or the instance and what is wrong in it.
    """
    check_json(body)
    return decode_instances([_instance(line, number) for number, line in _lines(body)], signature)


def _lines(body: bytes) -> list[tuple[int, bytes]]:
    return [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]


def _instance(line: bytes, number: int) -> object:
    try:
        return _VALUE.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"line {number} is not JSON: {error}") from error


def encode(outputs: Sequence[Tensor], signature: Signature | None = None) -> bytes:  # noqa: ARG001 - as all formats
    """A line for each row: the bare value of an only output, else an object by output name.

    Raises:
        InvalidArgument: the outputs do not have the same number of rows, or JSON cannot carry a value.
    """
    return b"".join(to_json(row) + b"\n" for row in json_rows(outputs))
