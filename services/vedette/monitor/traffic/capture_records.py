"""Captures as SageMaker writes them: one JSON object a request, and the key under which a file of them lies.

Source: Amazon SageMaker, "Capture data from real-time endpoint" and recorded files of data capture.
Payloads are written anew from the tensors, in the kind of text that was observed, because columns that were
excluded are gone and bytes that were not understood never became a capture.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from vedette.codec import csv, jsonlines
from vedette.codec.binary import encode_tensor
from vedette.codec.captures import CaptureBatch, TensorColumn
from vedette.codec.jsondata import to_json
from vedette.codec.predictions import json_rows
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Tensor, element_count

EVENT_VERSION = "0"


@dataclass(frozen=True, slots=True)
class ContentTypes:
    """Which observed types are written as readable text; everything else is base64 (CaptureContentTypeHeader)."""

    csv: tuple[str, ...] = ("text/csv",)
    json: tuple[str, ...] = ("application/json", "application/jsonlines")

    def encoding(self, observed: str) -> str:
        """`CSV`, `JSON` or `BASE64`."""
        media = observed.partition(";")[0].strip().lower()
        if media in self.csv:
            return "CSV"
        return "JSON" if media in self.json else "BASE64"


def record_lines(batch: CaptureBatch, types: ContentTypes) -> Iterator[tuple[float, bytes]]:
    """Time and line of every request of the batch that was answered, in order; failed ones have no output to write."""
    readers = [(side, _Reader(column)) for side in (batch.inputs, batch.outputs) for column in side.values()]
    for number in range(len(batch)):
        inputs = [reader.take(number) for side, reader in readers if side is batch.inputs]
        outputs = [reader.take(number) for side, reader in readers if side is batch.outputs]
        if batch.codes[number] == "OK":
            yield float(batch.times[number]), _line(batch, number, _present(inputs), _present(outputs), types)


def folder_of(endpoint: str, variant: str, moment: float) -> str:
    """`<endpoint>/<variant>/yyyy/mm/dd/hh`, the UTC hour of the call."""
    return f"{endpoint}/{variant}/{datetime.fromtimestamp(moment, UTC):%Y/%m/%d/%H}"


def file_name(moment: float, unique: str) -> str:
    """`MM-SS-mmm-<unique>.jsonl`: minute, second and millisecond of the first record."""
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at:%M-%S}-{at.microsecond // 1000:03d}-{unique}.jsonl"


class _Reader:
    """Walks a tensor's elements from request to request."""

    def __init__(self, column: TensorColumn) -> None:
        self._column = column
        self._at = 0

    def take(self, number: int) -> Tensor | None:
        """The tensor of the next request, which must be `number`."""
        shape = self._column.shapes[number]
        if shape is None:
            return None
        start, self._at = self._at, self._at + element_count(shape)
        return Tensor(self._column.name, self._column.datatype, self._column.values[start : self._at].reshape(shape))


def _present(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


def _line(batch: CaptureBatch, number: int, inputs: list[Tensor], outputs: list[Tensor], types: ContentTypes) -> bytes:
    captured: dict[str, object] = {}
    if inputs:
        captured["endpointInput"] = _payload(inputs, batch.request_types[number], "INPUT", types)
    if outputs:
        captured["endpointOutput"] = _payload(outputs, batch.response_types[number], "OUTPUT", types)
    event: dict[str, object] = {"eventId": batch.event_ids[number]}
    if batch.inference_ids[number]:
        event["inferenceId"] = batch.inference_ids[number]
    if batch.custom_attributes[number]:
        event["customAttributes"] = [batch.custom_attributes[number]]
    event["inferenceTime"] = f"{datetime.fromtimestamp(float(batch.times[number]), UTC):%Y-%m-%dT%H:%M:%SZ}"
    document = {"captureData": captured, "eventMetadata": event, "eventVersion": EVENT_VERSION}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _payload(tensors: list[Tensor], observed: str, mode: str, types: ContentTypes) -> Mapping[str, object]:
    encoding = types.encoding(observed)
    try:
        data = _WRITERS[encoding](tensors, observed, mode)
    except (InvalidArgument, msgspec.MsgspecError, TypeError):  # NaN in JSON, text that is not UTF-8, uneven rows
        encoding, data = "BASE64", _base64(tensors, observed, mode)
    return {"observedContentType": observed or None, "mode": mode, "data": data, "encoding": encoding}


def _csv(tensors: list[Tensor], _observed: str, _mode: str) -> str:
    return csv.encode(tensors).decode().rstrip("\n")


def _json(tensors: list[Tensor], observed: str, mode: str) -> str:
    if observed.startswith("application/jsonlines"):
        return jsonlines.encode(tensors).decode().rstrip("\n")
    return to_json({"instances" if mode == "INPUT" else "predictions": json_rows(tensors)}).decode()


def _base64(tensors: list[Tensor], _observed: str, _mode: str) -> str:
    """The protocol's binary form of the tensors, one after another."""
    return base64.b64encode(b"".join(bytes(encode_tensor(tensor)) for tensor in tensors)).decode()


_WRITERS = {"CSV": _csv, "JSON": _json, "BASE64": _base64}
