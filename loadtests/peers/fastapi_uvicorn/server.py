"""FastAPI + pydantic + ONNX Runtime as a good engineer writes it in an hour.

uvicorn with httptools and uvloop, typed request and response, the model run inline, the response serialized once by
pydantic itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel


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


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def build(folder: Path, threads: int) -> FastAPI:
    """The whole server."""
    sessions = {path.stem: session(path, threads) for path in folder.glob("*.onnx")}
    app = FastAPI()

    @app.get("/v2/health/ready")
    async def ready() -> Response:
        return Response()

    @app.post("/v2/models/{name}/infer")
    async def infer(name: str, request: InferRequest) -> Response:
        model = sessions.get(name)
        if model is None:
            raise HTTPException(404, f"no model {name}")
        feeds = {}
        for tensor in request.inputs:
            if tensor.name != "x" or tensor.datatype != "FP32":
                raise HTTPException(400, f"unexpected input {tensor.name}")
            feeds[tensor.name] = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
        (y,) = model.run(["y"], feeds)
        answer = InferResponse(
            model_name=name,
            model_version="1",
            id=request.id,
            outputs=[Tensor(name="y", datatype="FP32", shape=list(y.shape), data=y.ravel().tolist())],
        )
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, help="not used: FastAPI has no gRPC")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    uvicorn.run(
        build(arguments.models, arguments.threads),
        port=arguments.http_port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
