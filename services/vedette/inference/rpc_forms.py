"""Reading ModelInfer requests whose bytes are, but for the tensors, those of an earlier request.

A client sends the same names, datatypes and shapes again and again and changes only the numbers. A *form* is
what stays: the bytes before each raw tensor. A message of a known form is compared with those bytes and its
tensors are views of it: 1.2 us where parsing it and decoding the parse take 5 us.

Rule: a form is kept only if the message parses without its tensors too, and equal bytes parse equally, so a
form never says anything that the parser would not. What it cannot say, the parser's message says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from vedette.core.errors import VedetteError
from vedette.core.tensors import DATATYPES, InferRequest, RequestedOutput, Tensor
from vedette.inference.rpc_messages import RAW_TAG, decode_request, varint
from vedette.proto.inference.v1 import inference_pb2 as pb

_FORMS = 256
_HEAD = 2048
"""Bytes of the fixed part of a request, at most: names are short where anybody cares for speed."""
_BYTES_AT = 32
"""Where the bytes of a `bytes` object start; the object itself is aligned to 16."""
_NUMBERS = {name: kind.dtype for name, kind in DATATYPES.items() if name not in ("BYTES", "BOOL")}
"""Datatypes of which every bit pattern of the right length is a tensor."""

_Key = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class _Field:
    """One raw tensor in the bytes of a form."""

    before: bytes
    at: int
    """Where `before` stands; the tensor follows it."""
    start: int
    name: str
    datatype: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    aligned: bool


@dataclass(frozen=True, slots=True)
class _Form:
    endpoint: str
    version: str
    outputs: list[RequestedOutput]
    fields: tuple[_Field, ...]


class Forms:
    """The forms of the requests that came lately; `read` is the parser of ModelInfer. Bounded in memory."""

    def __init__(self) -> None:
        self._known: dict[_Key, _Form] = {}
        self._once: set[_Key] = set()

    def read(self, raw: bytes) -> InferRequest | pb.ModelInferRequest:
        """The request; as a message where its form is not known.

        Raises:
            DecodeError: the bytes are no ModelInferRequest.
        """
        # the first field is the name of the model, behind its tag and its length
        key = (len(raw), raw[: raw[1] + 2] if len(raw) > 1 else raw)
        form = self._known.get(key)
        if form is not None and (request := _filled(form, raw)) is not None:
            return request
        message = pb.ModelInferRequest.FromString(raw)
        if form is not None:  # the first form of a key stays: two that took turns would be made again each time
            return message
        # a form is kept when it comes a second time: finding it takes 20 us, and some never come again
        if key in self._once:
            self._keep(key, raw, message)
        elif not message.id and len(raw) < 2**31:
            _make_room(self._once)
            self._once.add(key)
        return message

    def _keep(self, key: _Key, raw: bytes, message: pb.ModelInferRequest) -> None:
        form = _form(raw, message)
        if form is not None:
            _make_room(self._known)
            self._known[key] = form


def _make_room(kept: set[_Key] | dict[_Key, _Form]) -> None:
    if len(kept) >= _FORMS:
        kept.clear()


def _filled(form: _Form, raw: bytes) -> InferRequest | None:
    """The form with the tensors of these bytes; None: they are not of this form."""
    tensors = []
    for field in form.fields:
        if not raw.startswith(field.before, field.at):
            return None
        array: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = np.ndarray(
            field.shape, field.dtype, raw, field.start
        )
        tensors.append(Tensor(field.name, field.datatype, array if field.aligned else array.copy()))
    return InferRequest(form.endpoint, tensors, form.version, "", form.outputs[:], binary_output=True)


def _form(raw: bytes, message: pb.ModelInferRequest) -> _Form | None:
    """The form of a message; None where it has none: an id, parameters, tensors that are checked value by value."""
    if message.id or message.parameters or not 0 < len(message.inputs) == len(message.raw_input_contents):
        return None
    try:
        request = decode_request(message, None)
    except VedetteError:
        return None
    places = _places(raw, message)
    if places is None:
        return None
    fields = []
    for tensor, (at, start) in zip(request.inputs, places):
        dtype = _NUMBERS.get(tensor.datatype)
        if dtype is None:
            return None
        aligned = (_BYTES_AT + start) % dtype.alignment == 0
        fields.append(
            _Field(raw[at:start], at, start, tensor.name, tensor.datatype, dtype, tensor.array.shape, aligned)
        )
    return _Form(request.endpoint, request.version, request.outputs, tuple(fields))


def _places(raw: bytes, message: pb.ModelInferRequest) -> list[tuple[int, int]] | None:
    """Where the fixed bytes before each tensor, and the tensor, start; None: the tensors are not all at the end."""
    end, places = len(raw), []
    for content in reversed(message.raw_input_contents):
        start = end - len(content)
        tag = RAW_TAG + varint(len(content))
        end = start - len(tag)
        if not content or end < 0 or not raw.startswith(tag, end) or not raw.startswith(content, start):
            return None
        places.append((end, start))
    places.reverse()
    if end > _HEAD or not _stands_alone(raw[:end], message):
        return None
    return [(0, places[0][1]), *places[1:]]


def _stands_alone(head: bytes, message: pb.ModelInferRequest) -> bool:
    """Whether the head is the message without its tensors: the cut is between two fields, not inside of one."""
    rest = pb.ModelInferRequest()
    rest.CopyFrom(message)
    del rest.raw_input_contents[:]
    try:
        return bool(pb.ModelInferRequest.FromString(head) == rest)
    except DecodeError:
        return False
