"""The first row of every HTTP table: FastAPI + pydantic + ONNX Runtime as a good engineer writes it in an hour.

uvicorn with httptools and uvloop, typed request and response, the model run inline with one thread, the
response serialized once by pydantic itself. Run: `python -m loadtests.plain_fastapi PORT`.
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel

from loadtests import reference_model


class Tensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class InferRequest(BaseModel):
    id: str | None = None
    inputs: list[Tensor]


class InferResponse(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


def build() -> FastAPI:
    """The whole server."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(reference_model.build(), options, providers=["CPUExecutionProvider"])
    app = FastAPI()

    @app.post("/v2/models/reference/infer")
    async def infer(request: InferRequest) -> Response:
        feeds = {}
        for tensor in request.inputs:
            if tensor.name != "x" or tensor.datatype != "FP32":
                raise HTTPException(400, f"unexpected input {tensor.name}")
            feeds[tensor.name] = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
        (output,) = session.run(["probabilities"], feeds)
        answer = InferResponse(
            model_name="reference",
            model_version="1",
            id=request.id,
            outputs=[
                Tensor(name="probabilities", datatype="FP32", shape=list(output.shape), data=output.ravel().tolist())
            ],
        )
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(build(), port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
