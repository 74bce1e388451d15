"""CSV, instances and JSON Lines: identity both ways, every form of an instance, and hostile rows."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.codec_tensors import FLOATS, arrays, assert_same

from vedette.codec import csv, instance_rows, instances, jsonlines
from vedette.codec.binary import object_array
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import DATATYPES, Tensor

TABLE = Signature(
    inputs=(
        TensorSpec("numbers", "FP32", (-1, 2)),
        TensorSpec("count", "INT64", (-1, 1)),
        TensorSpec("city", "BYTES", (-1, 1)),
        TensorSpec("member", "BOOL", (-1,)),
    ),
    outputs=(),
    feature_names=("height", "colour", "count", "city", "member"),
    categories={"colour": ("red", "green"), "city": ("Bern",)},
)
MATRIX = Signature((TensorSpec("x", "FP32", (-1, 3)),), (), ("a", "b", "c"))
IMAGE = Signature((TensorSpec("x", "FP32", (-1, 2, 2)),), ())
OPEN = Signature((TensorSpec("x", "FP32", (-1, -1)),), ())
TEXT = Signature((TensorSpec("x", "BYTES", (-1, 1)),), ())


@st.composite
def tables(draw: st.DrawFn, *, finite: bool) -> list[Tensor]:
    """One to three tensors of the same number of rows."""
    rows = draw(st.integers(1, 4))
    shapes = st.lists(st.integers(1, 3), max_size=2).map(lambda trailing: (rows, *trailing))
    kinds = draw(st.lists(st.sampled_from(sorted(DATATYPES)), min_size=1, max_size=3))
    return [
        Tensor(f"t{index}", kind, draw(arrays(kind, draw(shapes), finite=finite or kind == "BF16", text=True)))
        for index, kind in enumerate(kinds)
    ]


def signature_of(table: list[Tensor]) -> Signature:
    return Signature(tuple(TensorSpec(t.name, t.datatype, (-1, *t.array.shape[1:])) for t in table), ())


def assert_table(actual: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        array = other.array
        if other.datatype in FLOATS and other.datatype != "BF16":  # a NaN's payload has no text
            array = np.where(np.isnan(array), np.nan, array).astype(array.dtype)
        assert_same(one, Tensor(other.name, other.datatype, array))


def test_every_kind_of_whole_number_that_onnx_runtime_gives_is_written() -> None:
    """A classifier's answer: labels as numpy's `longlong`, which orjson refuses one by one, and probabilities."""
    label = Tensor("label", "INT64", np.array([1, 0], dtype="q"))
    chance = Tensor("probabilities", "FP32", np.array([[0.1, 0.9], [0.8, 0.2]], np.float32))
    rows = [{"label": 1, "probabilities": [0.1, 0.9]}, {"label": 0, "probabilities": [0.8, 0.2]}]
    assert json.loads(instances.encode([label, chance])) == {"predictions": rows}
    assert [json.loads(line) for line in jsonlines.encode([label, chance]).splitlines()] == rows
    for code in np.typecodes["AllInteger"] + "?":
        column = Tensor("a", "INT64", np.array([1, 0], dtype=code))
        assert json.loads(instances.encode([column, chance]))["predictions"][0]["a"] == 1


@given(tables(finite=False))
def test_csv_survives_both_ways(table: list[Tensor]) -> None:
    """What is written as CSV reads back as the same tensors, NaN and awkward text included."""
    assert_table(csv.decode(csv.encode(table), signature_of(table)), table)


@given(tables(finite=True))
def test_predictions_read_back_as_instances(table: list[Tensor]) -> None:
    """Bare rows of one output and objects of several are instances of the same shapes."""
    body = instances.encode(table).replace(b'{"predictions"', b'{"instances"', 1)
    assert_table(instances.decode(body, signature_of(table)), table)


@given(tables(finite=True))
def test_json_lines_survive_both_ways(table: list[Tensor]) -> None:
    """One JSON value a line, in the same forms."""
    assert_table(jsonlines.decode(jsonlines.encode(table), signature_of(table)), table)


def by_name(tensors: list[Tensor]) -> dict[str, list[object]]:
    return {tensor.name: tensor.array.tolist() for tensor in tensors}


def test_a_csv_row_is_split_over_the_inputs_in_order() -> None:
    """Casts, quotes, line breaks in quotes, blank lines, careless numbers, categories and CRLF."""
    body = b'1,red,5.0,"a ""b"",\r\nc",true\r\n\r\n .5,2,+7,,0\r\n1.,green,007,Bern,False\r\n'
    assert by_name(csv.decode(body, TABLE)) == {
        "numbers": [[1.0, 0.0], [0.5, 2.0], [1.0, 1.0]],
        "count": [[5], [7], [7]],
        "city": [[b'a "b",\r\nc'], [b""], [b"Bern"]],
        "member": [True, False, False],
    }


def test_a_header_is_skipped_only_when_it_is_the_feature_names() -> None:
    """Exactly the names: a header. Anything else is a row, and an error where it is no row."""
    assert by_name(csv.decode(b"\xef\xbb\xbfa,b,c\n1,2,3\n", MATRIX)) == {"x": [[1, 2, 3]]}
    assert by_name(csv.decode(b"1,2,3", MATRIX)) == {"x": [[1, 2, 3]]}
    with pytest.raises(InvalidArgument, match="line 1, column 'a': 'a' is not a value of FP32"):
        csv.decode(b"a,b,d\n1,2,3\n", MATRIX)


def test_an_empty_cell_is_missing() -> None:
    """NaN in a floating column, an error in an integer one, empty text in a text one."""
    assert np.isnan(csv.decode(b"1,,3\n", MATRIX)[0].array[0, 1])
    with pytest.raises(InvalidArgument, match="column 'count': nothing is not a value of INT64"):
        csv.decode(b"1,2,,x,1\n", TABLE)


def test_an_open_width_is_that_of_the_first_row() -> None:
    """A model that leaves the width of its only input open takes what the first row has."""
    assert by_name(csv.decode(b"1,2\n3,4\n", OPEN)) == {"x": [[1, 2], [3, 4]]}
    assert by_name(instances.decode(b'{"instances":[[1,2,3]]}', OPEN)) == {"x": [[1, 2, 3]]}


def test_blocks_join_without_loss() -> None:
    """More cells than one block keeps every row in its place, and errors keep their line."""
    array = np.arange(150_000, dtype=np.float32).reshape(-1, 3)
    body = csv.encode([Tensor("x", "FP32", array)])
    assert_same(csv.decode(body, MATRIX)[0], Tensor("x", "FP32", array))
    with pytest.raises(InvalidArgument, match="line 50002, column 'c'"):
        csv.decode(body + b"\n1,2,x\n", MATRIX)


def test_commas_in_quotes_are_text() -> None:
    """A cell may hold any number of commas, on one line or over several."""
    cell = ("a,b,c,d,e,f\n" * 3).encode()
    assert by_name(csv.decode(b'"' + cell + b'"\n"x"\n', TEXT)) == {"x": [[cell], [b"x"]]}


def test_a_large_csv_takes_memory_for_its_tensor_and_one_block() -> None:
    """Cells become numbers block by block, so that no more than one block of them are objects."""
    body = b"11,22,33\n" * 100_000
    tracemalloc.start()
    try:
        tensor = csv.decode(body, MATRIX)[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tensor.array.shape == (100_000, 3)
    assert peak < 3 * tensor.array.nbytes + (14 << 20)


CSV_ERRORS = [
    (MATRIX, b"", "no rows"),
    (MATRIX, b"\n\r\n", "no rows"),
    (MATRIX, b"a,b,c\n", "no rows"),
    (MATRIX, b"1,2\n", "line 1: a row has 2 values where the model takes 3"),
    (MATRIX, b"1,2,3\n\n1,2\n", "line 3: 2 values where the first row has 3"),
    (MATRIX, b"1,2,3\n1,2,3,4\n", "line 2: more than the 3 values"),
    (MATRIX, b"1,2,x\n", "line 1, column 'c': 'x' is not a value of FP32"),
    (MATRIX, b"1,2,1_000\n", "column 'c'"),
    (MATRIX, b"1,2,0x10\n", "column 'c'"),
    (MATRIX, "1,2,\u0661\n".encode(), "column 'c'"),
    (MATRIX, b"1,2,1e400\n", "column 'c'"),
    (MATRIX, b"1,2,1e39\n", "'x': a value is out of the range of FP32"),
    (MATRIX, b"1,2," + b"9" * 500 + b"\n", "column 'c'"),
    (MATRIX, b"1,2,\xff\n", "not valid UTF-8"),
    (MATRIX, b'1,2,"3\n', "unexpected end of data"),
    (MATRIX, b'1,2,"3"x\n', "line 1"),
    (
        TABLE,
        b"1,blue,1,x,1\n",
        "column 'colour': 'blue' is not a value of FP32, nor one of its categories 'red', 'green'",
    ),
    (TABLE, b"1,1,1.5,x,1\n", "column 'count': 1.5 is not a value of INT64"),
    (TABLE, b"1,1,9223372036854775808,x,1\n", "'count': a value is out of the range of INT64"),
    (TABLE, b"1,1,1,x,2\n", "column 'member': 2 is not a value of BOOL"),
    (TABLE, b"1,1,1,x,yes\n", "column 'member': 'yes'"),
    (TABLE, b"1,1,1,x\n", "(2 for 'numbers', 1 for 'count', 1 for 'city', 1 for 'member')"),
    (Signature((TensorSpec("x", "FP32", ()),), ()), b"1\n", "is a scalar"),
    (Signature((TensorSpec("x", "FP32", (-1, -1, -1)),), ()), b"1\n", "leaves open"),
    (Signature((TensorSpec("x", "FP32", (-1, -1, 2)),), ()), b"1,2,3\n", "leaves open"),
    (Signature(OPEN.inputs + MATRIX.inputs, ()), b"1,2,3,4\n", "leaves open"),
    (Signature((), ()), b"1\n", "1 values where the model takes 0"),
]


@pytest.mark.parametrize(("signature", "body", "says"), CSV_ERRORS, ids=[repr(row[1])[:50] for row in CSV_ERRORS])
def test_wrong_csv_is_named(signature: Signature, body: bytes, says: str) -> None:
    """Ragged rows, values that do not fit, broken quotes: the line, the column and the reason."""
    with pytest.raises(InvalidArgument) as caught:
        csv.decode(body, signature)
    assert says in caught.value.message


INSTANCE_FORMS = [
    (MATRIX, "[[1,2,3],[4,5,6]]"),
    (MATRIX, '[{"features":[1,2,3]},{"features":[4,5,6]}]'),
    (MATRIX, '[{"data":{"features":{"values":[1,2,3]}}},{"data":{"features":{"values":[4,5,6]}}}]'),
    (
        MATRIX,
        '[{"data":{"features":{"keys":[2,0,1],"shape":[3],"values":[3,1,2]}}},{"data":{"features":{"values":[4,5,6]}}}]',
    ),
    (MATRIX, '[{"x":[1,2,3]},{"x":[4,5,6]}]'),
    (MATRIX, '[{"c":3,"a":1,"b":2},{"a":4,"b":5,"c":6}]'),
]


@pytest.mark.parametrize(("signature", "text"), INSTANCE_FORMS, ids=[row[1][:40] for row in INSTANCE_FORMS])
@pytest.mark.parametrize("lines", [False, True], ids=["json", "jsonlines"])
def test_every_form_of_an_instance_is_read(signature: Signature, text: str, lines: bool) -> None:
    """All the forms of the built-in algorithms, by input name and by feature name, are the same rows."""
    if lines:
        decoded = jsonlines.decode("\n\n".join(map(json.dumps, json.loads(text))).encode(), signature)
    else:
        decoded = instances.decode(f'{{"signature_name":"x","instances":{text}}}'.encode(), signature)
    assert by_name(decoded) == {"x": [[1, 2, 3], [4, 5, 6]]}


def test_sparse_rows_are_zero_elsewhere() -> None:
    """Keys that are not named are 0; no keys at all is a row of zeros."""
    body = b'{"instances":[{"data":{"features":{"keys":[],"shape":[3],"values":[]}}}]}'
    assert by_name(instances.decode(body, MATRIX)) == {"x": [[0, 0, 0]]}


def test_scalars_and_nested_arrays_are_instances() -> None:
    """A scalar for an input of one value; an image nested, flat, or by input name."""
    single = Signature((TensorSpec("x", "INT32", (-1, 1)),), ())
    assert by_name(instances.decode(b'{"instances":[1,2.0]}', single)) == {"x": [[1], [2]]}
    assert by_name(instances.decode(b'{"instances":["a","b"]}', TEXT)) == {"x": [[b"a"], [b"b"]]}
    for text in (
        "[[[1,2],[3,4]]]",
        "[[1,2,3,4]]",
        '[{"x":[[1,2],[3,4]]}]',
        '[{"x":[1,2,3,4]}]',
        '[{"features":[1,2,3,4]}]',
    ):
        assert by_name(instances.decode(f'{{"instances":{text}}}'.encode(), IMAGE)) == {"x": [[[1, 2], [3, 4]]]}


def test_a_record_of_a_data_frame_is_an_instance() -> None:
    """An object by feature name fills several inputs; null is NaN, a category is its index."""
    record = {"city": "Bern", "member": True, "count": 3, "colour": "green", "height": None}
    decoded = by_name(instances.decode(json.dumps({"instances": [record]}).encode(), TABLE))
    assert np.isnan(decoded["numbers"][0][0])  # type: ignore[index]
    assert decoded["numbers"][0][1] == 1  # type: ignore[index]
    assert (decoded["count"], decoded["city"], decoded["member"]) == ([[3]], [[b"Bern"]], [True])


INSTANCE_ERRORS = [
    (MATRIX, "[]", "no instances"),
    (MATRIX, "{}", "Expected `array`"),
    (MATRIX, "[[1,2]]", "2 values where the model takes 3"),
    (MATRIX, "[[1,2,3],[1]]", "instance 2 has 1 values"),
    (MATRIX, "[[1,2,3],5]", "instance 2 has another form"),
    (MATRIX, "[[1,2,3],{}]", "instance 2 has another form"),
    (MATRIX, '[{"features":[1,2,3]},[1,2,3]]', "instance 2 is not an object"),
    (MATRIX, '[{"x":[1,2,3]},{"y":[1,2,3]}]', "instance 2 lacks, or alone has, 'x', 'y'"),
    (MATRIX, '[{"z":1}]', "instance 1 has the keys 'z'"),
    (MATRIX, '[{"a":1,"b":2}]', "instance 1 has the keys 'a', 'b'"),
    (MATRIX, "[[1,2,true]]", "instance 1, column 'c': True"),
    (MATRIX, '[[1,2,"3"]]', "instance 1, column 'c': '3'"),
    (MATRIX, "[[1,2,[3]]]", "instance 1, column 'c': [3]"),
    (MATRIX, "[[1,2,1e39]]", "out of the range"),
    (MATRIX, "[[1,2,NaN]]", "invalid character"),
    (MATRIX, "[1,2,3]", "1 values where the model takes 3"),
    (MATRIX, "[null]", "1 values where the model takes 3"),
    (MATRIX, "[[[1,2,3]]]", "takes no instances shaped [1, 3]"),
    (MATRIX, '[{"data":{}}]', "no array at data.features.values"),
    (MATRIX, '[{"data":[]}]', "no array at data.features.values"),
    (MATRIX, '[{"data":{"features":{"keys":[3],"shape":[3],"values":[1]}}}]', "3 is no index of 3"),
    (MATRIX, '[{"data":{"features":{"keys":[0,0],"shape":[3],"values":[1,1]}}}]', "given twice"),
    (MATRIX, '[{"data":{"features":{"keys":[true],"shape":[3],"values":[1]}}}]', "True is no index"),
    (MATRIX, '[{"data":{"features":{"keys":[0],"shape":[3],"values":[1,2]}}}]', "not as many keys"),
    (MATRIX, '[{"data":{"features":{"keys":[0],"shape":[4],"values":[1]}}}]', "sparse row of 4 values"),
    (MATRIX, '[{"data":{"features":{"keys":[0],"shape":[-1],"values":[1]}}}]', "array of one length"),
    (MATRIX, '[{"data":{"features":{"keys":[0],"values":[1]}}}]', "array of one length"),
    (OPEN, '[{"data":{"features":{"keys":[0],"shape":[99999999],"values":[1]}}}]', "more than 16777216 values"),
    (IMAGE, "[[[1,2],[3]]]", "not shaped like that of the first"),
    (IMAGE, "[[[1,2],[3,4]],[[1,2]]]", "not shaped like that of the first"),
    (IMAGE, '[[[1,2],[3,"x"]]]', "instance 1"),
    (IMAGE, "[[[],[]]]", "takes no instances shaped [2, 0]"),
    (TABLE, '[{"numbers":[1,2],"count":1,"city":5,"member":true}]', "'city': 5 is not a value of BYTES"),
    (TABLE, '[{"numbers":[1,2],"count":1.5,"city":"x","member":true}]', "1.5 is not a value of INT64"),
    (TABLE, '[{"numbers":[1],"count":1,"city":"x","member":true}]', "takes no instances shaped [1]"),
]


@pytest.mark.parametrize(("signature", "text", "says"), INSTANCE_ERRORS, ids=[row[1][:60] for row in INSTANCE_ERRORS])
def test_wrong_instances_are_named(signature: Signature, text: str, says: str) -> None:
    """Mixed forms, missing keys, values that do not fit: the instance, the column and the reason."""
    with pytest.raises(InvalidArgument) as caught:
        instances.decode(f'{{"instances":{text}}}'.encode(), signature)
    assert says in caught.value.message


@pytest.mark.parametrize("line", [b"1,2", b"[1", b"\x01", b'"\\ud800"', b"NaN"])
def test_a_line_that_is_not_json_is_named(line: bytes) -> None:
    """The number of the line, blank ones counted."""
    with pytest.raises(InvalidArgument, match="line 3 is not JSON"):
        jsonlines.decode(b"[1,2,3]\n\n" + line, MATRIX)


@pytest.mark.parametrize("decoder", [csv, instances, jsonlines])
@given(body=st.binary(max_size=40) | st.text('{}[]":,1.e-\n "ab', max_size=40).map(str.encode))
def test_no_bytes_raise_anything_else(decoder: ModuleType, body: bytes) -> None:
    """Whatever comes is tensors or an InvalidArgument."""
    for signature in (MATRIX, TABLE, OPEN):
        try:
            decoder.decode(body, signature)
        except InvalidArgument:
            pass


BOMBS = [
    (csv, b"1," * 1_000_000),
    (csv, b'"",' * 1_000_000),
    (csv, b'1,2,"' + b"x" * 4_000_000),
    (csv, b'1,2,"' + b"\n" * 300_000),
    (csv, b"9" * 4_000_000),
    (instances, b'{"instances":' + b"[" * 250_000),
    (instances, b'{"instances":[' + b"[]," * 300_000 + b"[]]}"),
    (jsonlines, b"[" * 250_000 + b"\n"),
    (jsonlines, b'{"a":' * 250_000),
]


BOMB_PROGRAM = """
import json, tracemalloc
from tests.unit.test_codec_rows import BOMBS, MATRIX
from vedette.core.errors import InvalidArgument
peaks = []
for decoder, body in BOMBS:
    tracemalloc.start()
    try:
        decoder.decode(body, MATRIX)
    except InvalidArgument:
        peaks.append(tracemalloc.get_traced_memory()[1] / len(body))
    else:
        peaks.append(None)
    tracemalloc.stop()
print(json.dumps(peaks))
"""


def test_bombs_cost_no_more_than_their_bytes() -> None:
    """A million columns, a giant cell, deep nesting: refused in memory of the order of the body.

    In a process of its own, so that one which does not end (time beyond any order of the body) is killed and
    the test red: the minutes are a guard against hanging, no measurement.
    """
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", BOMB_PROGRAM], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    assert len(peaks) == len(BOMBS)
    costly = [(row[0].__name__, row[1][:20], peak) for row, peak in zip(BOMBS, peaks) if peak is None or peak >= 40]
    assert costly == []


def test_sparse_rows_have_a_budget() -> None:
    """Small instances that claim wide rows are refused before the rows are made."""
    instance = '{"data":{"features":{"keys":[],"shape":[1000000],"values":[]}}}'
    body = f'{{"instances":[{",".join([instance] * 1000)}]}}'.encode()
    wide = Signature((TensorSpec("x", "FP32", (-1, 1_000_000)),), ())
    with pytest.raises(InvalidArgument, match=str(instance_rows.MAX_SPARSE_VALUES)):
        instances.decode(body, wide)


OUTPUTS = [
    Tensor("label", "INT64", np.array([1, 0])),
    Tensor("score", "FP32", np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)),
    Tensor("text", "BYTES", object_array([b"a,b", b'"'])),
]


def test_answers_have_one_row_for_each_row() -> None:
    """CSV lines flatten outputs in order; JSON is bare for one output and by name for several."""
    assert csv.encode(OUTPUTS) == b'1,0.1,0.9,"a,b"\n0,0.8,0.2,""""\n'
    assert instances.encode(OUTPUTS[:1]) == b'{"predictions":[1,0]}'
    assert instances.encode(OUTPUTS[1:2]) == b'{"predictions":[[0.1,0.9],[0.8,0.2]]}'
    assert jsonlines.encode(OUTPUTS) == (
        b'{"label":1,"score":[0.1,0.9],"text":"a,b"}\n{"label":0,"score":[0.8,0.2],"text":"\\""}\n'
    )
    scalar = [Tensor("loss", "FP32", np.array(0.5, np.float32))]
    assert (csv.encode(scalar), instances.encode(scalar)) == (b"0.5\n", b'{"predictions":[0.5]}')


def test_csv_answers_carry_nan_and_json_answers_refuse_it() -> None:
    """nan and inf have a text in CSV; in JSON they are an error that says what to ask for."""
    outputs = [Tensor("y", "FP16", np.array([np.nan, -np.inf, 1], np.float16))]
    assert csv.encode(outputs) == b"nan\n-inf\n1.0\n"
    for form in (instances, jsonlines):
        with pytest.raises(InvalidArgument, match="text/csv"):
            form.encode(outputs)


def test_outputs_of_different_lengths_are_no_rows() -> None:
    """Two rows beside three cannot be paired, and no row is dropped silently."""
    outputs = [Tensor("a", "INT8", np.zeros(2, np.int8)), Tensor("b", "INT8", np.zeros(3, np.int8))]
    for form in (csv, instances, jsonlines):
        with pytest.raises(InvalidArgument, match="not rows of one number"):
            form.encode(outputs)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"inputs":[]}', True),
        (b' {"id":"1","inputs":[]}', True),
        (b'{"instances":[]}', False),
        (b'{"parameters":{"inputs":1},"instances":[]}', False),
        (b'{"id":"1","inputs":[],"instances":[]}', False),
        (b"{}", False),
        (b"[1]", False),
        (b"\xff", False),
        (b'{"a":' * 100_000, False),
    ],
)
def test_v2_is_told_from_instances(body: bytes, answer: bool) -> None:
    """By the members of the document, whatever their order; broken bodies are left to the decoder."""
    assert instances.is_v2(body) is answer
