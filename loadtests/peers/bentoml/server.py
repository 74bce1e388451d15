"""BentoML: becomes `bentoml serve` of the service beside this file, with all that it keeps inside its environment."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--http-port", required=True)
    parser.add_argument("--grpc-port", help="not used: services of BentoML 1.4 have no gRPC")
    parser.add_argument("--threads", default="1")
    arguments = parser.parse_args()
    os.environ |= {"BENTOML_HOME": str(Path(sys.prefix) / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    Path(os.environ["BENTOML_HOME"]).mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "bentoml", "serve", "service:Onnx", "--working-dir", str(Path(__file__).parent),
        "--host", "127.0.0.1", "--port", arguments.http_port,
        "--arg", f"models={arguments.models.resolve()}", "--arg", f"threads={arguments.threads}",
    ]  # fmt: skip
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
