"""The table of services: loading, planning, and what a process of one service must not load."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vedette import modules
from vedette.chassis.config import ConfigurationError
from vedette.chassis.place import WorkerOrder, open_place
from vedette.chassis.telemetry import CellMetrics
from vedette.core.errors import NotFound, Unavailable
from vedette.registry.config import RegistrySettings
from vedette.storage import sql

LIBRARIES = ("fastapi", "starlette", "sqlalchemy", "alembic", "onnx", "pandas", "typer", "httpx")


def python(code: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("VEDETTE_")}
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)


def test_inference_loads_no_library_of_the_registry() -> None:
    """Everything an inference worker imports comes without web framework, database, onnx or command line."""
    ended = python(
        "import sys, vedette.modules as m, vedette.chassis.lifecycle, vedette.inference.service\n"
        "import vedette.registry.client, vedette.storage.memory\n"
        "m.load('inference')\n"
        f"print([name for name in {LIBRARIES} if name in sys.modules])"
    )
    assert ended.stdout == "[]\n", ended.stderr


def test_the_supervisor_is_standard_library_only() -> None:
    """What the parent process imports is Python's own and three modules of ours."""
    ended = python(
        "import sys, vedette.chassis.supervisor\n"
        "print(sorted({n.partition('.')[0] for n in sys.modules} - set(sys.stdlib_module_names) - {'__mp_main__'}))"
    )
    names = set(eval(ended.stdout))
    assert {name for name in names if not name.startswith(("_", "sitecustomize"))} == {"vedette"}


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose extra is not installed answers with the one line that installs it."""
    module = modules.Module("a_library_that_is_not_here:Settings", modules.SERVICES["inference"].build)
    monkeypatch.setitem(modules.SERVICES, "inference", module)
    with pytest.raises(Unavailable, match=r"pip install 'vedette\[inference\]'"):
        modules.load("inference")


def test_unknown_service() -> None:
    """A service that does not exist is named together with those that do."""
    with pytest.raises(NotFound, match="no service 'inferense'; the services are registry, inference"):
        modules.load("inferense")


def test_load_refuses_strangers(tmp_path: Path) -> None:
    """Tables of no service are refused, whichever service is loaded."""
    file = tmp_path / "vedette.toml"
    file.write_text("[registri]\nport = 1\n")
    with pytest.raises(ConfigurationError, match="did you mean registry"):
        modules.load("inference", file)


def test_plan_takes_addresses_from_the_settings(tmp_path: Path) -> None:
    """The supervisor's plan of each service follows its table."""
    file = tmp_path / "vedette.toml"
    file.write_text(
        f'[inference]\nport = 7\nworkers = 2\ndrain_delay_s = 3\ndata_dir = "{tmp_path}"\n[registry]\nhost = "::1"\n'
    )
    registry, inference = modules.plan(["registry", "inference"], file)
    assert (registry.service, registry.host, registry.port, registry.grpc_port) == ("registry", "::1", 8090, 8091)
    assert (inference.port, inference.workers, inference.drain_s) == (7, 2, 33.0)
    assert inference.run_dir == f"{tmp_path}/run"
    assert inference.config_file == str(file)


def test_describe_shows_every_setting() -> None:
    """Every field of both services has a sentence that says what it means."""
    for name in modules.SERVICES:
        lines = modules.describe(name)
        assert {"port", "max_request_bytes", "drain_delay_s"} <= {line.name for line in lines}
        assert [line.name for line in lines if not line.documentation] == []


def test_orders_survive_their_journey() -> None:
    """An order is the same after its way through the command line."""
    order = WorkerOrder("toy", 1, "a b.toml", 5, 6, "[::1]:7", (8, 9), 10, {"registry": "h:1"}, "::1")
    assert WorkerOrder.decode(order.encode()) == order


def test_a_worker_alone_says_why_it_cannot_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a supervisor, a port in use is one line on stderr and exit status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("VEDETTE_INFERENCE__PORT", str(port))
        monkeypatch.setenv("VEDETTE_INFERENCE__DATA_DIR", str(tmp_path))
        assert modules.run_worker("inference", 0) == 1
    assert capsys.readouterr().err == (
        f"vedette: inference: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "set VEDETTE_INFERENCE__PORT to another port, or 0 for a free one\n"
    )


def test_a_place_of_its_own_binds_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """An IPv6 host works and is written with brackets."""
    monkeypatch.setenv("VEDETTE_INFERENCE__HOST", "::1")
    monkeypatch.setenv("VEDETTE_INFERENCE__PORT", "0")
    place = open_place("inference", modules.load("inference"))
    with place.listener:
        assert place.http_url == f"http://[::1]:{place.listener.getsockname()[1]}"
        assert place.grpc_address == "[::1]:8081"
        assert not place.supervised


@pytest.mark.parametrize(("host", "named"), [("0.0.0.0", socket.gethostname()), ("127.0.0.1", "127.0.0.1")])
def test_links_name_the_machine_where_it_listens_everywhere(
    monkeypatch: pytest.MonkeyPatch, host: str, named: str
) -> None:
    """Nobody else reaches 0.0.0.0."""
    monkeypatch.setenv("VEDETTE_MONITOR__HOST", host)
    monkeypatch.setenv("VEDETTE_MONITOR__PORT", "0")
    place = open_place("monitor", modules.load("monitor"))
    with place.listener:
        assert place.named_url == f"http://{named}:{place.listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "password"), [("postgresql://me@127.0.0.1:1/v", "s3cret"), ("postgresql://me:own@127.0.0.1:1/v", "own")]
)
def test_the_catalogs_password_comes_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, password: str
) -> None:
    """It completes a URL that has none; the settings hold only the file's path."""
    made: list[sql.SqlCatalog] = []

    class Kept(sql.SqlCatalog):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(sql, "SqlCatalog", Kept)
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    settings = RegistrySettings(data_dir=tmp_path, catalog_url=url, catalog_password_file=file)
    place: Any = None  # the registry has no use for it
    modules.SERVICES["registry"].build(settings, CellMetrics.alone(), place)
    assert made[0]._database.engine.url.password == password
    assert "s3cret" not in repr(settings)
    file.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        modules.SERVICES["registry"].build(settings, CellMetrics.alone(), place)
