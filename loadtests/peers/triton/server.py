"""Triton from the nvidia-pytriton wheel: a model repository in a temporary folder, then tritonserver on it.

Rule: this process only prepares, waits and tidies up, and imports nothing heavy, since its memory counts. SIGTERM
goes on to tritonserver, whose python backend ends its stubs; nothing of a run stays in the temporary folder or in
/dev/shm.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

WHEEL = Path(sysconfig.get_path("platlib")) / "pytriton" / "tritonserver"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
STUB = "triton_python_backend_stub"
MAX_BATCH_ROWS = 32
PR_SET_CHILD_SUBREAPER = 36

# `dynamic_batching` with its defaults (no delay) is what Triton's optimization guide turns on first.
# What a model takes and gives, `model.py` reads from the ONNX file.
CONFIG = """
backend: "python"
max_batch_size: {rows}
instance_group [{{ kind: KIND_CPU count: 1 }}]
parameters [{{ key: "onnx" value: {{ string_value: "{onnx}" }} }},
            {{ key: "threads" value: {{ string_value: "{threads}" }} }}]
dynamic_batching {{ }}
response_cache {{ enable: {cached} }}
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache-bytes", type=int, default=0, help="size of the response cache; 0 leaves it off")
    return parser.parse_args()


def python_library() -> Path | None:
    """The folder of the shared libpython that the backend's stub needs; None when the loader finds it by itself."""
    name = f"libpython{VERSION}.so.1.0"
    for own in (Path(str(sysconfig.get_config_var("LIBDIR"))), Path(sys.base_prefix) / "lib"):
        if (own / name).exists():
            return own
    try:
        ctypes.CDLL(name)
    except OSError:
        raise SystemExit(f"Triton's python backend needs {name}: apt-get install libpython{VERSION}") from None
    return None


def write_model(folder: Path, onnx: Path, options: argparse.Namespace) -> None:
    """One model of the repository: config.pbtxt and 1/model.py."""
    cached = "true" if options.cache_bytes else "false"
    config = CONFIG.format(rows=MAX_BATCH_ROWS, onnx=onnx.resolve(), threads=options.threads, cached=cached)
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    shutil.copy(Path(__file__).with_name("model.py"), folder / "1" / "model.py")


def write_backend(folder: Path) -> None:
    """The python backend as the wheel has it, and beside it the stub built for our version of Python."""
    folder.mkdir(parents=True)
    for part in (WHEEL / "backends" / "python").iterdir():
        (folder / part.name).symlink_to(part)
    (folder / STUB).symlink_to(WHEEL / "python_backend_stubs" / VERSION / STUB)


def command(folder: Path, region: str, options: argparse.Namespace) -> list[str]:
    line = [
        str(WHEEL / "bin" / "tritonserver"),
        f"--model-repository={folder / 'models'}",
        "--model-control-mode=none",
        f"--backend-directory={folder / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name={region}",
        "--http-address=127.0.0.1",
        f"--http-port={options.http_port}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={options.grpc_port}",
        "--allow-metrics=true",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={options.metrics_port}",
        "--log-info=false",
        "--log-warning=false",
        "--exit-timeout-secs=10",
    ]
    if options.cache_bytes:
        line += [f"--cache-directory={WHEEL / 'caches'}", f"--cache-config=local,size={options.cache_bytes}"]
    return line


def environment() -> dict[str, str]:
    """Ours, so that the stub (which ignores PYTHON* variables) takes our libpython and finds this environment."""
    libraries = [WHEEL.parent.parent / "nvidia_pytriton.libs", python_library()]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(str(folder) for folder in libraries if folder is not None),
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ.get('PATH', os.defpath)}",  # where it looks for `python3`
    }


def main() -> int:
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    adopt_orphans()
    region = f"bench_triton_{secrets.token_hex(4)}_"
    with tempfile.TemporaryDirectory(prefix="bench-triton-") as made:
        folder = Path(made)
        write_backend(folder / "backends" / "python")
        for onnx in sorted(options.models.glob("*.onnx")):
            write_model(folder / "models" / onnx.stem, onnx, options)
        line = command(folder, region, options)
        server = subprocess.Popen(line, env=environment())
        try:
            return server.wait()
        finally:
            server.terminate()
            server.wait()
            end_children()
            for left in Path("/dev/shm").glob(f"{region}*"):
                left.unlink(missing_ok=True)


def adopt_orphans() -> None:
    """Let stubs become our children when tritonserver goes before them, as it does while it starts."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1) != 0:
        raise SystemExit("Triton's stubs cannot be adopted: prctl refused")


def end_children() -> None:
    """Kill every child that is left and wait for it."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := [int(pid) for pid in children.read_text().split()]:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def stop(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
