"""The only importer of ONNX Runtime: load, run, measure, and admit in a child process.

Rule: nothing here knows a protocol, an endpoint or the registry.
"""
