"""Tensors over a pipe between two of our own processes: a header in JSON, then the bytes of each tensor.

Rule: a reader trusts no length: a frame has its bound, and tensors are decoded as those of a stranger.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import BinaryIO

from vedette.codec.binary import decode_tensor, encode_tensor
from vedette.core.errors import VedetteError, error_from_code
from vedette.core.tensors import Tensor

MAX_BYTES = 512 << 20
"""Longest frame, written or read."""

_LENGTHS = struct.Struct("<IQ")


class BrokenFrame(Exception):
    """The other side ended, or what it sent is no frame."""


def write_tensors(pipe: BinaryIO, tensors: Sequence[Tensor]) -> None:
    """Send tensors; blocks until the other side has taken them.

    Raises:
        BrokenFrame: they are longer than a frame may be.
        OSError: the other side is gone.
    """
    parts = [encode_tensor(tensor) for tensor in tensors]
    described = [[t.name, t.datatype, list(t.array.shape), len(part)] for t, part in zip(tensors, parts)]
    total = sum(map(len, parts))
    if total > MAX_BYTES:
        raise BrokenFrame(f"{total >> 20} MiB of tensors are more than a frame may hold")
    header = json.dumps({"tensors": described}).encode()
    pipe.write(_LENGTHS.pack(len(header), total) + header)
    pipe.writelines(parts)
    pipe.flush()


def write_error(pipe: BinaryIO, error: VedetteError) -> None:
    """Send an error in the place of tensors."""
    header = json.dumps({"code": error.code, "message": error.message[:1000]}).encode()
    pipe.write(_LENGTHS.pack(len(header), 0) + header)
    pipe.flush()


def read_tensors(pipe: BinaryIO) -> list[Tensor]:
    """The next tensors; blocks until they are there.

    Raises:
        BrokenFrame: the pipe has ended, or holds something else.
        VedetteError: the error that was sent in their place, or a tensor that does not fit its description.
    """
    header_size, total = _LENGTHS.unpack(_exactly(pipe, _LENGTHS.size))
    if header_size > 1 << 20 or total > MAX_BYTES:
        raise BrokenFrame("a frame is longer than it may be")
    try:
        header = json.loads(_exactly(pipe, header_size))
        if "code" in header:
            raise error_from_code(str(header["code"]), str(header["message"]))
        described = [(str(n), str(d), [int(dim) for dim in s], int(size)) for n, d, s, size in header["tensors"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BrokenFrame("a frame has no header") from None
    if any(size < 0 for *_, size in described) or sum(size for *_, size in described) != total:
        raise BrokenFrame("a frame is not as long as its tensors")
    return [decode_tensor(name, datatype, shape, _exactly(pipe, size)) for name, datatype, shape, size in described]


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) != size:
        raise BrokenFrame("the pipe has ended")
    return data
