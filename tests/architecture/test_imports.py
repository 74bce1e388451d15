"""Who may import what: the contracts of pyproject.toml, the inside of services, and what a light start leaves out."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services" / "vedette"

FRAMEWORKS = ("fastapi", "starlette", "pydantic", "grpc", "google", "granian", "vedette.proto", "vedette.chassis")
"""What only the edge of a service may touch; the domain knows core, codec, engine and itself."""

EDGES = {
    "registry": {
        "config.py": "settings are checked by pydantic",
        "service.py": "the wiring: knows everything",
        "http.py": "HTTP routes",
        "documents.py": "bodies of the HTTP routes as pydantic models",
        "rpc.py": "gRPC methods",
        "messages.py": "core's classes to and from protobuf",
        "client.py": "the registry's port over gRPC, for other services",
    },
    "inference": {
        "config.py": "settings are checked by pydantic",
        "service.py": "the wiring: knows everything",
        "http/__init__.py": "HTTP routes",
        "http/aws.py": "HTTP: AWS's shapes of errors",
        "http/documents.py": "HTTP: documents of the Open Inference Protocol",
        "http/kserve.py": "HTTP: KServe's V1 protocol",
        "http/offload.py": "HTTP: large bodies beside the event loop",
        "http/oip.py": "HTTP: the Open Inference Protocol",
        "http/sagemaker.py": "HTTP: SageMaker's runtime",
        "rpc.py": "gRPC methods",
        "rpc_forms.py": "requests of protobuf whose form is known",
        "rpc_messages.py": "tensors to and from protobuf",
        "rpc_statistics.py": "statistics to protobuf",
        "rpc_stream.py": "the streaming method",
    },
    "monitor": {
        "config.py": "settings are checked by pydantic",
        "service.py": "the wiring: knows everything",
        "http.py": "HTTP routes",
        "documents.py": "bodies of the HTTP routes as pydantic models",
        "rpc.py": "gRPC methods",
        "messages.py": "core's classes to and from protobuf",
    },
}
"""The edge files of each service, with the reason; every other file is its domain."""


def imports(path: Path) -> Iterator[str]:
    """Every module that a file may import, wherever in it: also in functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of the packages or lies in one."""
    return name.startswith(tuple(f"{package}." for package in packages)) or name in packages


def domain() -> Iterator[tuple[str, str]]:
    """Service and file of every domain module."""
    for service, edges in EDGES.items():
        for path in sorted((SERVICES / service).rglob("*.py")):
            name = path.relative_to(SERVICES / service).as_posix()
            if name not in edges:
                yield service, name


def test_import_contracts_hold() -> None:
    """Import-linter's contracts in pyproject.toml, in `make test` as in `make check`."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(("service", "name"), list(domain()))
def test_the_domain_knows_no_framework_and_no_edge(service: str, name: str) -> None:
    """A domain file imports no framework, no chassis and none of the files that do."""
    stems = (edge.removesuffix(".py").removesuffix("/__init__") for edge in EDGES[service])
    edges = tuple(f"vedette.{service}.{stem.replace('/', '.')}" for stem in stems)
    found = {module for module in imports(SERVICES / service / name) if within(module, (*FRAMEWORKS, *edges))}
    assert found == set()


def test_the_list_of_edges_names_files_that_are_there() -> None:
    """An entry that outlives its file would let a new one of that name in unseen."""
    assert [f"{s}/{name}" for s, edges in EDGES.items() for name in edges if not (SERVICES / s / name).exists()] == []


@pytest.mark.parametrize("path", sorted((SERVICES / "sdk").rglob("*.py")), ids=lambda path: path.name)
def test_the_sdk_stands_on_codec_entities_and_core(path: Path) -> None:
    """A client's install brings nothing of a service."""
    ours = {module for module in imports(path) if within(module, ("vedette",))} - {"vedette"}
    allowed = ("vedette.sdk", "vedette.codec", "vedette.entities", "vedette.core", "vedette.__version__")
    assert {module for module in ours if not within(module, allowed)} == set()


LIGHT = {
    "vedette": ("numpy", "httpx", "pydantic", "grpc", "pandas", "onnxruntime"),
    "vedette.sdk": ("numpy", "httpx", "pydantic", "grpc", "pandas", "onnxruntime"),
    "vedette.cli": ("numpy", "httpx", "pydantic", "grpc", "pandas", "onnxruntime", "fastapi"),
    "vedette.modules": ("numpy", "pydantic", "grpc", "fastapi", "sqlalchemy", "onnxruntime"),
    "vedette.inference.service": ("fastapi", "starlette", "sqlalchemy", "alembic", "pandas", "onnx", "sklearn"),
    "vedette.registry": ("pandas", "onnxruntime", "fastapi"),
    "vedette.registry.service": ("pandas", "sklearn", "httpx"),
    "vedette.monitor.service": (
        *("evidently", "pandas", "sklearn", "scipy.stats", "pyarrow"),
        *("matplotlib", "onnxruntime"),
    ),
    "vedette.registry.client": ("pandas", "fastapi", "sqlalchemy", "onnxruntime"),
}
"""What importing a module must not load: the libraries of other services and heavy guests."""


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_start_loads_nothing_of_others(module: str) -> None:
    """Measured in a fresh process: memory and time to start are for what the process does."""
    program = f"import sys, {module}; print(*[name for name in {LIGHT[module]!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
