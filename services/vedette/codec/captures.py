"""Captured requests as one Arrow record batch: what a message of the topic `captures` carries.

The value is a plain Arrow IPC stream (uncompressed) that `pyarrow.ipc.open_stream` reads. One row is one
request; all rows are of one endpoint, variant and model version, named in the schema's metadata together with
the producer, the columns that were cut out (`excluded`, a JSON list) and the version of this layout.

- `sequence` uint64, `event_id`, `inference_id` string, `time` float64 (seconds since the epoch), `latency_us`
  int64, `code` ("OK" or the code of an error), `rows` int64 (0: unknown), `request_type`, `response_type`,
  `custom_attributes`: the last four but `rows` as dictionaries of strings.
- for each tensor `input:NAME` (`output:NAME`), a list of its elements in C order, and beside it
  `input_shape:NAME`, a dictionary of texts: `1,30`, or nothing for a scalar. Both are null where a request has no
  such tensor. The field's metadata names the protocol's `datatype`; BF16 is uint16 bit patterns, BYTES is binary.

Rule: decoding trusts nothing: it takes no memory that the message does not have, and numeric arrays are views
of it.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vedette.codec.binary import object_array
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import DATATYPES, Array, element_count

if TYPE_CHECKING:
    import pyarrow as pa

CONTENT_TYPE = "application/vnd.vedette.captures+arrow"
MAX_BYTES = 32 << 20
"""Longest message, written or read."""
LAYOUT = "1"
_SHAPE = re.compile(r"(?:[0-9]{1,18}(?:,[0-9]{1,18}){0,31})?")
_NAMES = ("endpoint", "variant", "model", "version", "producer")

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorColumn:
    """One input or output over all requests of a batch."""

    name: str
    datatype: str
    values: Array
    """The elements of all requests one after another, flat, in C order; BYTES: an object array of `bytes`."""
    shapes: Sequence[Shape | None]
    """The tensor's shape in each request; None where the request has no such tensor (it failed)."""

    def stacked(self) -> Array:
        """All rows as one array of shape (rows, values in a row); requests without the tensor add none.

        Raises:
            InvalidArgument: requests differ in the shape of a row, or the tensor is a scalar and has no rows.
        """
        shapes = {shape for shape in self.shapes if shape is not None}
        trailing = {shape[1:] for shape in shapes}
        if len(trailing) > 1 or () in shapes:
            raise InvalidArgument(f"tensor {self.name[:80]!r} does not have rows of one shape in all requests")
        width = element_count(trailing.pop()) if trailing else 0
        rows = sum(shape[0] for shape in self.shapes if shape is not None)
        return self.values.reshape(rows, width)


@dataclass(frozen=True, slots=True)
class CaptureBatch:
    """Captured requests of one endpoint, variant and version; every sequence has one entry a request."""

    endpoint: str
    variant: str
    model: str
    version: str
    producer: str
    """Durable id of the worker that captured them."""
    sequences: NDArray[np.uint64]
    """The number of each sampled request in its producer's count; a gap is a loss."""
    event_ids: Sequence[str]
    inference_ids: Sequence[str]
    """Empty where the caller gave none."""
    times: NDArray[np.float64]
    """When each was answered, seconds since the epoch."""
    latencies_us: NDArray[np.int64]
    codes: Sequence[str]
    rows: NDArray[np.int64]
    """0: unknown, the request failed before its rows were counted."""
    request_types: Sequence[str]
    """Content types as observed."""
    response_types: Sequence[str]
    custom_attributes: Sequence[str]
    """SageMaker's header; empty where there was none."""
    inputs: Mapping[str, TensorColumn] = field(default_factory=dict)
    outputs: Mapping[str, TensorColumn] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    """Columns and tensors that were cut out; an input that lost columns has rows of what is left, flat."""

    def __len__(self) -> int:
        return len(self.sequences)


def encode_captures(batch: CaptureBatch) -> bytes:
    """The batch as a message's value.

    Raises:
        InvalidArgument: entries that do not belong together, or a message over `MAX_BYTES`.
    """
    import pyarrow as pa

    columns: list[Any] = [
        pa.array(batch.sequences, pa.uint64()),
        pa.array(batch.event_ids, pa.string()),
        pa.array(batch.inference_ids, pa.string()),
        pa.array(batch.times, pa.float64()),
        pa.array(batch.latencies_us, pa.int64()),
        pa.array(batch.rows, pa.int64()),
        *(_texts(texts) for texts in _dictionaries(batch)),
    ]
    tensors = [*batch.inputs.values(), *batch.outputs.values()]
    for tensor in tensors:
        columns += _tensor_arrays(tensor)
    if any(len(column) != len(batch) for column in columns):
        raise InvalidArgument("captures: the parts of a batch have different lengths")
    kinds = tuple([("input", t.name, t.datatype) for t in batch.inputs.values()]
                  + [("output", t.name, t.datatype) for t in batch.outputs.values()])  # fmt: skip
    metadata = {name: getattr(batch, name) for name in _NAMES}
    metadata |= {"captures": LAYOUT, "excluded": json.dumps(batch.excluded)}
    schema = _schema(kinds).with_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    value: bytes = sink.getvalue().to_pybytes()
    if len(value) > MAX_BYTES:
        raise InvalidArgument(f"captures: a message of {len(value)} bytes is over the limit of {MAX_BYTES}")
    return value


def decode_captures(value: bytes) -> CaptureBatch:
    """The batch in a message's value; its numeric arrays are read-only views of `value`.

    Raises:
        InvalidArgument: it is not a message of this layout, is damaged, or claims more than it holds.
    """
    with _readable(value):
        return _decoded(_read(value))


def read_captures(value: bytes) -> pa.RecordBatch:
    """The Arrow record batch of a message as it lies there, for who keeps captures and does not look into them.

    Raises:
        InvalidArgument: as `decode_captures`, but the elements of tensors are not held against their shapes.
    """
    with _readable(value):
        return _read(value)


@contextmanager
def _readable(value: bytes) -> Iterator[None]:
    """Whatever Arrow says of a message that it cannot read, as the caller's error."""
    if len(value) > MAX_BYTES:
        raise InvalidArgument(f"captures: a message of {len(value)} bytes is over the limit of {MAX_BYTES}")
    import pyarrow as pa

    try:
        yield
    except InvalidArgument:
        raise
    except (pa.ArrowException, struct.error, ValueError, TypeError, KeyError, OverflowError, OSError) as error:
        raise InvalidArgument("captures: the message is not a readable batch of captures") from error


def _dictionaries(batch: CaptureBatch) -> tuple[Sequence[str], ...]:
    return batch.codes, batch.request_types, batch.response_types, batch.custom_attributes


def _texts(texts: Sequence[str]) -> pa.Array:
    import pyarrow as pa

    if texts and texts.count(texts[0]) == len(texts):  # the usual case: a tenth of the time
        return pa.DictionaryArray.from_arrays(np.zeros(len(texts), np.int32), pa.array(texts[:1], pa.string()))
    return pa.array(texts, pa.string()).dictionary_encode()


@lru_cache(maxsize=64)
def _schema(tensors: tuple[tuple[str, str, str], ...]) -> pa.Schema:
    """The schema of a batch with these tensors (direction, name, datatype), without the batch's own metadata."""
    import pyarrow as pa

    text, words = pa.string(), pa.dictionary(pa.int32(), pa.string())
    fixed = [
        ("sequence", pa.uint64()),
        ("event_id", text),
        ("inference_id", text),
        ("time", pa.float64()),
        ("latency_us", pa.int64()),
        ("rows", pa.int64()),
        ("code", words),
        ("request_type", words),
        ("response_type", words),
        ("custom_attributes", words),
    ]
    fields = [pa.field(name, kind, nullable=False) for name, kind in fixed]
    for direction, name, datatype in tensors:
        kind = pa.list_(_element_type(datatype))
        fields.append(pa.field(f"{direction}:{name}", kind, metadata={"datatype": datatype}))
        fields.append(pa.field(f"{direction}_shape:{name}", words))
    return pa.schema(fields)


_FIXED = 10
"""Fields of the schema before the tensors."""


def _element_type(datatype: str) -> pa.DataType:
    import pyarrow as pa

    if datatype not in DATATYPES:
        raise InvalidArgument(f"captures: {datatype[:20]!r} is no datatype")
    return pa.binary() if datatype == "BYTES" else pa.from_numpy_dtype(DATATYPES[datatype].dtype)


def _tensor_arrays(tensor: TensorColumn) -> tuple[pa.Array, pa.Array]:
    """A tensor's two columns: elements and shapes."""
    import pyarrow as pa

    numbers: dict[Shape, int] = {}
    missing: NDArray[np.bool_] | None = None
    first = tensor.shapes[0] if len(tensor.shapes) else None
    if first is not None and tensor.shapes.count(first) == len(tensor.shapes):  # the usual case, told apart at once
        numbers[first] = 0
        indices = np.zeros(len(tensor.shapes), np.int32)
    else:
        indices = np.array([-1 if s is None else numbers.setdefault(s, len(numbers)) for s in tensor.shapes], np.int32)
        missing = indices < 0
    sizes = np.array([element_count(shape) for shape in numbers] + [0], np.int64)[indices]
    offsets = np.zeros(len(indices) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    if int(offsets[-1]) != len(tensor.values):
        raise InvalidArgument(f"captures: tensor {tensor.name[:80]!r} has not the elements that its shapes take")
    mask = pa.array(missing) if missing is not None and missing.any() else None
    elements = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), _elements(tensor), mask=mask)
    known = pa.array([",".join(map(str, shape)) for shape in numbers], pa.string())
    return elements, pa.DictionaryArray.from_arrays(pa.array(indices, mask=missing), known)


def _elements(tensor: TensorColumn) -> pa.Array:
    import pyarrow as pa

    kind = _element_type(tensor.datatype)
    if tensor.datatype == "BYTES":
        return pa.array(tensor.values.tolist(), kind)
    values = np.ascontiguousarray(tensor.values, DATATYPES[tensor.datatype].dtype)
    if tensor.datatype == "BOOL":  # Arrow packs bits
        return pa.array(values, kind)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _read(value: bytes) -> pa.RecordBatch:
    """The one record batch, checked down to the last offset."""
    import pyarrow as pa

    _check_uncompressed(value)
    with pa.ipc.open_stream(pa.py_buffer(value)) as reader:
        _check_schema(reader.schema)
        batches = list(islice(reader, 2))
    if len(batches) != 1:
        raise InvalidArgument("captures: a message holds one record batch")
    batch = batches[0]
    batch.validate(full=True)
    if batch.nbytes > len(value):  # columns that share bytes with others would grow when they are copied
        raise InvalidArgument("captures: the batch claims more than the message holds")
    return batch


def _check_schema(schema: pa.Schema) -> None:
    metadata = schema.metadata or {}
    if metadata.get(b"captures") != LAYOUT.encode():
        raise InvalidArgument("captures: the message has another layout than this version reads")
    tensors = tuple(_tensor_fields(schema))
    if not schema.equals(_schema(tensors)):
        raise InvalidArgument("captures: the message has other columns than this version reads")
    if len({(direction, name) for direction, name, _ in tensors}) != len(tensors):
        raise InvalidArgument("captures: a tensor is in the message twice")


def _tensor_fields(schema: pa.Schema) -> Iterator[tuple[str, str, str]]:
    """Direction, name and datatype of the tensors that the schema says it has."""
    for number in range(_FIXED, len(schema), 2):
        column = schema.field(number)
        direction, _, name = column.name.partition(":")
        if direction not in ("input", "output"):
            raise InvalidArgument("captures: the message has a column that is neither input nor output")
        yield direction, name, (column.metadata or {}).get(b"datatype", b"").decode()


def _decoded(batch: pa.RecordBatch) -> CaptureBatch:
    metadata = {key.decode(): text.decode() for key, text in batch.schema.metadata.items()}
    if any(batch.column(number).null_count for number in range(_FIXED)):
        raise InvalidArgument("captures: a record lacks a required part")
    excluded = json.loads(metadata["excluded"])
    if not isinstance(excluded, list) or not all(isinstance(name, str) for name in excluded):
        raise InvalidArgument("captures: the excluded columns are not a list of names")
    tensors: dict[str, dict[str, TensorColumn]] = {"input": {}, "output": {}}
    for number, (direction, name, datatype) in enumerate(_tensor_fields(batch.schema)):
        at = _FIXED + 2 * number
        tensors[direction][name] = _tensor_column(name, datatype, batch.column(at), batch.column(at + 1))
    sequences, times, latencies, rows = (batch.column(number).to_numpy() for number in (0, 3, 4, 5))
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < 2**31:
        raise InvalidArgument("captures: a record has an impossible number of rows")
    codes, request_types, response_types, attributes = (_from_dictionary(batch.column(n)) for n in range(6, _FIXED))
    return CaptureBatch(
        **{name: metadata[name] for name in _NAMES},
        sequences=sequences,
        event_ids=batch.column(1).to_pylist(),
        inference_ids=batch.column(2).to_pylist(),
        times=times,
        latencies_us=latencies,
        codes=codes,
        rows=rows,
        request_types=request_types,
        response_types=response_types,
        custom_attributes=attributes,
        inputs=tensors["input"],
        outputs=tensors["output"],
        excluded=tuple(excluded),
    )


def _from_dictionary(column: pa.DictionaryArray) -> list[Any]:
    """The entries in order, None where null; equal ones are one object."""
    known = [*column.dictionary.to_pylist(), None]
    indices = column.indices.fill_null(len(known) - 1).to_pylist()
    return [known[index] for index in indices]


def _tensor_column(name: str, datatype: str, elements: pa.ListArray, shapes: pa.DictionaryArray) -> TensorColumn:
    """A tensor from its two columns; the elements must be exactly those that the shapes take."""
    known = [_shape(text) for text in shapes.dictionary.to_pylist()]
    sizes = np.array([*(min(element_count(shape), MAX_BYTES + 1) for shape in known), 0], np.int64)
    indices = shapes.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    lengths = np.diff(elements.offsets.to_numpy())
    if (lengths != sizes[indices]).any():
        raise InvalidArgument(f"captures: tensor {name[:80]!r} has not the elements that its shapes take")
    flat = elements.flatten()
    if flat.null_count or len(flat) != lengths.sum():
        raise InvalidArgument(f"captures: tensor {name[:80]!r} has elements that are missing")
    values = object_array(flat.to_pylist()) if datatype == "BYTES" else flat.to_numpy(zero_copy_only=datatype != "BOOL")
    entries = [*known, None]
    return TensorColumn(name, datatype, values, [entries[index] for index in indices.tolist()])


def _shape(text: object) -> Shape:
    if not isinstance(text, str) or _SHAPE.fullmatch(text) is None:
        raise InvalidArgument("captures: a shape is not a list of sizes")
    return tuple(map(int, text.split(","))) if text else ()


def _check_uncompressed(value: bytes) -> None:
    """Refuse compressed buffers before Arrow unpacks them: a few bytes could ask for all memory.

    Walks the messages of the IPC stream: a marker, the length of the flatbuffer, the flatbuffer, its body.
    Source: Apache Arrow, format/Message.fbs and "IPC streaming format".
    """
    position = 0
    while position < len(value):
        marker, length = struct.unpack_from("<Ii", value, position)
        if marker != 0xFFFFFFFF or length < 0:
            raise InvalidArgument("captures: the message is not an Arrow stream")
        if not length:
            return
        message = _Table.root(value, position + 8)
        kind, body = message.scalar(1, "<B"), message.scalar(3, "<q")
        if kind in (_DICTIONARY_BATCH, _RECORD_BATCH):
            batch = message.table(2)
            record = batch.table(1) if kind == _DICTIONARY_BATCH else batch
            if record.has(3):
                raise InvalidArgument("captures: compressed batches are not read")
        if body < 0:
            raise InvalidArgument("captures: the message is not an Arrow stream")
        position += 8 + length + body


_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a flatbuffer, as far as `_check_uncompressed` needs one. Raises struct.error out of bounds."""

    value: bytes
    at: int

    @classmethod
    def root(cls, value: bytes, start: int) -> _Table:
        return cls(value, start + _number("<I", value, start))

    def has(self, number: int) -> bool:
        return self._place(number) is not None

    def scalar(self, number: int, form: str) -> int:
        place = self._place(number)
        return 0 if place is None else _number(form, self.value, place)

    def table(self, number: int) -> _Table:
        place = self._place(number)
        if place is None:
            raise InvalidArgument("captures: the message is not an Arrow stream")
        return _Table(self.value, place + _number("<I", self.value, place))

    def _place(self, number: int) -> int | None:
        """Where a field is; None when it has its default."""
        directory = self.at - _number("<i", self.value, self.at)
        entry = 4 + 2 * number
        offset = _number("<H", self.value, directory + entry) if entry < _number("<H", self.value, directory) else 0
        return self.at + offset if offset else None


def _number(form: str, value: bytes, at: int) -> int:
    if at < 0:  # struct would count from the end
        raise struct.error("before the beginning")
    number: int = struct.unpack_from(form, value, at)[0]
    return number
