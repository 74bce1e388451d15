"""The only importer of ONNX Runtime: load, run, measure, and admit in a child process.

Rule: nothing here knows a protocol, an endpoint or the registry.
"""

import os

# Since 1.29 the official Linux builds of ONNX Runtime report models, hashes and processes to Microsoft and
# keep an identifier and a database under ~/.cache, from the moment of import. Only this variable, set before
# it, stops all of that (microsoft/onnxruntime#27379); an operator who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
