"""Ask the model `diabetes` through Triton's gRPC client, which knows nothing of vedette."""

from __future__ import annotations

import argparse

import numpy as np
import tritonclient.grpc as triton
from sklearn.datasets import load_diabetes


def main() -> None:
    """Look at the server and its model, then send rows as one batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grpc", default="127.0.0.1:8081")
    arguments = parser.parse_args()

    rows = load_diabetes().data[:5].astype(np.float32)
    with triton.InferenceServerClient(arguments.grpc) as client:
        print("ready:", client.is_server_ready(), client.is_model_ready("diabetes"))
        print("server:", client.get_server_metadata().name)

        tensor = triton.InferInput("x", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows)
        answer = client.infer("diabetes", [tensor], request_id="example-1", client_timeout=10)
        print("predictions:", answer.as_numpy("prediction").ravel().round(1).tolist())


if __name__ == "__main__":
    main()
