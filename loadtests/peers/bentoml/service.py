"""The service that `bentoml serve` runs; `--arg` brings the folder of the models and the threads."""

from __future__ import annotations

from pathlib import Path

import bentoml
import numpy as np
import onnxruntime
from pydantic import BaseModel


class Arguments(BaseModel):
    """Of `bentoml serve --arg`."""

    models: Path
    threads: int = 1


class Tensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class Answer(BaseModel):
    model_name: str
    model_version: str
    outputs: list[Tensor]


arguments = bentoml.use_arguments(Arguments)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Onnx:
    """All models behind one route; the method is async and so runs on the loop, without a hop to a thread."""

    def __init__(self) -> None:
        self._sessions = {path.stem: session(path) for path in arguments.models.glob("*.onnx")}

    @bentoml.api(route="/v2/models/{model}/infer")
    async def infer(self, inputs: list[Tensor], ctx: bentoml.Context) -> Answer:
        name = ctx.request.path_params["model"]
        (tensor,) = inputs
        x = np.array(tensor.data, np.float32).reshape(tensor.shape)
        (y,) = self._sessions[name].run(["y"], {"x": x})
        output = Tensor(name="y", datatype="FP32", shape=list(y.shape), data=y.ravel().tolist())
        return Answer(model_name=name, model_version="1", outputs=[output])
