"""Open Inference Protocol v2 over HTTP: JSON, with binary tensors behind it when a header says so.

Rule: no server and no model here; both ends, so that the SDK speaks exactly what the server reads.
Source: kserve/open-inference-protocol, REST; Triton's binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from vedette.codec.binary import decode_tensor, encode_tensor, object_array
from vedette.codec.checks import check_datatype, check_unique
from vedette.codec.jsondata import decode_values, encodable, to_json
from vedette.codec.jsontext import decode_text
from vedette.codec.messages import ABSENT, OutputMessage, TensorMessage, parse_request, parse_response
from vedette.codec.parameters import check_no_shared_memory, check_parameters, flag, whole_number
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.core.tensors import (
    DATATYPES,
    InferRequest,
    InferResponse,
    Parameter,
    RequestedOutput,
    Tensor,
    element_count,
)


def decode_request(body: bytes, json_length: int | None = None) -> InferRequest:
    """Read an inference request; endpoint and version are the caller's to fill in.

    `json_length` is the header Inference-Header-Content-Length: where JSON ends and binary tensors begin;
    None when the body is JSON alone. For its value 0 use `decode_raw_request`. Numeric tensors may be views
    of `body`.

    Raises:
        InvalidArgument: names the tensor or field and what is wrong with it.
        Unimplemented: shared memory, sequences.
    """
    text, rest = _split(body, json_length)
    message = parse_request(text)
    parameters = message.parameters or {}
    binary_output = False
    if parameters:
        binary_output = flag("binary_data_output", parameters.pop("binary_data_output", False))
        check_parameters(parameters)
    inputs = _tensors(message.inputs, rest)
    if len(inputs) > 1:
        check_unique((tensor.name for tensor in inputs), "input")
    return InferRequest(
        endpoint="",
        inputs=inputs,
        id=message.id or "",
        outputs=_requested(message.outputs) if message.outputs else [],
        parameters=parameters,
        binary_output=binary_output,
    )


def decode_raw_request(body: bytes, signature: Signature) -> InferRequest:
    """Read a raw request (header value 0): the bytes of the model's only input, and binary outputs.

    Raises:
        InvalidArgument: the model has several inputs or more than one variable dimension, or the bytes
            do not fill whole rows.
    """
    if len(signature.inputs) != 1:
        raise InvalidArgument(f"a raw request is for models of one input; this one has {len(signature.inputs)}")
    spec = signature.inputs[0]
    if spec.datatype == "BYTES":  # the body is the one element, without a length before it
        array = object_array([body]).reshape([1] * max(1, len(spec.shape)))
        return InferRequest(endpoint="", inputs=[Tensor(spec.name, "BYTES", array)], binary_output=True)
    shape = list(spec.shape)
    if shape.count(-1) > 1:
        raise InvalidArgument(f"a raw request leaves at most one dimension open; {spec.name!r} has shape {shape}")
    if -1 in shape:
        row = element_count([dim for dim in shape if dim != -1]) * DATATYPES[spec.datatype].itemsize
        shape[shape.index(-1)] = len(body) // row if row else 0
    return InferRequest(endpoint="", inputs=[decode_tensor(spec.name, spec.datatype, shape, body)], binary_output=True)


def decode_response(body: bytes, json_length: int | None = None) -> InferResponse:
    """Read an answer; `json_length` as for `decode_request`. Numeric tensors may be views of `body`.

    Raises:
        InvalidArgument: it is not an answer of the protocol.
    """
    text, rest = _split(body, json_length)
    message = parse_response(text)
    return InferResponse(
        endpoint=message.model_name or "",
        version=message.model_version or "",
        variant="",
        outputs=_tensors(message.outputs, rest),
        id=message.id or "",
        parameters=message.parameters or {},
    )


def encode_request(request: InferRequest, binary: bool) -> tuple[bytes, int | None]:  # noqa: FBT001
    """The body of a request and the length of its JSON (None: it is all JSON).

    The JSON before binary tensors is padded with blanks to a multiple of 8, so that they arrive aligned.

    Raises:
        InvalidArgument: not `binary`, and JSON cannot carry a value.
    """
    document: dict[str, object] = {"id": request.id} if request.id else {}
    parameters: dict[str, Parameter] = dict(request.parameters)
    if request.binary_output:
        parameters["binary_data_output"] = True
    if parameters:
        document["parameters"] = parameters
    blobs: list[bytes | memoryview] = []
    document["inputs"] = [_tensor_document(tensor, binary, blobs) for tensor in request.inputs]
    if request.outputs:
        document["outputs"] = [_output_document(output) for output in request.outputs]
    return _join(document, blobs)


def encode_response(response: InferResponse, binary: Mapping[str, bool]) -> tuple[bytes, int | None]:
    """The body of an answer and the length of its JSON (None: it is all JSON).

    `binary` says of each output by name whether it goes as binary; one that is missing goes as JSON.

    Raises:
        InvalidArgument: JSON cannot carry a value of an output; the text advises binary.
    """
    document: dict[str, object] = {"model_name": response.endpoint, "model_version": response.version}
    if response.id:
        document["id"] = response.id
    if response.parameters:
        document["parameters"] = response.parameters
    blobs: list[bytes | memoryview] = []
    document["outputs"] = [
        _tensor_document(tensor, binary.get(tensor.name, False), blobs) for tensor in response.outputs
    ]
    return _join(document, blobs)


def _split(body: bytes, json_length: int | None) -> tuple[bytes, memoryview | None]:
    if json_length is None:
        return body, None
    if not 0 < json_length <= len(body):
        raise InvalidArgument(f"the JSON header is said to take {json_length} bytes of a body of {len(body)}")
    return body[:json_length], memoryview(body)[json_length:]


def _tensors(messages: Sequence[TensorMessage], rest: memoryview | None) -> list[Tensor]:
    """Tensors in order, those with a `binary_data_size` cut from `rest`, which must be used up exactly."""
    tensors: list[Tensor] = []
    position = 0
    for message in messages:
        size = _binary_size(message)
        if size is None:
            tensors.append(_json_tensor(message))
            continue
        if rest is None or size > len(rest) - position:
            have = "without Inference-Header-Content-Length" if rest is None else f"of {len(rest) - position} left"
            raise InvalidArgument(f"tensor {message.name!r}: 'binary_data_size' asks for {size} bytes {have}")
        raw = rest[position : position + size]
        tensors.append(decode_tensor(message.name, message.datatype, message.shape, raw))
        position += size
    if rest is not None and position != len(rest):
        raise InvalidArgument(f"{len(rest) - position} bytes are left over after the last binary tensor")
    return tensors


def _binary_size(message: TensorMessage) -> int | None:
    if not message.parameters:
        return None
    check_no_shared_memory(message.name, message.parameters)
    size = message.parameters.get("binary_data_size")
    if size is None:
        return None
    if _data(message) is not None:
        raise InvalidArgument(f"tensor {message.name!r} has both 'data' and 'binary_data_size'")
    return whole_number("binary_data_size", size)


def _json_tensor(message: TensorMessage) -> Tensor:
    data = _data(message)
    if data is None:
        raise InvalidArgument(f"tensor {message.name!r} has neither 'data' nor 'binary_data_size'")
    if isinstance(data, list):
        return decode_values(message.name, message.datatype, message.shape, data)
    check_datatype(message.name, message.datatype)
    return decode_text(message.name, message.datatype, message.shape, data)


def _data(message: TensorMessage) -> list[object] | msgspec.Raw | None:
    """`data` as values or as text; None when it is missing or null."""
    data = message.data
    if isinstance(data, msgspec.Raw) and (data is ABSENT or bytes(memoryview(data)[:4]) == b"null"):
        return None
    return data


def _requested(messages: Sequence[OutputMessage]) -> list[RequestedOutput]:
    check_unique((message.name for message in messages), "output")
    outputs: list[RequestedOutput] = []
    for message in messages:
        parameters = message.parameters or {}
        check_no_shared_memory(message.name, parameters)
        binary = parameters.get("binary_data")
        outputs.append(
            RequestedOutput(
                message.name,
                classification=whole_number("classification", parameters.get("classification", 0)),
                binary=None if binary is None else flag("binary_data", binary),
            )
        )
    return outputs


def _tensor_document(tensor: Tensor, binary: bool, blobs: list[bytes | memoryview]) -> dict[str, object]:  # noqa: FBT001
    """The tensor's object in the JSON; its bytes are appended to `blobs` when it goes as binary."""
    document: dict[str, object] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.array.shape}
    if not binary:
        document["data"] = encodable(tensor)
        return document
    blob = encode_tensor(tensor)
    blobs.append(blob)
    document["parameters"] = {"binary_data_size": len(blob)}
    return document


def _output_document(output: RequestedOutput) -> dict[str, object]:
    parameters: dict[str, Parameter] = {}
    if output.binary is not None:
        parameters["binary_data"] = output.binary
    if output.classification:
        parameters["classification"] = output.classification
    return {"name": output.name, "parameters": parameters} if parameters else {"name": output.name}


def _join(document: dict[str, object], blobs: list[bytes | memoryview]) -> tuple[bytes, int | None]:
    text = to_json(document)
    if not blobs:
        return text, None
    text += b" " * (-len(text) % 8)
    return b"".join((text, *blobs)), len(text)
