"""KServe's model server with a custom predictor over ONNX Runtime (its own ONNX runtime is Triton)."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

import onnxruntime
import uvloop
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class OnnxModel(Model):
    """One input and one output, both FP32."""

    def __init__(self, path: Path, threads: int) -> None:
        super().__init__(path.stem)
        self._path, self._threads = path, threads

    def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        self._session = onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
        self.ready = True
        return self.ready

    def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:
        (y,) = self._session.run(["y"], {"x": payload.inputs[0].as_numpy()})
        output = InferOutput(name="y", shape=list(y.shape), datatype="FP32")
        output.set_data_from_numpy(y)
        return InferResponse(
            response_id=payload.id or generate_uuid(),
            model_name=self.name,
            infer_outputs=[output],
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


def quiet() -> None:
    """No line a request: neither uvicorn's access log nor KServe's own of times and of gRPC methods."""
    logging.basicConfig(level=logging.WARNING)
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    quiet()
    models = [OnnxModel(path, arguments.threads) for path in sorted(arguments.models.glob("*.onnx"))]
    for model in models:
        model.load()
    uvloop.install()
    asyncio.set_event_loop(asyncio.new_event_loop())  # ModelServer asks for one before it runs its own
    ModelServer(
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        workers=1,
        enable_latency_logging=False,
    ).start(models)


if __name__ == "__main__":
    main()
