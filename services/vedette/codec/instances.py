"""application/json with `instances`, as SageMaker's built-in algorithms, TF Serving and KServe's V1 have it.

Rule: all instances of a request have one form; `predictions` holds one element for each.

Forms of an instance: an array (flat, or nested as the input's shape), a scalar, `{"features": [...]}`,
`{"data": {"features": {"values": [...]}}}`, the same with `keys` and `shape` for sparse rows, an object by
input name, an object by feature name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from vedette.codec.checks import check_json
from vedette.codec.instance_rows import decode_instances
from vedette.codec.jsondata import to_json
from vedette.codec.predictions import json_rows
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.core.tensors import Tensor


class _Instances(msgspec.Struct):
    instances: list[object]


class _Keys(msgspec.Struct):
    inputs: msgspec.Raw = msgspec.Raw()
    instances: msgspec.Raw = msgspec.Raw()


_INSTANCES = msgspec.json.Decoder(_Instances)
_KEYS = msgspec.json.Decoder(_Keys)
_FIRST_KEY = re.compile(rb'\s*\{\s*"(inputs|instances)"')


def is_v2(body: bytes) -> bool:
    """Whether a JSON body is a request of the V2 protocol (`inputs`) and not instances; False when it is neither."""
    match = _FIRST_KEY.match(body)
    if match:
        return match[1] == b"inputs"
    try:
        keys = _KEYS.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return bool(bytes(keys.inputs)) and not bytes(keys.instances)


def decode(body: bytes, signature: Signature) -> list[Tensor]:
    """The model's inputs from `{"instances": [...]}`.

    Raises:
        InvalidArgument: not JSON of that form, or names the instance, counted from 1, and what is wrong in it.
    """
    check_json(body)
    try:
        instances = _INSTANCES.decode(body).instances
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f'the body is not JSON with "instances": {error}') from error
    return decode_instances(instances, signature)


def encode(outputs: Sequence[Tensor], signature: Signature | None = None) -> bytes:  # noqa: ARG001 - as all formats
    """`{"predictions": [...]}`: bare values of an only output, else an object by output name for each row.

    Raises:
        InvalidArgument: the outputs do not have the same number of rows, or JSON cannot carry a value.
    """
    return to_json({"predictions": json_rows(outputs)})
