"""FastAPI on uvicorn with pydantic: what most teams write first."""

from loadtests.peers import Peer

PEER = Peer(
    name="FastAPI + uvicorn",
    folder="fastapi_uvicorn",
    speaks=("json",),
    note=(
        "FastAPI 0.165, one uvicorn process with uvloop, httptools and no access log (uvicorn docs: Settings); an "
        "`async def` route runs the model inline, pydantic writes the bytes of the response (FastAPI docs: Return a "
        "Response Directly). No metrics."
    ),
)
