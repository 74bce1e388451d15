"""Captures as Arrow: what goes in comes out to the last bit, plain Arrow reads it, and no message does harm."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.codec_tensors import SHAPES, arrays

from vedette.codec import captures
from vedette.codec.binary import object_array
from vedette.codec.captures import CaptureBatch, TensorColumn, decode_captures, encode_captures
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import DATATYPES, Array


def batch_of(count: int, **fields: Any) -> CaptureBatch:
    """A batch of so many requests without tensors, unless `fields` brings some."""
    plain = CaptureBatch(
        endpoint="credit", variant="primary", model="risk", version="3", producer="producer-1",
        sequences=np.arange(7, 7 + count, dtype=np.uint64),
        event_ids=[f"event-{n}" for n in range(count)],
        inference_ids=["" if n % 2 else f"i-{n}" for n in range(count)],
        times=np.arange(count, dtype=np.float64) / 8 + 1.7e9,
        latencies_us=np.arange(count, dtype=np.int64) * 100,
        codes=["OK"] * count,
        rows=np.ones(count, np.int64),
        request_types=["application/json"] * count,
        response_types=["application/json"] * count,
        custom_attributes=[""] * count,
    )  # fmt: skip
    return replace(plain, **fields)


def column(name: str, datatype: str, parts: Sequence[Array | None]) -> TensorColumn:
    """A column of one array a request; None: the request has none."""
    flat = [part.ravel() for part in parts if part is not None]
    empty: Array = np.empty(0, DATATYPES[datatype].dtype)
    values = np.concatenate([empty, *flat])
    return TensorColumn(name, datatype, values, [None if part is None else part.shape for part in parts])


@st.composite
def columns(draw: st.DrawFn, name: str, count: int) -> TensorColumn:
    """A column of any datatype; its requests have any shapes, the same or different ones, or none."""
    datatype = draw(st.sampled_from(sorted(DATATYPES)))
    shapes = draw(st.one_of(SHAPES.map(lambda one: [one] * count), st.lists(st.none() | SHAPES, min_size=count,
                                                                            max_size=count)))  # fmt: skip
    parts = [None if s is None else draw(arrays(datatype, s, finite=False, text=False)) for s in shapes]
    return column(name, datatype, parts)


@st.composite
def batches(draw: st.DrawFn) -> CaptureBatch:
    """A batch of up to five requests with up to two inputs and two outputs, and any texts."""
    count = draw(st.integers(0, 5))
    texts = st.lists(st.text(max_size=8), min_size=count, max_size=count)
    names = st.lists(st.text(max_size=5), unique=True, max_size=2)
    inputs, outputs = ({name: draw(columns(name, count)) for name in draw(names)} for _ in range(2))
    return batch_of(
        count, endpoint=draw(st.text(max_size=8)), producer=draw(st.text(max_size=8)), event_ids=draw(texts),
        inference_ids=draw(texts), codes=draw(texts), request_types=draw(texts), response_types=draw(texts),
        custom_attributes=draw(texts), inputs=inputs, outputs=outputs,
        excluded=tuple(draw(st.lists(st.text(max_size=5), max_size=3))),
        times=np.array(draw(st.lists(st.floats(), min_size=count, max_size=count)), np.float64),
    )  # fmt: skip


def assert_same(actual: CaptureBatch, expected: CaptureBatch) -> None:
    """Equal in every part and every bit."""
    for name in CaptureBatch.__dataclass_fields__:
        mine, other = getattr(actual, name), getattr(expected, name)
        if isinstance(other, np.ndarray):
            assert (mine.dtype, mine.tobytes()) == (other.dtype, other.tobytes()), name
        elif isinstance(other, dict):
            assert list(mine) == list(other)
            for tensor, wanted in zip(mine.values(), other.values(), strict=True):
                assert_same_column(tensor, wanted)
        else:
            assert list(mine) == list(other), name


def assert_same_column(actual: TensorColumn, expected: TensorColumn) -> None:
    """Equal in name, datatype, shapes and every bit."""
    assert (actual.name, actual.datatype) == (expected.name, expected.datatype)
    assert list(actual.shapes) == list(expected.shapes)
    assert actual.values.dtype == DATATYPES[expected.datatype].dtype
    if expected.datatype == "BYTES":
        assert actual.values.tolist() == expected.values.tolist()
    else:
        assert actual.values.tobytes() == expected.values.tobytes()


@given(batches())
def test_what_goes_in_comes_out(batch: CaptureBatch) -> None:
    """Every datatype, scalars, empty tensors, ragged widths, missing tensors, NaN bits, any text."""
    assert_same(decode_captures(encode_captures(batch)), batch)


def two_inputs() -> CaptureBatch:
    """Three requests: numbers and texts in, the last one failed."""
    x = column("x", "FP32", [np.array([[1, 2]], np.float32), np.array([[3, 4], [5, 6]], np.float32), None])
    text = column("t", "BYTES", [object_array([b"a", b""]), object_array([b"\xff"]), object_array([])])
    flags = column("y", "BOOL", [np.array([True]), np.array([False, True]), None])
    return batch_of(3, inputs={"x": x, "t": text}, outputs={"y": flags}, codes=["OK", "OK", "model_failed"])


def test_a_plain_arrow_reader_reads_it() -> None:
    """Columns have the documented names and values, without vedette."""
    with pa.ipc.open_stream(encode_captures(two_inputs())) as reader:
        table = reader.read_all()
    assert table.schema.metadata[b"endpoint"] == b"credit"
    assert table.column("input:x").to_pylist() == [[1.0, 2.0], [3.0, 4.0, 5.0, 6.0], None]
    assert table.column("input_shape:x").to_pylist() == ["1,2", "2,2", None]
    assert table.column("input:t").to_pylist() == [[b"a", b""], [b"\xff"], []]
    assert table.column("output:y").to_pylist() == [[True], [False, True], None]
    assert table.column("code").to_pylist() == ["OK", "OK", "model_failed"]
    assert table.column("sequence").to_pylist() == [7, 8, 9]


def test_rows_are_stacked_where_all_requests_have_the_same() -> None:
    """(rows, values in a row): a vector is rows of one value, deeper tensors are flattened behind the rows."""
    made = two_inputs()
    assert made.inputs["x"].stacked().tolist() == [[1, 2], [3, 4], [5, 6]]
    assert made.outputs["y"].stacked().tolist() == [[True], [False], [True]]
    deep = column("d", "INT8", [np.arange(8, dtype=np.int8).reshape(2, 2, 2)])
    assert deep.stacked().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert column("n", "FP32", [None, None]).stacked().shape == (0, 0)
    assert column("n", "FP32", [np.empty((0, 3), np.float32)]).stacked().shape == (0, 3)


@pytest.mark.parametrize("parts", [
    [np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32)],
    [np.zeros((), np.float32)],
    [np.zeros((2,), np.float32), np.zeros((2, 1), np.float32)],
])  # fmt: skip
def test_rows_of_different_shapes_are_not_stacked(parts: list[Array]) -> None:
    """Nobody knows what their columns are."""
    with pytest.raises(InvalidArgument, match="rows of one shape"):
        column("x", "FP32", parts).stacked()


@pytest.mark.parametrize("broken", [
    {"event_ids": ["only one"]},
    {"rows": np.ones(2, np.int64)},
    {"inputs": {"x": TensorColumn("x", "FP32", np.zeros(3, np.float32), [(1, 2), (1, 2), None])}},
    {"inputs": {"x": TensorColumn("x", "COMPLEX", np.zeros(3), [(1,), (1,), (1,)])}},
    {"inputs": {"x": column("x", "FP32", [np.zeros(2, np.float32)])}},
])  # fmt: skip
def test_parts_that_do_not_belong_together_are_not_written(broken: dict[str, Any]) -> None:
    """A batch whose columns disagree about its length or elements is refused before anything is made of it."""
    with pytest.raises(InvalidArgument, match="captures: "):
        encode_captures(replace(two_inputs(), **broken))


def test_messages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a longer one is written nor a longer one looked at."""
    value = encode_captures(two_inputs())
    monkeypatch.setattr(captures, "MAX_BYTES", len(value) - 1)
    for act in (lambda: encode_captures(two_inputs()), lambda: decode_captures(value)):
        with pytest.raises(InvalidArgument, match="over the limit"):
            act()


def reads(value: bytes) -> bool:
    """Whether it is taken for a batch."""
    try:
        decode_captures(value)
    except InvalidArgument:
        return False
    return True


def survives(value: bytes) -> None:
    """The decoder gives a batch whose parts fit, or InvalidArgument; nothing else, and not much memory."""
    try:
        batch = decode_captures(value)
    except InvalidArgument:
        return
    for tensor in (*batch.inputs.values(), *batch.outputs.values()):
        assert len(tensor.shapes) == len(batch)
        assert tensor.values.nbytes <= 8 * len(value)
        tensor.values.tolist()
        try:
            tensor.stacked()
        except InvalidArgument:
            continue


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused(value: bytes) -> None:
    """Noise is no batch."""
    with pytest.raises(InvalidArgument):
        decode_captures(value)


def test_every_cut_is_refused() -> None:
    """A message that ends early is no message; only the end mark may be missing, as Arrow allows."""
    value = encode_captures(two_inputs())
    for length in range(len(value) - 8):
        with pytest.raises(InvalidArgument):
            decode_captures(value[:length])


def test_flipped_bits_do_no_harm() -> None:
    """Each byte of a message changed in turn, and 3,000 random double changes."""
    value = encode_captures(two_inputs())
    chance = random.Random(3)
    for position in range(len(value)):
        changed = bytearray(value)
        changed[position] ^= 1 << chance.randrange(8)
        survives(bytes(changed))
        changed[position] = chance.choice((0, 0x7F, 0x80, 0xFF))
        survives(bytes(changed))
    for _ in range(3000):
        changed = bytearray(value)
        for _ in range(2):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        survives(bytes(changed))


def written(table: pa.Table, **options: Any) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def table_of(batch: CaptureBatch) -> pa.Table:
    """A batch's message as a table."""
    with pa.ipc.open_stream(encode_captures(batch)) as reader:
        return reader.read_all()


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_messages_are_refused_before_they_are_unpacked(compression: str) -> None:
    """Zeros compress a thousandfold: a message could ask for all memory."""
    zeros = batch_of(1, inputs={"x": column("x", "FP32", [np.zeros(1_000_000, np.float32)])})
    value = written(table_of(zeros), compression=compression)
    assert len(value) < 1_000_000
    pool = pa.total_allocated_bytes()
    with pytest.raises(InvalidArgument, match="compressed"):
        decode_captures(value)
    assert pa.total_allocated_bytes() == pool


def test_other_tables_are_refused() -> None:
    """Another layout, other columns or types, a tensor twice, two batches, nulls where values must be."""
    table = table_of(two_inputs())
    twice = table.append_column(table.schema.field(10), table.column(10))
    nulls = table.set_column(1, table.schema.field(1), pa.array([None, "a", "b"]))
    tables = {
        "another layout": table.replace_schema_metadata({**table.schema.metadata, b"captures": b"2"}),
        "no metadata": table.replace_schema_metadata(None),
        "no producer": table.replace_schema_metadata(
            {k: v for k, v in table.schema.metadata.items() if k != b"producer"}
        ),
        "excluded is no list": table.replace_schema_metadata({**table.schema.metadata, b"excluded": b"{}"}),
        "no time": table.drop_columns(["time"]),
        "a type": table.set_column(3, "time", table.column(3).cast(pa.float32())),
        "twice": twice.append_column(table.schema.field(11), table.column(11)),
        "half a tensor": table.drop_columns(["output_shape:y"]),
        "nulls": nulls,
        "two batches": pa.concat_tables([table, table]),
        "nothing": table.slice(0, 0).select([]),
    }
    assert [what for what, other in tables.items() if reads(written(other))] == []
    assert len(decode_captures(written(table))) == 3


@pytest.mark.parametrize("shape", ["2,2", "-1,2", "1, 2", "x", "1,", "9" * 19, "0", ",".join("1" * 33)])
def test_shapes_that_lie_are_refused(shape: str) -> None:
    """A shape of other elements than there are, or none at all."""
    table = table_of(two_inputs())
    lying = pa.array([shape, "2,2", None]).dictionary_encode()
    with pytest.raises(InvalidArgument, match="shape"):
        decode_captures(written(table.set_column(11, table.schema.field(11), lying)))


def test_numbers_are_views_of_the_message() -> None:
    """Decoding a large batch takes little memory of its own."""
    made = decode_captures(encode_captures(batch_of(1, inputs={"x": column("x", "FP32", [np.zeros(9, np.float32)])})))
    values = made.inputs["x"].values
    assert not values.flags.writeable
    assert not values.flags.owndata
