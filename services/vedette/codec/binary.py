"""The binary tensor extension: little-endian, row-major elements; BYTES elements carry a 4-byte length.

Rule: numeric tensors are views of the buffer they came in, copied only when misaligned; nothing is
allocated from a size that the buffer does not have.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from vedette.codec.checks import check_datatype, check_shape
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import DATATYPES, Array, Tensor

Buffer = bytes | bytearray | memoryview

_LENGTH = struct.Struct("<I")


def decode_tensor(name: str, datatype: str, shape: Sequence[int], raw: Buffer) -> Tensor:
    """The tensor in `raw`: a read-only view where the element type's alignment allows it.

    Raises:
        InvalidArgument: unknown datatype, impossible shape, or bytes that do not make exactly that tensor.
    """
    check_datatype(name, datatype)
    count = check_shape(name, datatype, shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, _read_elements(name, raw, count).reshape(shape))
    kind = DATATYPES[datatype]
    if len(raw) != count * kind.itemsize:
        raise InvalidArgument(
            f"tensor {name!r}: {len(raw)} bytes where shape {list(shape)} of {datatype} takes {count * kind.itemsize}"
        )
    if not count:  # numpy reads no empty buffer
        return Tensor(name, datatype, np.empty(shape, kind.dtype))
    array = np.frombuffer(raw, kind.dtype)
    if not array.flags.aligned:  # ONNX Runtime's kernels are free to assume alignment
        array = array.copy()
    if datatype == "BOOL" and array.view(np.uint8).max() > 1:
        raise InvalidArgument(f"tensor {name!r}: a BOOL byte is neither 0 nor 1")
    return Tensor(name, datatype, array.reshape(shape))


def _read_elements(name: str, raw: Buffer, count: int) -> Array:
    """Exactly `count` length-prefixed elements as an object array of bytes."""
    if count > len(raw) // _LENGTH.size:
        raise InvalidArgument(f"tensor {name!r}: {len(raw)} bytes are too few for {count} BYTES elements")
    view = memoryview(raw).cast("B")
    elements: list[bytes] = []
    position, end = 0, len(view)
    for index in range(count):
        start = position + _LENGTH.size
        if start > end:
            raise InvalidArgument(f"tensor {name!r}: the length of BYTES element {index} is cut off")
        position = start + _LENGTH.unpack_from(view, position)[0]
        if position > end:
            raise InvalidArgument(f"tensor {name!r}: BYTES element {index} is cut off")
        elements.append(bytes(view[start:position]))
    if position != end:
        raise InvalidArgument(f"tensor {name!r}: {end - position} bytes are left over after {count} BYTES elements")
    return object_array(elements)


def encode_tensor(tensor: Tensor) -> bytes | memoryview:
    """The tensor's bytes on the wire; numeric tensors are viewed, not copied (the view keeps them alive).

    Raises:
        InvalidArgument: a BYTES element that is neither bytes nor Unicode text, or is 4 GiB or longer.
    """
    if tensor.datatype == "BYTES":
        return _write_elements(tensor)
    array = np.ascontiguousarray(tensor.array, DATATYPES[tensor.datatype].dtype)
    return array.reshape(-1).view(np.uint8).data


def _write_elements(tensor: Tensor) -> bytes:
    parts: list[bytes] = []
    for element in tensor.array.ravel().tolist():
        data = _utf8(tensor.name, element) if isinstance(element, str) else element
        if not isinstance(data, bytes):
            raise InvalidArgument(f"tensor {tensor.name!r}: a BYTES element is a {type(element).__name__}")
        if len(data) >= 2**32:
            raise InvalidArgument(f"tensor {tensor.name!r}: a BYTES element is 4 GiB or longer")
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def _utf8(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"tensor {name!r}: a BYTES element is text that is not Unicode") from error


def byte_size(tensor: Tensor) -> int:
    """About how many bytes the tensor keeps alive; of BYTES the elements and a pointer to each. 20 ns an element."""
    array = tensor.array
    if tensor.datatype != "BYTES":
        return array.nbytes
    return array.nbytes + sum(map(len, array.ravel().tolist()))


def object_array(elements: Sequence[object]) -> Array:
    """A one-dimensional object array; `np.array` would look inside the elements."""
    array = np.empty(len(elements), object)
    array[:] = elements
    return array
