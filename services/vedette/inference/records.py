"""From records in memory to messages of the stream: many requests become a few arrays at once.

Rule: everything here runs in the capture thread and takes no step a request that one step for all can do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vedette.codec.captures import CONTENT_TYPE, CaptureBatch, TensorColumn, encode_captures
from vedette.core.events import Message
from vedette.core.models import TensorSpec
from vedette.core.tensors import DATATYPES, Array
from vedette.inference.sampling import Arrays, Sampler

if TYPE_CHECKING:
    from vedette.inference.capture import Place

Record = tuple[str, float, float, str, int, Arrays, Arrays, str, str, str, frozenset[str], int, "Place | None"]
"""One sampled request: inference id, time, latency in s, code, rows, inputs, outputs, content type of the request
and of the response, custom attributes, classified outputs, its size in bytes, and the place it had reserved.
A bare tuple of things that the garbage collector does not follow: an object costs 1 us more a request."""

SIZE: Final = 11
PLACE: Final = 12
_CLASSIFIED: Final = 10
PART_BYTES = 4 << 20
PART_RECORDS = 4096
"""Bounds of one message."""


@dataclass(frozen=True, slots=True)
class Source:
    """Whose requests: one variant as it was loaded."""

    endpoint: str
    variant: str
    model: str
    version: str
    sampler: Sampler


@dataclass(frozen=True, slots=True)
class Part:
    """The records of one message, as far as one was made of them."""

    source: Source
    records: Sequence[Record]
    size: int


def parts_of(source: Source, records: Sequence[Record]) -> Iterator[Part]:
    """Records cut into messages: of bounded size, each output of one datatype throughout."""
    kinds = {record[_CLASSIFIED] for record in records}
    for kind in kinds:
        alike = records if len(kinds) == 1 else [record for record in records if record[_CLASSIFIED] == kind]
        total = sum(record[SIZE] for record in alike)
        if total <= PART_BYTES and len(alike) <= PART_RECORDS:
            yield Part(source, alike, total)
        else:
            yield from _cut(source, alike)


def _cut(source: Source, records: Sequence[Record]) -> Iterator[Part]:
    start = size = 0
    for end, record in enumerate(records):
        if end > start and (size + record[SIZE] > PART_BYTES or end - start == PART_RECORDS):
            yield Part(source, records[start:end], size)
            start, size = end, 0
        size += record[SIZE]
    yield Part(source, records[start:], size)


def new_life() -> str:
    """The beginning of every event id of a process life: a UUID (version 8) but for its last 12 digits."""
    text = os.urandom(10).hex()
    return f"{text[:8]}-{text[8:12]}-8{text[12:15]}-8{text[15:18]}-"


def message_of(part: Part, *, producer: str, life: str, first: int, number: int) -> Message:
    """The message for a part; its records are numbered from `first` on. Raises what `encode_captures` raises."""
    batch = batch_of(part, producer=producer, life=life, first=first)
    return Message(part.source.endpoint, encode_captures(batch), CONTENT_TYPE, producer, number)


def batch_of(part: Part, *, producer: str, life: str, first: int) -> CaptureBatch:
    """The records of a part as columns."""
    source, count = part.source, len(part.records)
    ids, times, latencies, codes, rows, inputs, outputs, asked, answered, attributes, kinds, _, _ = zip(*part.records)
    return CaptureBatch(
        endpoint=source.endpoint,
        variant=source.variant,
        model=source.model,
        version=source.version,
        producer=producer,
        sequences=np.arange(first, first + count, dtype=np.uint64),
        event_ids=_event_ids(life, first, count),
        inference_ids=ids,
        times=np.array(times, np.float64),
        latencies_us=np.rint(np.array(latencies) * 1e6).astype(np.int64),
        codes=codes,
        rows=np.array(rows, np.int64),
        request_types=asked,
        response_types=answered,
        custom_attributes=attributes,
        inputs=_columns(source.sampler.inputs.specs, inputs, frozenset()),
        outputs=_columns(source.sampler.outputs.specs, outputs, kinds[0]),
        excluded=source.sampler.excluded,
    )


_LAST_DIGITS = [f"{number:03x}" for number in range(4096)]


def _event_ids(life: str, first: int, count: int) -> list[str]:
    """`life` and the numbers as twelve hexadecimal digits; a third of the time that formatting each takes."""
    ids: list[str] = []
    number, end = first, first + count
    while number < end:
        block, low = divmod(number, 4096)
        head = f"{life}{block:09x}"
        ids += [head + digits for digits in _LAST_DIGITS[low : low + end - number]]
        number = (block + 1) * 4096
    return ids


def _columns(
    specs: Sequence[TensorSpec], requests: Sequence[Arrays], classified: frozenset[str]
) -> dict[str, TensorColumn]:
    columns: dict[str, TensorColumn] = {}
    for spec, arrays in zip(specs, zip(*requests)):
        datatype = "BYTES" if spec.name in classified else spec.datatype
        columns[spec.name] = _column(spec.name, datatype, arrays)
    return columns


def _column(name: str, datatype: str, arrays: Sequence[Array | None]) -> TensorColumn:
    shapes = [None if array is None else array.shape for array in arrays]
    present: Any = arrays if None not in shapes else [array for array in arrays if array is not None]
    dtype = DATATYPES[datatype].dtype
    values: Array
    if datatype == "BYTES" or not present:
        values = np.concatenate([np.empty(0, dtype), *present], axis=None)
    else:  # a tensor's array is C-contiguous; numpy's own joining takes six times as long for small ones
        data = b"".join(present)
        values = np.frombuffer(data, dtype) if data else np.empty(0, dtype)
    return TensorColumn(name, datatype, values, shapes)
