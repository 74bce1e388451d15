"""The record of sampled requests, on its way to the metrics stream: never in the way of an answer.

`offer` appends to a bounded buffer or counts a drop; a background task turns what is there into one message
of JSON Lines on the topic `captures`.

Rule: nothing here raises into a request, and a column that is excluded is cut out before anything is kept;
a tensor whose columns cannot be told apart is not kept at all.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import uuid
import zlib
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from vedette.codec.binary import byte_size, encode_tensor
from vedette.codec.rows import columns_of
from vedette.core.errors import InvalidArgument, VedetteError
from vedette.core.events import Message
from vedette.core.metrics import Metrics
from vedette.core.models import CaptureSettings, Signature
from vedette.core.ports import EventStream
from vedette.core.tensors import Tensor

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.vedette.captures+jsonlines"
_BATCH = 256
_PAUSE_S = 0.2
"""How long the writer lets records gather before it makes a message of them."""


@dataclass(frozen=True, slots=True)
class CaptureRecord:
    """One answered request. Tensors are shared with the request, not copied."""

    event_id: str
    inference_id: str
    time: float
    """Seconds since the epoch."""
    endpoint: str
    variant: str
    version: str
    code: str
    latency_s: float
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]

    @property
    def size(self) -> int:
        """Bytes of tensors that the record keeps alive; counts them anew each time."""
        return sum(map(byte_size, (*self.inputs, *self.outputs)))


class Sampler:
    """What of one endpoint's traffic is recorded."""

    def __init__(self, settings: CaptureSettings, signature: Signature) -> None:
        self._threshold = settings.sampling_percent / 100 * 2**32
        self._settings = settings
        self._cuts = _cuts(signature, settings.exclude)

    def wants(self, inference_id: str) -> bool:
        """Whether this id is in the sample: the same answer in every replica, so that parts of a trace agree."""
        return zlib.crc32(inference_id.encode()) < self._threshold

    def inputs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The inputs to keep, without the excluded columns: rows of what is left, flat."""
        if not self._settings.inputs:
            return []
        kept = (self._cuts[tensor.name].apply(tensor) for tensor in tensors if tensor.name in self._cuts)
        return [tensor for tensor in kept if tensor is not None]

    def outputs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The outputs to keep."""
        if not self._settings.outputs:
            return []
        return [tensor for tensor in tensors if tensor.name not in self._settings.exclude]


def make_sampler(settings: CaptureSettings, signature: Signature) -> Sampler | None:
    """The sampler that an endpoint's settings ask for; None when nothing is to be recorded.

    Raises:
        InvalidArgument: settings that this service cannot keep to.
    """
    if settings.sampling_percent <= 0:
        return None
    if settings.mode != "best_effort":
        raise InvalidArgument(f"capture mode {settings.mode!r} is not supported; use 'best_effort'")
    known = {spec.name for spec in (*signature.inputs, *signature.outputs)} | set(signature.feature_names)
    unknown = [name for name in settings.exclude if name not in known]
    if unknown:
        raise InvalidArgument(
            f"capture excludes {unknown[0][:80]!r}, which is no input, output or feature of the model"
        )
    return Sampler(settings, signature)


def new_event_id() -> str:
    """The id of a record; also samples requests that bring no inference id."""
    return uuid.uuid4().hex


class Capture:
    """The buffer and its writer."""

    def __init__(
        self, stream: EventStream, metrics: Metrics, *, max_records: int = 4096, max_bytes: int = 64 << 20
    ) -> None:
        self._stream = stream
        self._metrics = metrics
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._buffer: deque[tuple[CaptureRecord, int]] = deque()
        self._bytes = 0
        self._producer = new_event_id()
        self._sequence = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._told_of_defect = False

    def offer(self, record: CaptureRecord) -> bool:
        """Keep the record for the writer; False when the buffer is full and it was dropped and counted."""
        size = record.size
        if len(self._buffer) >= self._max_records or self._bytes + size > self._max_bytes:
            self._count(record.endpoint, "dropped", 1)
            return False
        self._buffer.append((record, size))
        self._bytes += size
        self._wake.set()
        return True

    def failed(self, endpoint: str, *, event_id: str, inference_id: str) -> None:
        """Count a record that an exception, the one being handled, kept from being made; log the first one."""
        if not self._told_of_defect:
            self._told_of_defect = True
            ids = {"endpoint": endpoint, "event_id": event_id, "inference_id": inference_id}
            log.exception("a capture failed unexpectedly; further ones are only counted", extra=ids)
        self._count(endpoint, "failed", 1)

    async def run(self) -> None:
        """Publish what is offered until `stop`; then what is left, once."""
        while not self._stopping:
            await self._wake.wait()
            if not self._stopping:
                await asyncio.sleep(_PAUSE_S)
            self._wake.clear()
            await self.flush()
        await self.flush()

    async def flush(self) -> None:
        """Publish everything in the buffer now. A batch that the stream refuses is counted and gone."""
        while self._buffer:
            by_endpoint: dict[str, list[CaptureRecord]] = {}
            for record, size in [self._buffer.popleft() for _ in range(min(_BATCH, len(self._buffer)))]:
                self._bytes -= size
                by_endpoint.setdefault(record.endpoint, []).append(record)
            await self._publish(by_endpoint)

    def stop(self) -> None:
        """Let `run` finish."""
        self._stopping = True
        self._wake.set()

    async def _publish(self, batches: Mapping[str, list[CaptureRecord]]) -> None:
        for endpoint, records in batches.items():
            value = await asyncio.to_thread(encode, records)
            message = Message(endpoint, value, CONTENT_TYPE, self._producer, self._sequence)
            self._sequence += 1
            try:
                await self._stream.publish("captures", [message])
            except VedetteError as error:
                log.warning(
                    "captures were lost", extra={"endpoint": endpoint, "count": len(records), "reason": str(error)}
                )
                self._count(endpoint, "failed", len(records))
            else:
                self._count(endpoint, "captured", len(records))

    def _count(self, endpoint: str, outcome: str, amount: int) -> None:
        self._metrics.counter("vedette_captures_total", endpoint=endpoint, outcome=outcome, reason="").inc(amount)


def encode(records: Sequence[CaptureRecord]) -> bytes:
    """Records as JSON Lines; a tensor's elements as base64 of the protocol's binary form."""
    return b"".join(msgspec.json.encode(_document(record)) + b"\n" for record in records)


def _document(record: CaptureRecord) -> dict[str, object]:
    return {
        "event_id": record.event_id,
        "inference_id": record.inference_id,
        "time": record.time,
        "endpoint": record.endpoint,
        "variant": record.variant,
        "model_version": record.version,
        "status": record.code,
        "latency_us": round(record.latency_s * 1e6),
        "inputs": [_tensor(tensor) for tensor in record.inputs],
        "outputs": [_tensor(tensor) for tensor in record.outputs],
    }


def _tensor(tensor: Tensor) -> dict[str, object]:
    data = base64.b64encode(encode_tensor(tensor)).decode()
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.array.shape), "data": data}


@dataclass(frozen=True, slots=True)
class _Cut:
    """What is taken out of one input: `columns` of the `width` that a row of it has."""

    width: int = 0
    columns: tuple[int, ...] = ()

    def apply(self, tensor: Tensor) -> Tensor | None:
        """The tensor without the columns; None when nothing is left or its rows have another width."""
        if not self.columns:
            return tensor
        array = tensor.array
        if array.ndim == 0 or array.size != array.shape[0] * self.width or self.width == len(self.columns):
            return None
        rows = array.reshape(array.shape[0], self.width)
        return Tensor(tensor.name, tensor.datatype, np.delete(rows, self.columns, axis=1))


def _cuts(signature: Signature, exclude: Collection[str]) -> dict[str, _Cut]:
    """How each input is cut. One that is not in it is not kept: it is excluded, or its columns have no names."""
    recorded = [spec.name for spec in signature.inputs if spec.name not in exclude]
    names = signature.feature_names
    if not any(name in exclude for name in names):
        return {name: _Cut() for name in recorded}
    try:
        columns = columns_of(signature, len(names))
    except InvalidArgument:
        return {}
    cuts, start = {}, 0
    for spec, width in zip(columns.inputs, columns.widths, strict=True):
        own = names[start : start + width]
        cuts[spec.name] = _Cut(width, tuple(i for i, name in enumerate(own) if name in exclude))
        start += width
    return {name: cuts[name] for name in recorded}
