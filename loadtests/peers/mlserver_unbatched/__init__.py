"""MLServer without adaptive batching, as shipped: at one connection its batcher waits for nobody."""

from loadtests.peers import Peer
from loadtests.peers.mlserver import COMMAND, FAILURES, READY

PEER = Peer(
    name="MLServer, no batching",
    folder="mlserver_unbatched",
    speaks=("json", "grpc"),
    command=(COMMAND[0], "{folder}/../mlserver/server.py", *COMMAND[2:]),
    ready_path=READY,
    failures=FAILURES,
    note="As `mlserver`, with max_batch_size 0 (its default): faster at one connection, slower at 32; gRPC only here.",
)
