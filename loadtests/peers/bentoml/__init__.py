"""BentoML: a service of its own in one worker process."""

from loadtests.peers import Peer

PEER = Peer(
    name="BentoML",
    folder="bentoml",
    speaks=("json",),
    ready_path="/readyz",
    failures=r'bentoml_service_request_total\{.*http_response_code="[45]',
    note=(
        "One worker beside the supervisor that `bentoml serve` is (docs: Workers); async method, typed input and "
        "output, uvloop and httptools installed, access log off (docs: Configurations, Logging). No adaptive "
        "batching: for a body of named tensors it takes a second service behind this one, a call between processes "
        "for each request, and the most that it can save is 33 us (mlp) of about 800."
    ),
)
