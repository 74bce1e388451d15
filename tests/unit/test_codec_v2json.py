"""V2 over HTTP: requests and answers read what the other end writes, and hostile ones are named errors."""

from __future__ import annotations

import json
import math
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.codec_tensors import assert_same, tensors

from vedette.codec import messages, v2json
from vedette.codec.binary import object_array
from vedette.core.errors import InvalidArgument, Unimplemented
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import DATATYPES, InferRequest, InferResponse, RequestedOutput, Tensor

LISTS = st.lists(tensors(finite=True, text=True), max_size=4)


def named(drawn: list[Tensor]) -> list[Tensor]:
    return [Tensor(f"t{index}", tensor.datatype, tensor.array) for index, tensor in enumerate(drawn)]


def one(datatype: str, shape: str, data: str) -> bytes:
    return f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}'.encode()


def with_blob(parameters: str, blob: bytes, data: str = "") -> tuple[bytes, int]:
    text = f'{{"inputs":[{{"name":"x","datatype":"INT8","shape":[2]{data},"parameters":{parameters}}}]}}'.encode()
    return text + blob, len(text)


@given(LISTS, st.booleans())
def test_a_request_survives_the_wire(drawn: list[Tensor], binary: bool) -> None:
    """What the SDK encodes the server decodes: tensors bit for bit, id, parameters, requested outputs."""
    request = InferRequest(
        endpoint="",
        inputs=named(drawn),
        id="42",
        outputs=[RequestedOutput("a"), RequestedOutput("b", 3, True), RequestedOutput("c", binary=False)],
        parameters={"s": "é", "n": 2**63, "f": 0.5, "b": True, "timeout": 10},
        binary_output=True,
    )
    decoded = v2json.decode_request(*v2json.encode_request(request, binary))
    for actual, expected in zip(decoded.inputs, request.inputs, strict=True):
        assert_same(actual, expected)
    decoded.inputs = request.inputs
    assert decoded == request


@given(LISTS, st.sets(st.sampled_from(["t0", "t1", "t2", "t3"])))
def test_a_response_survives_the_wire(drawn: list[Tensor], binary: set[str]) -> None:
    """Outputs come back in order whichever of them are binary."""
    response = InferResponse("m", "3", "", named(drawn), id="7", parameters={"k": 1})
    decoded = v2json.decode_response(*v2json.encode_response(response, dict.fromkeys(binary, True)))
    for actual, expected in zip(decoded.outputs, response.outputs, strict=True):
        assert_same(actual, expected)
    assert (decoded.endpoint, decoded.version, decoded.id, decoded.parameters) == ("m", "3", "7", {"k": 1})


@given(tensors(finite=True, text=True))
def test_nested_and_flat_data_are_the_same_tensor(tensor: Tensor) -> None:
    """data nested as the shape says, with blanks anywhere, reads as the flat form does."""
    text, _ = v2json.encode_request(InferRequest("", [tensor]), binary=False)
    document = json.loads(text)
    flat = document["inputs"][0]["data"]
    nested = np.array(object_array(flat).reshape(tensor.array.shape)).tolist() if tensor.array.ndim else flat
    document["inputs"][0]["data"] = nested
    decoded = v2json.decode_request(json.dumps(document, indent=1).encode())
    assert_same(decoded.inputs[0], tensor)


@given(tensors(finite=True, text=True))
def test_a_large_body_is_read_as_a_small_one(tensor: Tensor) -> None:
    """Past the size where text goes to arrays in pieces, the tensors are the same."""
    text, _ = v2json.encode_request(InferRequest("", [tensor]), binary=False)
    padded = text + b" " * (messages.ONE_PASS_BYTES + 1)
    assert_same(v2json.decode_request(padded).inputs[0], tensor)


def test_pieces_join_without_loss() -> None:
    """A tensor of many pieces, flat and nested, keeps every value in its place."""
    array = np.arange(300_000, dtype=np.float32).reshape(1000, 300)
    for data in (array.ravel().tolist(), array.tolist()):
        document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1000, 300], "data": data}]}
        body = json.dumps(document, separators=(",", ":")).encode()
        tensor = v2json.decode_request(body + b" " * messages.ONE_PASS_BYTES).inputs[0]
        assert_same(tensor, Tensor("x", "FP32", array))


@pytest.mark.parametrize("datatype", sorted(set(DATATYPES) - {"BOOL", "BYTES"}))
def test_every_numeric_datatype_takes_plain_numbers(datatype: str) -> None:
    """FP16 and BF16 included: [1, 2] is [1, 2]."""
    tensor = v2json.decode_request(one(datatype, "[2]", "[1, 2]")).inputs[0]
    expected = [0x3F80, 0x4000] if datatype == "BF16" else [1, 2]
    assert tensor.array.tolist() == expected


def test_floats_are_written_as_short_as_they_read_back() -> None:
    """FP32 0.1 goes as 0.1 and not as the double it is nearest to; FP16 and BF16 likewise."""
    outputs = [
        Tensor("a", "FP32", np.array([0.1, 16777216], np.float32)),
        Tensor("b", "BF16", np.array([0x3F80], np.uint16)),
    ]
    body, length = v2json.encode_response(InferResponse("m", "1", "", outputs), {})
    assert length is None
    assert b'"data":[0.1,16777216.0]' in body
    assert b'"data":[1.0]' in body


def test_the_answer_of_a_foreign_server_is_read() -> None:
    """model_name, version and id may be missing or null, and unknown members do not disturb."""
    body = b'{"id":null,"extra":[{}],"outputs":[{"name":"y","shape":[1],"datatype":"INT64","data":[5]}]}'
    response = v2json.decode_response(body)
    assert (response.endpoint, response.outputs[0].array.tolist()) == ("", [5])


def test_json_and_binary_inputs_mix_in_order() -> None:
    """Binary tensors take their bytes in the order of the JSON, whatever stands between them."""
    text = (
        b'{"inputs":[{"name":"a","shape":[1],"datatype":"INT32","parameters":{"binary_data_size":4}},'
        b'{"name":"b","shape":[2],"datatype":"FP32","data":[0.5,1]},'
        b'{"name":"c","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}}],'
        b'"parameters":{"binary_data_output":true}}'
    )
    request = v2json.decode_request(text + struct.pack("<iI", -7, 2) + b"hi", len(text))
    assert [tensor.array.tolist() for tensor in request.inputs] == [[-7], [0.5, 1.0], [b"hi"]]
    assert request.binary_output
    assert request.parameters == {}


def test_binary_tensors_are_sent_aligned() -> None:
    """The JSON before binary tensors is padded to 8 bytes, so that a server need not copy them."""
    for name in ("x", "xy", "xyz"):
        _, length = v2json.encode_request(InferRequest("", [Tensor(name, "FP64", np.zeros(1))]), binary=True)
        assert length
        assert length % 8 == 0


DATA_ERRORS = [
    ("FP32", "[2]", "[1.5, true]", "got `bool`"),
    ("FP32", "[1]", '["1"]', "got `str`"),
    ("FP32", "[1]", "[null]", "got `null`"),
    ("FP32", "[1]", "[1e39]", "out of the range of FP32"),
    ("FP32", "[1]", "[1e400]", "out of range"),
    ("FP16", "[1]", "[65520]", "out of the range of FP16"),
    ("BF16", "[1]", "[3.4e38]", "out of the range of BF16"),
    ("INT32", "[1]", "[1.5]", "got `float`"),
    ("INT32", "[1]", "[1.0]", "got `float`"),
    ("INT64", "[1]", "[true]", "got `bool`"),
    ("UINT8", "[1]", "[256]", "out of the range of UINT8"),
    ("UINT8", "[1]", "[-1]", "out of the range of UINT8"),
    ("INT8", "[1]", "[-129]", "out of the range of INT8"),
    ("INT64", "[1]", "[9223372036854775808]", "out of the range of INT64"),
    ("UINT64", "[1]", "[18446744073709551616]", "out of the range of UINT64"),
    ("INT64", "[1]", "[" + "9" * 5000 + "]", "out of range"),
    ("BOOL", "[1]", "[1]", "got `int`"),
    ("BYTES", "[1]", "[1]", "got `int`"),
    ("FP32", "[3]", "[1,2]", "2 values where shape [3] takes 3"),
    ("FP32", "[0]", "[1]", "1 values where shape [0] takes 0"),
    ("FP32", "[2]", "[]", "0 values where shape [2] takes 2"),
    ("FP32", "[2,2]", "[[1,2],[3]]", "not nested as shape [2, 2]"),
    ("FP32", "[2,2]", "[[1,2],[3,[4]]]", "not nested as shape [2, 2]"),
    ("FP32", "[2,2]", "[[1],[2,3,4]]", "not nested as shape [2, 2]"),
    ("FP32", "[2,2]", "[[1,2,3],[4]]", "not nested as shape [2, 2]"),
    ("FP32", "[4]", "[[1,2],[3,4]]", "nested 2 deep"),
    ("FP32", "[2,2,1]", "[[1,2],[3,4]]", "nested 2 deep"),
    ("FP32", "[2]", "[1,[2]]", "got `array`"),
    ("FP32", "[1,2]", '[["1","2"]]', "got `str`"),
    ("INT8", "[1,2]", "[[1,300]]", "out of the range of INT8"),
    ("BYTES", "[2,2]", '[["a","b"],["c"]]', "not nested as shape [2, 2]"),
    ("BYTES", "[2,2]", '[["a"],["b","c","d"]]', "not nested as shape [2, 2]"),
    ("BYTES", "[1,1]", "[[1]]", "got `int`"),
    ("FP32", "[1]", "5", "not an array"),
    ("FP32", "[1]", "{}", "not an array"),
    ("FP32", "[1]", "null", "neither 'data' nor"),
    ("FP32", "[-1]", "[1]", "negative"),
    ("FP32", "[9223372036854775808]", "[1]", "larger than can be addressed"),
    ("FP32", "[4294967296,4294967296]", "[1]", "larger than can be addressed"),
    ("FP32", "[1000000000000]", "[1]", "takes 1000000000000"),
    ("FP32", "[1000000000,1000]", "[[1]]", "not nested as shape"),
    ("FP31", "[1]", "[1]", "unknown datatype 'FP31'"),
]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "says"), DATA_ERRORS, ids=[" ".join(row)[:60] for row in DATA_ERRORS]
)
@pytest.mark.parametrize("padding", [0, messages.ONE_PASS_BYTES], ids=["small", "large"])
def test_wrong_data_is_named(datatype: str, shape: str, data: str, says: str, padding: int) -> None:
    """A value, count, nesting or dimension that is wrong is an error that names the tensor and the fault."""
    with pytest.raises(InvalidArgument) as caught:
        v2json.decode_request(one(datatype, shape, data) + b" " * padding)
    assert "'x'" in caught.value.message
    assert says in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"{}",
        b'{"inputs":{}}',
        b'{"inputs":[{}]}',
        b'{"inputs":[]} x',
        b'{"inputs":[]',
        b"\xef\xbb\xbf{}",
        b'{"inputs":[],"id":"\xff"}',
        b'{"inputs":[],"unknown":"\xff"}',
        b'{"inputs":[],"id":5}',
        b'{"inputs":[],"id":"\\ud800"}',
        b'{"inputs":[],"parameters":{"a":null}}',
        b'{"inputs":[],"parameters":{"a":[1]}}',
        b'{"inputs":[],"parameters":{"a":NaN}}',
        b'{"inputs":[],"parameters":{"a":18446744073709551616}}',
        b'{"inputs":[],"parameters":{"binary_data_output":1}}',
        b'{"inputs":[],"parameters":{"timeout":-1}}',
        b'{"inputs":[],"parameters":{"timeout":"1"}}',
        b'{"inputs":[],"parameters":{"priority":true}}',
        b'{"inputs":[],"parameters":{"headers":"x"}}',
        b'{"inputs":[],"parameters":{"triton_anything":1}}',
        b'{"inputs":[],"outputs":[{"name":"y","parameters":{"binary_data":1}}]}',
        b'{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":-1}}]}',
        b'{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":1.5}}]}',
        b'{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}',
        b'{"inputs":[],"outputs":[{}]}',
        one("FP32", "[1]", "[NaN]"),
        one("FP32", "[1]", "[Infinity]"),
        one("FP32", "[1]", "[01]"),
        one("FP32", "[1]", "[1,]"),
        one("FP32", "[1.5]", "[1]"),
        one("FP32", '["1"]', "[1]"),
        one("FP32", "1", "[1]"),
        one("FP32", "[2]", "[1]").replace(b'"x"', b'"' + b"x" * 2000 + b'"'),
        one("BYTES", "[1]", '["\\ud800"]'),
        one("FP32", "[1]", "[1]").replace(b"]}]", b']},{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]'),
    ],
)
def test_malformed_requests_are_refused(body: bytes) -> None:
    """Not JSON, not the protocol's, not UTF-8, a reserved parameter misused: InvalidArgument, nothing else."""
    with pytest.raises(InvalidArgument) as caught:
        v2json.decode_request(body)
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("nested", [False, True])
def test_a_large_tensor_takes_memory_for_itself_and_its_text(nested: bool) -> None:
    """Past the one-pass size no value of the text lives as a Python object for long."""
    rows = messages.ONE_PASS_BYTES // 2
    data, shape = (
        (b"[" + b"[1]," * (rows - 1) + b"[1]]", [rows, 1]) if nested else (b"[" + b"1," * rows + b"1]", [rows + 1])
    )
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":%b,"data":%b}]}' % (str(shape).encode(), data)
    tracemalloc.start()
    try:
        tensor = v2json.decode_request(body).inputs[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tensor.array.shape == tuple(shape)
    assert peak < 8 * len(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[],"parameters":{"sequence_id":5}}',
        b'{"inputs":[],"parameters":{"sequence_start":true}}',
        b'{"inputs":[],"outputs":[{"name":"y","parameters":{"shared_memory_region":"r"}}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"shared_memory_region":"r"}}]}',
    ],
)
def test_what_is_not_done_says_so(body: bytes) -> None:
    """Sequences and shared memory are Unimplemented, not ignored."""
    with pytest.raises(Unimplemented):
        v2json.decode_request(body)


@pytest.mark.parametrize(
    ("body", "length", "says"),
    [
        (b"{}", 3, "3 bytes of a body of 2"),
        (b"{}", -1, "-1 bytes"),
        (*with_blob('{"binary_data_size":2}', b"\1"), "asks for 2 bytes of 1 left"),
        (*with_blob('{"binary_data_size":2}', b"\1\2\3"), "1 bytes are left over"),
        (*with_blob('{"binary_data_size":1}', b"\1"), "1 bytes where shape [2] of INT8 takes 2"),
        (*with_blob('{"binary_data_size":-1}', b"\1\2"), "non-negative"),
        (*with_blob('{"binary_data_size":true}', b"\1\2"), "non-negative"),
        (*with_blob('{"binary_data_size":1e1}', b"\1\2"), "non-negative"),
        (*with_blob('{"binary_data_size":18446744073709551616}', b"\1\2"), "asks for"),
        (*with_blob('{"binary_data_size":2}', b"\1\2", ',"data":[1,2]'), "both 'data' and"),
        (*with_blob("{}", b"\1\2"), "neither 'data' nor"),
        (with_blob('{"binary_data_size":2}', b"")[0], None, "without Inference-Header-Content-Length"),
    ],
)
def test_wrong_binary_parts_are_refused(body: bytes, length: int | None, says: str) -> None:
    """Missing, leftover and contradictory binary bytes are errors that say how many."""
    with pytest.raises(InvalidArgument) as caught:
        v2json.decode_request(body, length)
    assert says in caught.value.message


@pytest.mark.parametrize("depth", [65, 120, 1_000, 250_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_deep_json_is_an_error_and_no_crash(depth: int, brackets: str) -> None:
    """Nesting past 64, in data or in a member nobody reads, is refused at any depth."""
    opening = brackets[0] if brackets == "[]" else '{"a":'
    deep = opening * depth + "1" + brackets[1] * depth
    for body in (one("FP32", "[1]", deep), b'{"inputs":[],"unknown":' + deep.encode() + b"}"):
        with pytest.raises(InvalidArgument, match="64 deep"):
            v2json.decode_request(body)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_json_never_shows_nan_as_null(datatype: str, value: float) -> None:
    """An output that JSON cannot carry is an error that advises binary; in binary it goes through."""
    array = np.array([value], np.float32)
    array = array.view(np.uint32).__rshift__(16).astype(np.uint16) if datatype == "BF16" else array
    tensor = Tensor("y", datatype, array.astype(DATATYPES[datatype].dtype))
    response = InferResponse("m", "1", "", [tensor])
    with pytest.raises(InvalidArgument, match="binary_data_output"):
        v2json.encode_response(response, {})
    assert_same(v2json.decode_response(*v2json.encode_response(response, {"y": True})).outputs[0], tensor)


def test_bytes_that_are_not_text_need_binary() -> None:
    """An output of BYTES that is not UTF-8 is an error in JSON."""
    response = InferResponse("m", "1", "", [Tensor("y", "BYTES", object_array([b"\xff"]))])
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        v2json.encode_response(response, {})


def raw_signature(datatype: str, *shape: int) -> Signature:
    return Signature((TensorSpec("x", datatype, shape),), ())


def test_a_raw_request_is_the_only_input() -> None:
    """Header value 0: the bytes fill the model's one open dimension, and outputs come back binary."""
    request = v2json.decode_raw_request(struct.pack("<6f", *range(6)), raw_signature("FP32", -1, 3))
    assert request.inputs[0].array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert request.binary_output
    text = v2json.decode_raw_request(b"hello", raw_signature("BYTES", -1)).inputs[0]
    assert text.array.tolist() == [b"hello"]


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        (raw_signature("FP32", -1, 3), b"\0" * 13),
        (raw_signature("FP32", -1, -1), b"\0" * 12),
        (raw_signature("FP32", -1, 0), b"\0" * 12),
        (raw_signature("FP32", 2), b"\0" * 12),
        (Signature((), ()), b""),
        (Signature(raw_signature("FP32", 1).inputs * 2, ()), b"\0" * 4),
    ],
)
def test_a_raw_request_that_does_not_fit_is_refused(signature: Signature, body: bytes) -> None:
    """Bytes that are no whole rows, and models with another number of inputs."""
    with pytest.raises(InvalidArgument):
        v2json.decode_raw_request(body, signature)


@given(st.binary(max_size=60), st.none() | st.integers(-2, 60))
def test_no_bytes_raise_anything_else(body: bytes, length: int | None) -> None:
    """Whatever comes is a request or an InvalidArgument."""
    try:
        v2json.decode_request(body, length)
    except InvalidArgument:
        pass
