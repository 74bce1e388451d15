"""LitServe of Lightning AI, with its dynamic batching."""

from loadtests.peers import SERVER, Peer

PROCESSES = (
    "Processes: the API server, the worker that runs the models, the parent of both, the manager of their queues, "
    "Python's resource tracker; it cannot do without them."
)

PEER = Peer(
    name="LitServe",
    folder="litserve",
    speaks=("json",),
    command=(*SERVER, "--max-batch-size", "32", "--batch-timeout", "0.01"),
    ready_path="/health",
    note=(
        "LitServe 0.2.19, one LitAPI for all models, num_api_servers 1, workers_per_device 1, fast_queue on (docs: "
        "LitServer, for more than 100 requests/s), uvloop and httptools installed, no access log. Dynamic batching "
        "(docs: Batching), 32 requests or 10 ms: at 32 connections 13 % more requests/s than without, and at one "
        f"connection every request waits the 10 ms. {PROCESSES}"
    ),
)
