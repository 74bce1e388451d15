"""MLServer of Seldon, with its adaptive batching."""

from loadtests.peers import SERVER, Peer

COMMAND = (*SERVER, "--metrics-port", "{metrics_port}")
READY = "/v2/models/tree/ready"
"""The model it loads last: `/v2/health/ready` answers 200 before the first is there."""
FAILURES = "model_infer_request_failure_total"

PEER = Peer(
    name="MLServer",
    folder="mlserver",
    speaks=("json",),  # it reads no binary tensors over HTTP; gRPC is measured without batching, see the note
    command=(*COMMAND, "--max-batch-size", "32", "--max-batch-time", "0.01"),
    ready_path=READY,
    failures=FAILURES,
    note=(
        "MLServer 1.7.1 as `mlserver start` runs it: uvloop, httptools and orjson installed. It has no runtime for "
        "ONNX: a custom one over ONNX Runtime (docs: Custom Inference Runtimes). parallel_workers 0, so inference is "
        "in the one process (docs: Parallel Inference); debug off and so no access log, gzip off, metrics as shipped. "
        "Adaptive batching (docs: Adaptive Batching), 32 requests or 10 ms: at 32 connections it costs 16 to 32 % "
        "less CPU a request than without, and at one connection every request waits the 10 ms. gRPC is measured "
        "without batching only: a call that its caller gives up leaves the others of its batch without an answer "
        "(KeyError in mlserver/batching/adaptive.py), and a generator gives up what is in flight at its end."
    ),
)
