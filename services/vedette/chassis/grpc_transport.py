"""Which of the two gRPC servers a worker opens, and what each must be refused with.

Rule: a limit that is set is enforced, or the service does not start.
"""

from __future__ import annotations

import importlib.util
import ipaddress

from vedette.chassis.config import ConfigurationError, ServiceSettings
from vedette.chassis.grpc_fast import FastGrpcServer
from vedette.chassis.grpc_server import MAX_CONNECTIONS, GrpcServer
from vedette.chassis.rpc import RpcService
from vedette.chassis.tracing import Tracer
from vedette.core.metrics import Metrics

AnyGrpcServer = GrpcServer | FastGrpcServer


def grpc_server(
    services: tuple[RpcService, ...],
    settings: ServiceSettings,
    *,
    service: str,
    metrics: Metrics,
    tracer: Tracer | None,
) -> AnyGrpcServer:
    """The server that the settings ask for, not listening yet.

    Raises:
        ConfigurationError: `fast` is not installed, or cannot enforce what is asked of it.
    """
    if settings.grpc_transport == "fast":
        check_fast(settings)
        return FastGrpcServer(
            services,
            service=service,
            metrics=metrics,
            max_message_bytes=settings.max_request_bytes,
            max_calls=settings.grpc_max_calls,
            tracer=tracer,
        )
    return GrpcServer(
        services,
        service=service,
        metrics=metrics,
        max_message_bytes=settings.max_request_bytes,
        max_calls=settings.grpc_max_calls,
        max_connections=settings.grpc_max_connections or MAX_CONNECTIONS,
        tracer=tracer,
    )


def check_fast(settings: ServiceSettings) -> None:
    """That the extra is installed and nothing is asked of it that it cannot enforce. Raises ConfigurationError."""
    if importlib.util.find_spec("pygrpc_native") is None:
        raise ConfigurationError(
            "grpc_transport: fast needs the extra `fast`: pip install 'vedette[fast]'; or use grpcio"
        )
    if settings.grpc_max_connections:
        raise ConfigurationError(
            "grpc_max_connections: grpc_transport fast cannot count connections; leave it at 0, or use grpcio"
        )
    if not settings.grpc_trusted_clients and not _loopback(settings.host):
        raise ConfigurationError(
            f"grpc_transport: fast on host {settings.host} holds a whole message in memory, inflated, before "
            "max_request_bytes can refuse it; set grpc_trusted_clients if every client that reaches the port may "
            "be trusted with that, or use grpcio"
        )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
