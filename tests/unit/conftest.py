"""What several unit tests share."""

from __future__ import annotations

import pytest
from tests.grpc_transports import Transport

from vedette.chassis.grpc_fast import FastGrpcServer
from vedette.chassis.grpc_server import GrpcServer


@pytest.fixture(params=[GrpcServer, FastGrpcServer], ids=["grpcio", "fast"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """The class of a gRPC server: each test that asks for it runs once on each transport."""
    chosen: Transport = request.param
    if chosen is FastGrpcServer:
        pytest.importorskip("pygrpc_native", reason="the extra `fast` is not installed")
    return chosen
