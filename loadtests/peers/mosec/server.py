"""mosec: its Rust front, and one worker process per model that reads V2 JSON and runs ONNX Runtime.

Rule: the worker does what mosec's docs show and no more: msgspec in `deserialize` and `serialize`, the model in
`forward`, its settings from the worker's `env`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
from mosec import Server, ValidationError, Worker
from numpy.typing import NDArray

BATCH_ROWS = 32
BATCH_WAIT_MS = 1  # the least that it takes; 0 means its default of 10


class Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class Request(msgspec.Struct):
    inputs: list[Tensor]


class Response(msgspec.Struct):
    model_name: str
    outputs: list[Tensor]
    model_version: str = "1"


class Model(Worker):
    """One ONNX session; the names of the methods are mosec's."""

    def __init__(self) -> None:
        path = Path(os.environ["ONNX"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        self._name = path.stem
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._decoder = msgspec.json.Decoder(Request)
        self._encoder = msgspec.json.Encoder()

    def deserialize(self, data: bytes) -> NDArray[np.float32]:
        try:
            (x,) = self._decoder.decode(data).inputs
            return np.array(x.data, np.float32).reshape(x.shape)
        except (ValueError, msgspec.MsgspecError) as error:
            raise ValidationError(str(error)) from error

    def forward(self, data):  # unannotated: mosec makes an OpenAPI schema of annotations, and knows none of arrays
        return self._session.run(["y"], {"x": data})[0]

    def serialize(self, data: NDArray[np.float32]) -> bytes:
        y = Tensor("y", "FP32", list(data.shape), data.ravel().tolist())
        return self._encoder.encode(Response(self._name, [y]))


class Batched(Model):
    """The same for all that mosec collected: one run, each its own rows."""

    def forward(self, data):
        if len(data) == 1:
            return self._session.run(["y"], {"x": data[0]})
        (y,) = self._session.run(["y"], {"x": np.concatenate(data)})
        return np.split(y, np.cumsum([len(rows) for rows in data])[:-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--http-port", required=True)
    parser.add_argument("--grpc-port")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--unbatched", action="store_true")
    options = parser.parse_args()
    os.environ |= {"MOSEC_PORT": options.http_port, "MOSEC_ADDRESS": "127.0.0.1"}
    server = Server()
    for onnx in sorted(options.models.glob("*.onnx")):
        env = [{"ONNX": str(onnx), "THREADS": options.threads}]
        route = f"/v2/models/{onnx.stem}/infer"
        if options.unbatched:
            server.append_worker(Model, env=env, route=route)
        else:
            server.append_worker(Batched, max_batch_size=BATCH_ROWS, max_wait_time=BATCH_WAIT_MS, env=env, route=route)
    server.run()


if __name__ == "__main__":
    main()
