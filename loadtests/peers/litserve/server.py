"""LitServe: one LitAPI and so one worker process for all models, whose name is taken from the path."""

# Annotations are objects here, not strings: LitServe hands that of `decode_request` to FastAPI.

import argparse
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import litserve
import numpy as np
import onnxruntime
from fastapi import Depends, Request, Response
from numpy.typing import NDArray


class Rows(NamedTuple):
    """What one request holds, or its answer."""

    model: str
    values: NDArray[np.float32]


async def named(model: str, request: Request) -> tuple[str, bytes]:
    """The model's name and the body as it came: bytes reach the worker process more cheaply than what they mean."""
    return model, await request.body()


class OnnxAPI(litserve.LitAPI):
    """One input and one output, both FP32."""

    def __init__(self, folder: Path, threads: int, **options: Any) -> None:
        super().__init__(api_path="/v2/models/{model}/infer", **options)
        self._folder, self._threads = folder, threads

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        self._sessions = {
            path.stem: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for path in self._folder.glob("*.onnx")
        }

    def decode_request(self, request: Annotated[tuple[str, bytes], Depends(named)]) -> Rows:
        model, body = request
        (tensor,) = json.loads(body)["inputs"]
        return Rows(model, np.array(tensor["data"], np.float32).reshape(tensor["shape"]))

    def batch(self, inputs: Sequence[Rows]) -> Sequence[Rows]:
        return inputs

    def predict(self, x: Rows | Sequence[Rows]) -> Rows | Sequence[Rows]:
        return Rows(x.model, self._run(*x)) if isinstance(x, Rows) else self._together(x)

    def unbatch(self, output: Sequence[Rows]) -> Sequence[Rows]:
        return output

    def encode_response(self, output: Rows) -> Response:
        shape, data = list(output.values.shape), output.values.ravel().tolist()
        tensor = {"name": "y", "datatype": "FP32", "shape": shape, "data": data}
        answer = {"model_name": output.model, "model_version": "1", "outputs": [tensor]}
        return Response(json.dumps(answer), media_type="application/json")

    def _together(self, batch: Sequence[Rows]) -> Sequence[Rows]:
        """One run for each model in the batch, its rows given back to whom they belong."""
        answers = list(batch)
        for model in {rows.model for rows in batch}:
            places = [place for place, rows in enumerate(batch) if rows.model == model]
            y = self._run(model, np.concatenate([batch[place].values for place in places]))
            ends = np.cumsum([len(batch[place].values) for place in places])
            for place, values in zip(places, np.split(y, ends[:-1])):
                answers[place] = Rows(model, values)
        return answers

    def _run(self, model: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        y: NDArray[np.float32] = self._sessions[model].run(["y"], {"x": x})[0]
        return y


def interrupt_of(process: int) -> Callable[..., None]:
    """SIGTERM as Ctrl+C, for which LitServe stops the processes it started; what it forked stops as it knows."""

    def interrupt(*_: object) -> None:
        if os.getpid() == process:
            raise KeyboardInterrupt

    return interrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, help="not used: LitServe has no gRPC")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-batch-size", type=int, default=1, help="1: no batches")
    parser.add_argument("--batch-timeout", type=float, default=0.0, help="seconds")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt_of(os.getpid()))
    api = OnnxAPI(
        arguments.models,
        arguments.threads,
        max_batch_size=arguments.max_batch_size,
        batch_timeout=arguments.batch_timeout,
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=arguments.http_port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
