"""Requests read by their form: always what the parser and the decoder say, never longer kept than bounded."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from vedette.codec.binary import encode_tensor, object_array
from vedette.core.errors import VedetteError
from vedette.core.tensors import DATATYPES, InferRequest, InferResponse, Tensor
from vedette.inference import rpc_forms
from vedette.inference.rpc_forms import Forms
from vedette.inference.rpc_messages import decode_request, encode_response, write_response
from vedette.proto.inference.v1 import inference_pb2 as pb

NUMBERS = [name for name in DATATYPES if name not in ("BYTES", "BOOL")]
names = st.sampled_from(["", "x", "image", "a-rather-long-name-of-a-tensor-that-goes-on"])
shapes = st.lists(st.integers(1, 3), max_size=3)


def message(*tensors: tuple[str, str, list[int], bytes], model: str = "m", **fields) -> pb.ModelInferRequest:
    """A request with these raw tensors."""
    made = pb.ModelInferRequest(model_name=model, **fields)
    for name, datatype, shape, raw in tensors:
        made.inputs.add(name=name, datatype=datatype, shape=shape)
        made.raw_input_contents.append(raw)
    return made


def seen(request: InferRequest | pb.ModelInferRequest) -> tuple[object, ...]:
    """All of a request in comparable parts, however it was read."""
    read = request if isinstance(request, InferRequest) else decode_request(request, None)
    tensors = [(t.name, t.datatype, t.array.dtype.str, t.array.shape, t.array.tobytes()) for t in read.inputs]
    return (read.endpoint, read.version, read.id, read.outputs, read.parameters, read.binary_output, tensors)


@st.composite
def tensor_lists(draw: st.DrawFn) -> list[tuple[str, str, list[int], int]]:
    """Names, datatypes and shapes, and how many bytes the tensor takes (sometimes not)."""
    found = []
    for number in range(draw(st.integers(0, 3))):
        datatype, shape = draw(st.sampled_from([*DATATYPES, "FP99"])), draw(shapes)
        size = int(np.prod(shape, dtype=int)) * (DATATYPES[datatype].itemsize if datatype in DATATYPES else 1)
        found.append((draw(names) + str(number), datatype, shape, size + draw(st.sampled_from([0, 0, 0, 0, 1]))))
    return found


@given(tensor_lists(), st.booleans(), st.sampled_from(["", "7"]), st.data())
def test_a_request_is_what_the_parser_says(tensors, asks: bool, version: str, data: st.DataObject) -> None:
    """Again and again with other numbers, under one set of forms: each reading equals parsing and decoding."""
    forms = Forms()
    for _ in range(4):
        filled = [(n, d, s, data.draw(st.binary(min_size=size, max_size=size))) for n, d, s, size in tensors]
        made = message(*filled, model_version=version)
        if asks:
            made.outputs.add(name="y")
        raw = made.SerializeToString()
        try:
            expected = seen(made)
        except VedetteError as error:
            with pytest.raises(VedetteError, match=f"^{error.message[:20].translate(PLAIN)}"):
                seen(forms.read(raw))
        else:
            assert seen(forms.read(raw)) == expected


PLAIN = {ord(char): f"\\{char}" for char in ".[]()+*?{}|^$\\"}


def learnt(made: pb.ModelInferRequest) -> tuple[Forms, InferRequest | pb.ModelInferRequest]:
    """Forms that have read the message three times, and what the third reading gave."""
    forms, raw = Forms(), made.SerializeToString()
    forms.read(raw)
    forms.read(raw)
    return forms, forms.read(raw)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_the_third_of_a_kind_is_not_parsed(datatype: str) -> None:
    """Two readings make the form; after them other numbers are read by it, as aligned tensors that nobody can write."""
    size = 6 * DATATYPES[datatype].itemsize
    for length in range(1, 9):  # of the name: moves the tensor through every alignment
        forms, _ = learnt(message(("x" * length, datatype, [2, 3], bytes(size))))
        raw = message(("x" * length, datatype, [2, 3], bytes(range(size)))).SerializeToString()
        read = forms.read(raw)
        assert isinstance(read, InferRequest)
        (tensor,) = read.inputs
        assert tensor.array.tobytes() == bytes(range(size))
        assert (tensor.array.flags.aligned, tensor.array.shape) == (True, (2, 3))
        assert not tensor.array.flags.writeable or tensor.array.flags.owndata


def test_what_has_no_form_goes_on_being_parsed() -> None:
    """Ids, parameters, checked values, typed contents and empty tensors: a message comes every time."""
    four = ("x", "FP32", [1], bytes(4))
    typed = pb.ModelInferRequest(model_name="m")
    typed.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    with_parameter = message(four)
    with_parameter.parameters["priority"].int64_param = 1
    made = [
        message(four, id="7"),
        with_parameter,
        typed,
        message(("x", "BOOL", [1], b"\1")),
        message(("x", "BYTES", [1], b"\1\0\0\0a")),
        message(("x", "FP32", [0], b"")),
        message(("x", "FP32", [2], bytes(4))),
        message(four, four),
        message(),
        message(("x" * 3000, "FP32", [1], bytes(4))),
    ]
    assert [type(learnt(each)[1]) for each in made] == [pb.ModelInferRequest] * len(made)


def test_what_looks_like_a_known_form_is_read_for_what_it_is() -> None:
    """The same length and the same beginning, but another name, another shape, or no message at all."""
    start = "a-name-of-some-length-for-a-tensor"
    known = message((start + "-x", "FP32", [2, 3], bytes(24)))
    forms, _ = learnt(known)
    for other in (
        message((start + "-y", "FP32", [2, 3], bytes(24))),
        message((start + "-x", "FP32", [3, 2], bytes(24))),
    ):
        assert len(other.SerializeToString()) == len(known.SerializeToString())
        assert seen(forms.read(other.SerializeToString())) == seen(other)
    raw = known.SerializeToString()
    for broken in (raw[:50] + b"\xff" * (len(raw) - 50), raw[:-24], raw[:-26] + b"\x3a\x7f" + raw[-24:]):
        with pytest.raises(DecodeError):
            forms.read(broken)


def test_tensors_that_do_not_stand_last_make_no_form() -> None:
    """Another writer's order of fields is parsed, and gives the same."""
    made = message(("x", "FP32", [1], bytes(4)), model="")
    turned = made.SerializeToString() + pb.ModelInferRequest(model_name="m").SerializeToString()
    forms, third = learnt(pb.ModelInferRequest.FromString(turned))
    assert isinstance(third, InferRequest)  # protobuf writes in its own order again
    for _ in range(3):
        assert isinstance(forms.read(turned), pb.ModelInferRequest)


def test_a_tensor_that_holds_the_bytes_of_a_field_does_not_mislead() -> None:
    """Contents that look like a raw tensor's tag, inside the tensor or at its end."""
    for raw in (b"\x3a\x04abcd  ", b"ab\x3a\x04abcd", b"\x3a\x06" * 4):
        made = message(("x", "UINT8", [len(raw)], raw))
        forms, third = learnt(made)
        assert seen(third) == seen(made)
        other = message(("x", "UINT8", [len(raw)], bytes(len(raw))))
        assert seen(forms.read(other.SerializeToString())) == seen(other)


def test_forms_are_few() -> None:
    """A stranger who always sends another form fills no memory."""
    forms = Forms()
    for number in range(3 * rpc_forms._FORMS):
        raw = message((f"x{number}", "FP32", [1], bytes(4)), model=f"m{number}").SerializeToString()
        forms.read(raw)
        forms.read(raw)
        assert len(forms._known) <= rpc_forms._FORMS
        assert len(forms._once) <= rpc_forms._FORMS


@given(
    st.lists(st.tuples(names, st.sampled_from(list(DATATYPES)), shapes), max_size=3),
    st.text(max_size=200).filter(lambda text: text.isascii() or text.isprintable()),
    st.booleans(),
)
def test_an_answer_is_what_the_message_serializes_to(described, request_id: str, has_parameters: bool) -> None:
    """Written by hand or by protobuf: the same message, also where lengths need several bytes."""
    tensors = []
    for name, datatype, shape in described:
        count = int(np.prod(shape, dtype=int))
        array = object_array([b"ab"] * count) if datatype == "BYTES" else np.ones(count, DATATYPES[datatype].dtype)
        tensors.append(Tensor(name, datatype, np.tile(array, 40).reshape((40, *shape))))
    parameters = {"sequence": 7} if has_parameters else {}
    response = InferResponse("m", "3", "v", tensors, request_id, parameters)
    written = pb.ModelInferResponse.FromString(write_response(response))
    assert written == encode_response(response)
    assert list(written.raw_output_contents) == [bytes(encode_tensor(tensor)) for tensor in tensors]
