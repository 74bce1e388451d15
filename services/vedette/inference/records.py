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


def parts_of(source: Source, records: Sequence[Record]) -> Iterator[Part]:
    """Records cut into messages: of bounded size, each output of one datatype throughout."""
    kinds = {record[_CLASSIFIED] for record in records}
    for kind in kinds:
        alike = records if len(kinds) == 1 else [record for record in records if record[_CLASSIFIED] == kind]
        start = size = 0
        for end, record in enumerate(alike):
            if end > start and (size + record[SIZE] > PART_BYTES or end - start == PART_RECORDS):
                yield Part(source, alike[start:end])
                start, size = end, 0
            size += record[SIZE]
        yield Part(source, alike[start:])


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
    numbers = range(first, first + count)
    return CaptureBatch(
        endpoint=source.endpoint,
        variant=source.variant,
        model=source.model,
        version=source.version,
        producer=producer,
        sequences=np.arange(first, first + count, dtype=np.uint64),
        event_ids=[f"{life}{number:012x}" for number in numbers],
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
    values = np.concatenate(present, axis=None) if present else np.empty(0, DATATYPES[datatype].dtype)
    return TensorColumn(name, datatype, values, shapes)
