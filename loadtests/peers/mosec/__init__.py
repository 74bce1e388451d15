"""mosec: a Rust front with Python worker processes behind a Unix socket."""

from loadtests.peers import Peer

FAILURES = r'mosec_service_throughput_total\{code="[^2]'
PROCESSES = "Processes: its Rust front, one worker per model, and the one that watches them."

PEER = Peer(
    name="mosec",
    folder="mosec",
    speaks=("json",),  # a worker sees no headers, so it cannot tell where the JSON of a binary request ends
    ready_path="/",
    env=(("MOSEC_LOG_LEVEL", "error"),),
    failures=FAILURES,
    note=(
        "mosec 0.9.8. Dynamic batching as its README advises (up to 32, wait 1 ms, the least it takes): about twice "
        "the rate without at 32 connections, and its price at one connection is the wait of 1 ms and more. msgspec "
        f"for JSON both ways, one worker process per model (num=1), metrics always on. {PROCESSES}"
    ),
)
