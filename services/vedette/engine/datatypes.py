"""ONNX types as ONNX Runtime names them, and the protocol's datatypes: one table.

Rule: a type that is not in the table cannot be served, and `unsupported` says what to do about it.
"""

from __future__ import annotations

DATATYPE_OF_ONNX: dict[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""ONNX Runtime's name of a type -> the Open Inference Protocol's."""

BF16_ONNX_ELEMENT = 16
"""`TensorProto.BFLOAT16`; a number here because serving does not install onnx."""


def unsupported(role: str, name: str, onnx_type: str) -> str:
    """Why the input or output `name` cannot be served, and how to convert the model so that it can."""
    subject = f"{role} {name[:80]!r} is of type {onnx_type[:80]}"
    if onnx_type.startswith("seq(map("):
        return (
            f"{subject}, a list of dictionaries (ZipMap), which the protocol cannot carry; convert the model "
            "again without it, e.g. skl2onnx.convert_sklearn(..., options={'zipmap': False}) or "
            "onnxmltools' convert_lightgbm(..., zipmap=False), so that probabilities are a plain tensor"
        )
    if onnx_type.startswith(("seq(", "map(", "optional(", "sparse_tensor(")):
        return f"{subject}, which the protocol cannot carry; give the graph plain tensors only"
    return f"{subject}, which the protocol has no datatype for; add a Cast to one it has, such as FP32 or INT8"
