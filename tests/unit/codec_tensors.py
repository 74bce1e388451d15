"""Hypothesis strategies for tensors of every datatype, as the codec tests draw them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vedette.codec import bfloat16
from vedette.codec.binary import object_array
from vedette.core.tensors import DATATYPES, Array, Tensor

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
FLOATS = ("FP16", "BF16", "FP32", "FP64")


@st.composite
def tensors(draw: st.DrawFn, *, finite: bool = False, text: bool = False, name: str = "x") -> Tensor:
    """A tensor of any datatype and small shape; `finite`: no NaN or infinity; `text`: BYTES are UTF-8."""
    datatype = draw(st.sampled_from(sorted(DATATYPES)))
    return Tensor(name, datatype, draw(arrays(datatype, draw(SHAPES), finite=finite, text=text)))


@st.composite
def arrays(draw: st.DrawFn, datatype: str, shape: tuple[int, ...], *, finite: bool, text: bool) -> Array:
    """An array of one datatype and shape."""
    if datatype == "BYTES":
        element = st.text(max_size=6).map(str.encode) if text else st.binary(max_size=6)
        count = int(np.prod(shape, dtype=int))
        return object_array(draw(st.lists(element, min_size=count, max_size=count))).reshape(shape)
    if datatype == "BF16":
        patterns = draw(hnp.arrays(np.uint16, shape))
        return np.where(np.isfinite(bfloat16.widen(patterns)), patterns, 0).astype("<u2") if finite else patterns
    elements = {"allow_nan": False, "allow_infinity": False} if finite and datatype in FLOATS else None
    return draw(hnp.arrays(DATATYPES[datatype].dtype, shape, elements=elements))


def assert_same(actual: Tensor, expected: Tensor) -> None:
    """Equal in name, datatype, shape and every bit (the sign of zero and NaN included)."""
    assert (actual.name, actual.datatype, actual.array.shape) == (
        expected.name,
        expected.datatype,
        expected.array.shape,
    )
    assert actual.array.dtype == DATATYPES[expected.datatype].dtype
    if expected.datatype == "BYTES":
        assert actual.array.ravel().tolist() == expected.array.ravel().tolist()
    else:
        assert actual.array.tobytes() == expected.array.tobytes()
    assert actual.array.flags.c_contiguous
    assert actual.array.flags.aligned
