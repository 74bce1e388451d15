"""`import vedette` stays light, its names are what they say, and the synchronous client is the generated one."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests import sdk_twin

import vedette

HEAVY = (
    "numpy",
    "httpx",
    "msgspec",
    "grpc",
    "google.protobuf",
    "pydantic",
    "fastapi",
    "granian",
    "sqlalchemy",
    "onnxruntime",
    "typer",
    "rich",
    "asyncio",
)


def modules_after(code: str) -> set[str]:
    """Names of all modules that a fresh interpreter has loaded after running `code`."""
    program = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout))


def test_importing_vedette_loads_nothing_heavy() -> None:
    """No numpy, httpx, grpc or server library: a training script pays only for what it uses."""
    loaded = modules_after("import vedette")
    assert [name for name in HEAVY if name in loaded] == []


def test_the_client_loads_no_server_library() -> None:
    """Speaking to vedette needs httpx, msgspec and numpy, and none of what a service runs on."""
    loaded = modules_after("import vedette; vedette.Client")
    servers = (
        "grpc",
        "google.protobuf",
        "pydantic",
        "fastapi",
        "granian",
        "sqlalchemy",
        "onnxruntime",
        "pandas",
        "typer",
    )
    assert "httpx" in loaded
    assert [name for name in servers if name in loaded] == []


def test_every_public_name_resolves_and_there_are_no_others() -> None:
    """`__all__`, the attributes and the type stub say the same."""
    for name in vedette.__all__:
        assert getattr(vedette, name) is not None
    assert set(vedette.__all__) <= set(dir(vedette))
    stub = ast.parse(Path(vedette.__file__).with_suffix(".pyi").read_text())
    aliases = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert aliases | {"__version__"} == set(vedette.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Klient'"):
        vedette.Klient  # noqa: B018


def test_every_error_of_the_table_is_public() -> None:
    """A caller can catch by class whatever a server can answer."""
    from vedette.core.errors import BY_CODE

    assert {kind.__name__ for kind in BY_CODE.values()} <= set(vedette.__all__)


def test_the_synchronous_client_is_what_the_generator_writes() -> None:
    """Nobody edits the twin by hand, and nobody forgets to generate it."""
    for path in sorted((sdk_twin.SDK / "aio").glob("*.py")):
        assert (sdk_twin.SDK / "sync" / path.name).read_text() == sdk_twin.twin(path.read_text()), path.name


def test_no_trace_of_asyncio_is_left_in_the_twin() -> None:
    """A forgotten rule of the generator would leave a coroutine that nobody awaits."""
    for path in (sdk_twin.SDK / "sync").glob("*.py"):
        text = path.read_text().removeprefix(sdk_twin.HEADER)
        assert not [word for word in ("async ", "await ", "asyncio", "Async", "vedette.sdk.aio.") if word in text], (
            path.name
        )


@pytest.mark.parametrize("name", ["client.Client", "models.Models", "endpoints.Endpoints"])
def test_both_clients_have_the_same_methods(name: str) -> None:
    """What one can do the other can, with the same arguments."""
    module, kind = name.split(".")
    sync = getattr(importlib.import_module(f"vedette.sdk.sync.{module}"), kind)
    aio = getattr(importlib.import_module(f"vedette.sdk.aio.{module}"), f"Async{kind}")
    public = {key for key, value in vars(aio).items() if inspect.isfunction(value) and not key.startswith("_")}
    assert {key.replace("aclose", "close") for key in public} <= set(dir(sync))
    for key in public - {"aclose", "register", "import_from"}:
        assert list(inspect.signature(getattr(sync, key)).parameters) == list(
            inspect.signature(getattr(aio, key)).parameters
        )
