"""application/x-npy: one array in numpy's own file format, for models of one input and one output.

Rule: never pickle, never evaluate the header; no memory is taken that the body does not have.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np

from vedette.codec import bfloat16
from vedette.codec.binary import object_array
from vedette.codec.checks import check_shape
from vedette.codec.rows import cast_values
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import DATATYPES, Array, Tensor, element_count

_MAX_HEADER = 10_000
# The three keys of the format; a header needs no evaluation, and only plain types get through.
_DESCR = re.compile(rb"'descr'\s*:\s*'([<>|=]?[biufSU][1-9][0-9]{0,8})'")
_FORTRAN = re.compile(rb"'fortran_order'\s*:\s*(True|False)")
_SHAPE = re.compile(rb"'shape'\s*:\s*\(((?:\s*[0-9]{1,20}\s*,)*\s*(?:[0-9]{1,20}\s*)?)\)")


def decode(body: bytes, signature: Signature) -> list[Tensor]:
    """The model's only input; cast to its datatype when that loses no range and no fraction.

    A single row without its batch dimension is taken as a batch of one.

    Raises:
        InvalidArgument: not a plain npy file, cut off or too long, or an array that the input cannot hold.
    """
    if len(signature.inputs) != 1:
        raise InvalidArgument(f"application/x-npy carries one tensor; the model takes {len(signature.inputs)}")
    spec = signature.inputs[0]
    array = _fitted(_read(body), spec)
    if len(spec.shape) == array.ndim + 1 and all(dim in (-1, n) for dim, n in zip(spec.shape[1:], array.shape)):
        array = array[np.newaxis]
    return [Tensor(spec.name, spec.datatype, array)]


def _read(body: bytes) -> Array:
    """The array in the file: a view of `body`, in whatever byte and axis order it was written."""
    header, start = _header(body)
    descr, fortran, shape_text = (pattern.search(header) for pattern in (_DESCR, _FORTRAN, _SHAPE))
    if descr is None or fortran is None or shape_text is None:
        raise InvalidArgument("the npy header does not describe a plain array of numbers, booleans or text")
    shape = [int(dim) for dim in shape_text[1].split(b",") if dim.strip()]
    try:
        dtype = np.dtype(descr[1].decode())
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"npy has no type {descr[1].decode()!r}") from error
    check_shape("npy", "BYTES", shape)
    size = element_count(shape) * dtype.itemsize
    if len(body) - start != size:
        raise InvalidArgument(f"the npy file holds {len(body) - start} bytes where its header says {size}")
    if not size:
        return np.empty(shape, dtype)
    flat = np.frombuffer(body, dtype, offset=start)
    _check_elements(flat)
    return flat.reshape(shape[::-1]).T if fortran[1] == b"True" else flat.reshape(shape)


def _header(body: bytes) -> tuple[bytes, int]:
    """The header's text and where the data begins."""
    length = {b"\x01": 2, b"\x02": 4, b"\x03": 4}.get(body[6:7], 0)
    if body[:6] != b"\x93NUMPY" or not length or len(body) < 8 + length:
        raise InvalidArgument("the body is not a npy file")
    start = 8 + length + int.from_bytes(body[8 : 8 + length], "little")
    if start > len(body) or start > _MAX_HEADER:
        raise InvalidArgument("the npy header is cut off or too long")
    return body[8 + length : start], start


def _check_elements(flat: Array) -> None:
    """Refuse bit patterns that numpy would read and cannot handle: odd booleans, characters past Unicode."""
    if flat.dtype.kind == "b" and flat.view(np.uint8).max() > 1:
        raise InvalidArgument("the npy file holds a boolean byte that is neither 0 nor 1")
    if flat.dtype.kind == "U" and flat.view(np.dtype("u4").newbyteorder(flat.dtype.byteorder)).max() > 0x10FFFF:
        raise InvalidArgument("the npy file holds text that is not Unicode")


def _fitted(array: Array, spec: TensorSpec) -> Array:
    """The array in the input's datatype, C-contiguous and aligned."""
    if (spec.datatype == "BYTES") != (array.dtype.kind in "SU"):
        raise InvalidArgument(f"input {spec.name!r} of {spec.datatype} cannot be read from npy {array.dtype}")
    if spec.datatype == "BYTES":
        return _elements(array)
    wanted = DATATYPES[spec.datatype].dtype
    if spec.datatype != "BF16" and array.dtype == wanted:
        return np.require(array, requirements=["C", "A"])
    return _cast(array, spec)


def _cast(array: Array, spec: TensorSpec) -> Array:
    """The array in another datatype, if every value survives as far as the datatype's precision goes."""
    problem = f"input {spec.name!r}: an npy array of {array.dtype} holds a value that is not one of {spec.datatype}"
    wanted = DATATYPES[spec.datatype].dtype
    floating = spec.datatype in ("FP16", "BF16", "FP32", "FP64")
    try:
        if floating:
            return np.asarray(cast_values(spec.datatype, array), order="C")
        with np.errstate(invalid="raise", over="raise"):
            cast = np.asarray(array.astype(wanted), order="C")
    except (OverflowError, FloatingPointError) as error:
        raise InvalidArgument(problem) from error
    if not np.array_equal(cast, array):
        raise InvalidArgument(problem)
    return cast


def _elements(array: Array) -> Array:
    try:
        elements = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
    except UnicodeEncodeError as error:
        raise InvalidArgument("the npy file holds text that is not Unicode") from error
    return object_array(elements).reshape(array.shape)


def encode(outputs: Sequence[Tensor], signature: Signature | None = None) -> bytes:  # noqa: ARG001 - as all formats
    """The only output as an npy file; BF16 as float32, BYTES as numpy's fixed-length byte strings.

    Raises:
        InvalidArgument: several outputs, or BYTES that end in zeros, which numpy would drop.
    """
    if len(outputs) != 1:
        names = ", ".join(repr(tensor.name) for tensor in outputs[:8])
        raise InvalidArgument(f"application/x-npy carries one tensor; the model gives {len(outputs)}: {names}")
    stream = io.BytesIO()
    np.save(stream, _writable(outputs[0]), allow_pickle=False)
    return stream.getvalue()


def _writable(tensor: Tensor) -> Array:
    if tensor.datatype == "BF16":
        return bfloat16.widen(tensor.array.astype(np.uint16, copy=False))
    if tensor.datatype != "BYTES":
        return tensor.array
    elements = [item.encode() if isinstance(item, str) else item for item in tensor.array.ravel().tolist()]
    array = np.array(elements, dtype=np.bytes_).reshape(tensor.array.shape)
    if array.ravel().tolist() != elements:
        raise InvalidArgument(f"output {tensor.name!r} holds bytes that end in zeros, which npy cannot carry")
    return array
