"""NVIDIA's Triton without its container: tritonserver and its python backend from the nvidia-pytriton wheel."""

from loadtests.peers import SERVER, Peer

PEER = Peer(
    name="Triton, python backend",
    folder="triton",
    speaks=("json", "binary", "grpc"),
    command=(*SERVER, "--metrics-port", "{metrics_port}"),
    # Without CANCELED: the generator hangs up on what is in flight when its time is over.
    failures=r'nv_inference_request_failure\{model="\w+",reason="(?!CANCELED)',
    note=(
        "tritonserver 2.51 of the PyPI wheel nvidia-pytriton 0.7.0; the wheel has no ONNX backend, so ONNX Runtime "
        "runs in the python backend. Per model: dynamic_batching with its defaults (no delay, up to 32 rows; "
        "Triton's Optimization guide, faster than without at 32 connections), one CPU instance; "
        "default front-end threads (8; one and two were not faster), metrics on, model control none, log of errors "
        "only. Processes: tritonserver, one stub of the backend per model (it cannot do without), one that waits for "
        "SIGTERM. Needs the shared libpython of the Python that runs it (Debian: libpython3.11), 3.8 to 3.13."
    ),
)
