"""MLServer with a custom runtime over ONNX Runtime (it has none of its own), started as `mlserver start` does."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import install_uvloop_event_loop


class OnnxModel(MLModel):
    """One input and one output, both FP32."""

    async def load(self) -> bool:
        parameters = self.settings.parameters
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = parameters.extra["threads"]
        self._session = onnxruntime.InferenceSession(parameters.uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        (y,) = self._session.run(["y"], {"x": x})
        outputs = [NumpyCodec.encode_output("y", y)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def model(path: Path, arguments: argparse.Namespace) -> ModelSettings:
    """What `model-settings.json` would hold."""
    return ModelSettings(
        name=path.stem,
        implementation=OnnxModel,
        max_batch_size=arguments.max_batch_size,
        max_batch_time=arguments.max_batch_time,
        parameters=ModelParameters(uri=str(path), version="1", extra={"threads": arguments.threads}),
    )


def server(arguments: argparse.Namespace) -> Settings:
    """What `settings.json` would hold: no debug and so no access log, inference in this process, metrics as shipped."""
    return Settings(
        debug=False,
        host="127.0.0.1",
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        parallel_workers=0,
        gzip_enabled=False,
    )


async def serve(arguments: argparse.Namespace) -> None:
    models = [model(path, arguments) for path in sorted(arguments.models.glob("*.onnx"))]
    await MLServer(server(arguments)).start(models)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-batch-size", type=int, default=0, help="0: no batches")
    parser.add_argument("--max-batch-time", type=float, default=0.0, help="seconds")
    install_uvloop_event_loop()
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
