"""The first row of every gRPC table: a bare grpcio aio servicer around ONNX Runtime, nothing else.

Run: `python -m loadtests.plain_grpc PORT`.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import numpy as np
import onnxruntime

from loadtests import reference_model
from vedette.proto.inference.v1 import inference_pb2 as pb


async def serve(port: int) -> None:
    """Serve ModelInfer for the reference model until killed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(reference_model.build(), options, providers=["CPUExecutionProvider"])

    async def infer(request: pb.ModelInferRequest, _: grpc.aio.ServicerContext) -> pb.ModelInferResponse:
        tensor = request.inputs[0]
        array = np.frombuffer(request.raw_input_contents[0], dtype=np.float32).reshape(tensor.shape)
        (output,) = session.run(["probabilities"], {tensor.name: array})
        spec = pb.ModelInferResponse.InferOutputTensor(name="probabilities", datatype="FP32", shape=output.shape)
        return pb.ModelInferResponse(
            model_name="reference", model_version="1", outputs=[spec], raw_output_contents=[output.tobytes()]
        )

    handler = grpc.unary_unary_rpc_method_handler(
        infer,
        request_deserializer=pb.ModelInferRequest.FromString,
        response_serializer=pb.ModelInferResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_registered_method_handlers("inference.GRPCInferenceService", {"ModelInfer": handler})
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
