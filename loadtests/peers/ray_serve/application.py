"""What Ray Serve serves: one replica with every model, behind Serve's own ingress, in a cluster of one node.

Started by `server.py`, which ends it, whatever it is doing: this file only starts.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import ray
from numpy.typing import NDArray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

HEADER_LENGTH = "inference-header-content-length"
OBJECT_STORE_BYTES = 80 * 1024 * 1024  # about the least that Ray takes; requests do not pass through it
MAX_ONGOING = 1000  # of Serve's performance guide; the default of 5 keeps more than that from a replica

LOGGING = {"log_level": "WARNING", "enable_access_log": False}  # as for every peer


class Models:
    """Every model of the folder: what Serve calls for each request."""

    def __init__(self, folder: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._sessions = {
            onnx.stem: onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
            for onnx in Path(folder).glob("*.onnx")
        }

    async def __call__(self, request: Request) -> Response:
        parts = request.url.path.split("/")
        if parts[1:] == ["v2", "health", "ready"]:
            return Response()
        body = await request.body()
        name, length = parts[3], request.headers.get(HEADER_LENGTH)
        if length is None:
            return self._json(name, body)
        return self._binary(name, body, int(length))

    def _run(self, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._sessions[name].run(["y"], {"x": x})[0]

    def _json(self, name: str, body: bytes) -> Response:
        (x,) = json.loads(body)["inputs"]
        y = self._run(name, np.array(x["data"], np.float32).reshape(x["shape"]))
        return Response(answer(name, y, {"data": y.ravel().tolist()}), media_type="application/json")

    def _binary(self, name: str, body: bytes, length: int) -> Response:
        (x,) = json.loads(body[:length])["inputs"]
        y = self._run(name, np.frombuffer(body, np.float32, offset=length).reshape(x["shape"]))
        head = answer(name, y, {"parameters": {"binary_data_size": y.nbytes}})
        headers = {HEADER_LENGTH: str(len(head))}
        return Response(head + y.tobytes(), headers=headers, media_type="application/octet-stream")


def answer(name: str, y: NDArray[np.float32], rest: dict[str, object]) -> bytes:
    output = {"name": "y", "datatype": "FP32", "shape": y.shape, **rest}
    return json.dumps({"model_name": name, "model_version": "1", "outputs": [output]}).encode()


def main(models: str, port: str, threads: str, folder: str) -> None:
    """Start the cluster and the application; returns never."""
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="warning",
        _temp_dir=folder,
    )
    serve.start(
        proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": int(port)}, logging_config=LOGGING
    )
    deployment = serve.deployment(
        Models,
        num_replicas=1,
        max_ongoing_requests=MAX_ONGOING,
        ray_actor_options={"num_cpus": 1},
        logging_config=LOGGING,
    )
    serve.run(deployment.bind(models, int(threads)), route_prefix="/")
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
