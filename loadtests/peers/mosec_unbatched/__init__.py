"""mosec without its dynamic batching: what it does at one connection, where its batcher waits for nobody."""

from loadtests.peers import SERVER, Peer
from loadtests.peers.mosec import FAILURES, PROCESSES

PEER = Peer(
    name="mosec, no batching",
    folder="mosec_unbatched",
    speaks=("json",),
    command=(SERVER[0], "{folder}/../mosec/server.py", *SERVER[2:], "--unbatched"),
    ready_path="/",
    env=(("MOSEC_LOG_LEVEL", "error"),),
    failures=FAILURES,
    note=f"As `mosec`, with max_batch_size=1 (its default): faster at one connection, slower at 32. {PROCESSES}",
)
