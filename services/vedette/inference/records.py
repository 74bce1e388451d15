"""From records in memory to messages of the stream: many requests become a few arrays at once.

Rule: everything here runs in the capture thread and takes no step a request that one step for all can do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette.codec.captures import CONTENT_TYPE, CaptureBatch, TensorColumn, encode_captures
from vedette.core.events import Message
from vedette.core.tensors import DATATYPES, Array
from vedette.inference.sampling import Elements, Kept, KeptTensors, Sampler, Shapes

if TYPE_CHECKING:
    from vedette.inference.capture import Place


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What many records in a row have in common, kept once for all of them."""

    code: str
    rows: int
    asked: str
    """Content type of the request."""
    answered: str
    """Content type of the response."""
    attributes: str
    shapes_in: Shapes
    shapes_out: Shapes
    size: int
    """Bytes that a record takes, but for its inference id."""
    classified: frozenset[str] = frozenset()
    """Outputs that are texts "value:index" instead of what the signature says."""
    place: Place | None = None
    """The room that a strict request had reserved."""


Record = tuple[Head, str, float, float, Kept, Kept]
"""One sampled request: head, inference id, time, latency in s, inputs, outputs. As little as possible: what is kept
for 0.2 s is cold when it is needed again."""

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


def size_of(record: Record) -> int:
    """Bytes that the record takes."""
    return record[0].size + len(record[1])


def parts_of(source: Source, records: Sequence[Record]) -> Iterator[Part]:
    """Records cut into messages: of bounded size, each output of one datatype throughout."""
    kinds = {record[0].classified for record in records}
    for kind in kinds:
        alike = records if len(kinds) == 1 else [record for record in records if record[0].classified == kind]
        total = sum(map(size_of, alike))
        if total <= PART_BYTES and len(alike) <= PART_RECORDS:
            yield Part(source, alike, total)
        else:
            yield from _cut(source, alike)


def _cut(source: Source, records: Sequence[Record]) -> Iterator[Part]:
    start = size = 0
    for end, own in enumerate(map(size_of, records)):
        if end > start and (size + own > PART_BYTES or end - start == PART_RECORDS):
            yield Part(source, records[start:end], size)
            start, size = end, 0
        size += own
    yield Part(source, records[start:], size)


def new_life() -> str:
    """The beginning of every event id of a process life: a UUID but for its last 12 digits.

    It says version 4, as SageMaker's do, although only its beginning is random: 72 bits, drawn for each life.
    """
    text = os.urandom(10).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[12:15]}-8{text[15:18]}-"


def message_of(part: Part, *, producer: str, life: str, first: int, number: int) -> Message:
    """The message for a part; its records are numbered from `first` on. Raises what `encode_captures` raises."""
    batch = batch_of(part, producer=producer, life=life, first=first)
    return Message(part.source.endpoint, encode_captures(batch), CONTENT_TYPE, producer, number)


def batch_of(part: Part, *, producer: str, life: str, first: int) -> CaptureBatch:
    """The records of a part as columns."""
    source, count = part.source, len(part.records)
    heads, ids, times, latencies, inputs, outputs = zip(*part.records)
    sampler = source.sampler
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
        codes=[head.code for head in heads],
        rows=np.array([head.rows for head in heads], np.int64),
        request_types=[head.asked for head in heads],
        response_types=[head.answered for head in heads],
        custom_attributes=[head.attributes for head in heads],
        inputs=_columns(sampler.inputs, inputs, [head.shapes_in for head in heads], frozenset()),
        outputs=_columns(sampler.outputs, outputs, [head.shapes_out for head in heads], heads[0].classified),
        excluded=sampler.excluded,
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
    kept: KeptTensors, requests: Sequence[Any], shapes: Sequence[Any], classified: frozenset[str]
) -> dict[str, TensorColumn]:
    """Each tensor's elements over all requests, from each request's over all tensors."""
    tensors = zip((requests,), (shapes,)) if kept.single else zip(zip(*requests), zip(*shapes))
    columns: dict[str, TensorColumn] = {}
    for spec, (elements, own) in zip(kept.specs, tensors):
        datatype = "BYTES" if spec.name in classified else spec.datatype
        columns[spec.name] = TensorColumn(spec.name, datatype, _values(datatype, elements), own)
    return columns


def _values(datatype: str, elements: Sequence[Elements]) -> Array:
    present: list[Any] = [part for part in elements if part is not None]
    dtype = DATATYPES[datatype].dtype
    if datatype == "BYTES":
        return np.concatenate([np.empty(0, dtype), *present], axis=None)
    data = b"".join(present)  # arrays are C-contiguous; numpy's own joining takes six times as long for small ones
    return np.frombuffer(data, dtype) if data else np.empty(0, dtype)
