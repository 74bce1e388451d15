"""KServe's Python model server."""

from loadtests.peers import Peer

PEER = Peer(
    name="KServe",
    folder="kserve",
    speaks=("json", "binary", "grpc"),
    note=(
        "KServe 0.21 model server in one process (workers 1). For ONNX its docs advise Triton: here a custom "
        "predictor over ONNX Runtime (docs: Deploy Custom Python Model Server with InferenceService). httptools, and "
        "uvloop set by hand: `--event-loop` has no effect with one worker, and uvloop took less CPU a request than "
        "asyncio, over HTTP and gRPC. Latency logging, access log and the line for each gRPC call off (levels at "
        "WARNING), metrics as shipped. Its batcher is a sidecar of Kubernetes and not in the package."
    ),
)
