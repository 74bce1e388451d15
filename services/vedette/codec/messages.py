"""The JSON messages of Open Inference Protocol v2, as they stand in the text.

Rule: types are checked here and nowhere converted; what the fields mean is `v2json`'s business.

A message is read in one pass with the type of `data` chosen by `datatype`, which fits flat data and costs
about what orjson takes; when that fails it is read with `data` left as text, which fits nested data and
knows the tensor's name when something is wrong with it. Large bodies are read that way at once: text becomes
an array in pieces, so that they need not fit in memory as Python objects.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, TypeVar, Union

import msgspec

from vedette.codec.checks import check_json
from vedette.codec.jsondata import VALUE_TYPES
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Parameter

_Name = Annotated[str, msgspec.Meta(max_length=1024)]
"""Errors repeat it, so it is not as long as the body."""
_Parameters = dict[str, Parameter] | None


class TensorMessage(msgspec.Struct):
    """A tensor: `data` is None when absent, a list of flat values of the right type, or JSON text."""

    name: _Name
    datatype: str
    shape: list[int]
    data: list[object] | msgspec.Raw | None = None
    parameters: _Parameters = None


class OutputMessage(msgspec.Struct):
    """An output asked for."""

    name: _Name
    parameters: _Parameters = None


class RequestMessage(msgspec.Struct):
    """An inference request."""

    inputs: list[TensorMessage]
    id: str | None = None
    parameters: _Parameters = None
    outputs: list[OutputMessage] | None = None


class ResponseMessage(msgspec.Struct):
    """An answer."""

    outputs: list[TensorMessage]
    model_name: str | None = None
    model_version: str | None = None
    id: str | None = None
    parameters: _Parameters = None


ONE_PASS_BYTES = 4 << 20
"""Larger texts are not read in one pass; at worst one of this size takes 16 times its bytes as objects."""

ABSENT = msgspec.Raw()
"""What `data` is when a tensor that was read as text has none."""


class _TextTensor(TensorMessage):
    data: msgspec.Raw = ABSENT


class _TextRequest(RequestMessage):
    inputs: list[_TextTensor]  # type: ignore[assignment]  # narrower, and never written


class _TextResponse(ResponseMessage):
    outputs: list[_TextTensor]  # type: ignore[assignment]  # narrower, and never written


def _flat_tensor(datatype: str, kind: type) -> type:
    """The message of a tensor of one datatype, chosen by msgspec by the text's own `datatype`."""
    values: Any = list[kind] | None  # type: ignore[valid-type]
    fields: list[tuple[str, Any, Any] | tuple[str, Any]] = [("name", _Name), ("shape", list[int])]
    fields += [("data", values, None), ("parameters", _Parameters, None)]
    return msgspec.defstruct(
        f"{datatype}Tensor", fields, tag_field="datatype", tag=datatype, namespace={"datatype": datatype}
    )


_FlatTensor: Any = Union[tuple(_flat_tensor(datatype, kind) for datatype, kind in VALUE_TYPES.items())]  # noqa: UP007


class _FlatRequest(RequestMessage):
    inputs: list[_FlatTensor]


class _FlatResponse(ResponseMessage):
    outputs: list[_FlatTensor]


_T = TypeVar("_T")
_U = TypeVar("_U")
_FLAT_REQUEST, _TEXT_REQUEST = msgspec.json.Decoder(_FlatRequest), msgspec.json.Decoder(_TextRequest)
_FLAT_RESPONSE, _TEXT_RESPONSE = msgspec.json.Decoder(_FlatResponse), msgspec.json.Decoder(_TextResponse)


def parse_request(text: bytes) -> RequestMessage:
    """Read a request.

    Raises:
        InvalidArgument: not JSON, or not of this form.
    """
    return _parse(text, _FLAT_REQUEST, _TEXT_REQUEST)


def parse_response(text: bytes) -> ResponseMessage:
    """Read an answer.

    Raises:
        InvalidArgument: not JSON, or not of this form.
    """
    return _parse(text, _FLAT_RESPONSE, _TEXT_RESPONSE)


def _parse(text: bytes, flat: msgspec.json.Decoder[_T], with_text: msgspec.json.Decoder[_U]) -> _T | _U:
    check_json(text)
    try:
        if len(text) <= ONE_PASS_BYTES:
            with suppress(msgspec.ValidationError):
                return flat.decode(text)
        return with_text.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"the body is not a message of the V2 protocol: {error}") from error
