"""What users and training scripts import: the client and the converters to ONNX.

Rule: light (httpx, msgspec, numpy); no server library, pandas or onnxruntime at import. `aio` is written
by hand, `sync` is generated from it, and everything that does no input or output is shared by both.
"""
