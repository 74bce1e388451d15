"""LitServe without batching: what it does at one connection, where its loop waits for nobody."""

from loadtests.peers import SERVER, Peer
from loadtests.peers.litserve import PROCESSES

PEER = Peer(
    name="LitServe, no batching",
    folder="litserve_unbatched",
    speaks=("json",),
    command=(SERVER[0], "{folder}/../litserve/server.py", *SERVER[2:]),
    ready_path="/health",
    note=f"As `litserve`, with max_batch_size 1 (its default): faster at one connection, slower at 32. {PROCESSES}",
)
