"""The limit of Triton's front end: the same server with its response cache on, where no request runs the model."""

from loadtests.peers import SERVER, Peer

PEER = Peer(
    name="Triton, response cache",
    folder="triton_cache",
    speaks=("json", "binary", "grpc"),
    command=(
        SERVER[0],
        "{folder}/../triton/server.py",
        *SERVER[2:],
        "--metrics-port",
        "{metrics_port}",
        "--cache-bytes",
        str(64 * 1024 * 1024),
    ),
    # Without CANCELED: the generator hangs up on what is in flight when its time is over.
    failures=r'nv_inference_request_failure\{model="\w+",reason="(?!CANCELED)',
    note=(
        "As `Triton, python backend`, with --cache-config=local,size=64 MiB and response_cache on in every model: "
        "after the first, each request (all are the same) is answered from memory and no model runs. Not a peer that "
        "serves, but the most that Triton's front end can do."
    ),
)
