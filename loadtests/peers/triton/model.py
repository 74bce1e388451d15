"""The model behind Triton's python backend: ONNX Runtime on what the dynamic batcher hands over.

Runs inside the backend's stub process, one per model. Rule: one run per call of `execute`, whose requests
are as many as the batcher merged; each gets its own rows back.
"""

import json

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


def open_session(parameters):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(parameters["threads"]["string_value"])
    path = parameters["onnx"]["string_value"]
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class TritonPythonModel:
    """One ONNX session; the names of the methods are the backend's."""

    @staticmethod
    def auto_complete_config(config):
        session = open_session(config.as_dict()["parameters"])
        x, y = session.get_inputs()[0], session.get_outputs()[0]
        config.add_input({"name": x.name, "data_type": "TYPE_FP32", "dims": x.shape[1:]})
        config.add_output({"name": y.name, "data_type": "TYPE_FP32", "dims": y.shape[1:]})
        return config

    def initialize(self, args):
        self._session = open_session(json.loads(args["model_config"])["parameters"])

    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        if len(rows) == 1:
            answers = self._session.run(["y"], {"x": rows[0]})
        else:
            (y,) = self._session.run(["y"], {"x": np.concatenate(rows)})
            answers = np.split(y, np.cumsum([len(part) for part in rows])[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", answer)]) for answer in answers]
