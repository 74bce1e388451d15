"""Drives a server over the wire: our own, or any that speaks the protocol.

    pytest tests/wire --oip-http http://host:8000 --oip-grpc host:8001 --oip-model 'identity_{datatype}'

`--oip-model` names the server's identity models (one input, one output, y = x); without `{datatype}` the one
model is used for the datatype it takes. Tests marked `ours` need extensions of ours and are skipped there.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.wire.target import Target, fast_twin, our_suite


def pytest_addoption(parser: pytest.Parser) -> None:
    """The address of a server to test instead of our own."""
    group = parser.getgroup("wire tests")
    group.addoption("--oip-http", help="base URL of a running Open Inference Protocol server")
    group.addoption("--oip-grpc", help="host:port of its gRPC side")
    group.addoption("--oip-model", default="identity_{datatype}", help="name of its identity models")


def pytest_configure(config: pytest.Config) -> None:
    """The one marker of these tests."""
    config.addinivalue_line("markers", "ours: needs something beyond the protocol that only vedette has")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Another's server owes nothing beyond the protocol."""
    if config.getoption("--oip-http", default=None):
        for item in items:
            if item.get_closest_marker("ours"):
                item.add_marker(pytest.mark.skip(reason="needs an extension or a model of vedette's own"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that speaks gRPC runs on each of our transports."""
    if "grpc_address" in metafunc.fixturenames and not metafunc.config.getoption("--oip-http", default=None):
        metafunc.parametrize("transport", ["grpcio", "fast"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def transport(request: pytest.FixtureRequest) -> str:
    """What serves gRPC: `grpc_transport` of the server under test."""
    chosen: str = getattr(request, "param", "grpcio")
    if chosen == "fast":
        pytest.importorskip("pygrpc_native", reason="the extra `fast` is not installed")
    return chosen


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Our suite with all models in service."""
    with our_suite(tmp_path_factory.mktemp("suite")) as ours:
        yield ours


@pytest.fixture(scope="session")
def ours_fast(ours: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Another inference service on the same registry, with the other transport for gRPC."""
    assert ours.suite is not None
    with fast_twin(ours.suite, tmp_path_factory.mktemp("fast")) as twin:
        yield twin


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, transport: str) -> Target:
    """The server under test."""
    url = request.config.getoption("--oip-http", default=None)
    if url:
        grpc = request.config.getoption("--oip-grpc", default=None) or ""
        return Target(url.rstrip("/"), grpc, request.config.getoption("--oip-model"))
    chosen: Target = request.getfixturevalue("ours" if transport == "grpcio" else "ours_fast")
    return chosen


@pytest.fixture(scope="session")
def http(target: Target) -> Iterator[httpx.Client]:
    """A plain HTTP client on the server's URL."""
    with target.client() as client:
        yield client


@pytest.fixture(scope="session")
def grpc_address(target: Target) -> str:
    """host:port of the gRPC side; skips without one."""
    if not target.grpc:
        pytest.skip("no --oip-grpc given")
    return target.grpc
