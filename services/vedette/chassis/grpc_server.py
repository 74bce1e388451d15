"""The gRPC adapter: a service's tables on a `grpc.aio` server, with health and reflection.

Rule: what surrounds a call is in `grpc_calls.py`; here is only what belongs to grpcio.
"""

from __future__ import annotations

import grpc
from grpc_health.v1 import _async as health_aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from vedette.chassis.config import ConfigurationError
from vedette.chassis.grpc_calls import Calls
from vedette.chassis.reflection import add_files, reflection_pool
from vedette.chassis.rpc import RpcService
from vedette.chassis.tracing import Tracer
from vedette.core.metrics import Metrics

MAX_CALLS = 1024
MAX_CONNECTIONS = 1024


class GrpcServer:
    """One gRPC server of one worker. `start` binds with SO_REUSEPORT, so that workers share the port."""

    def __init__(
        self,
        services: tuple[RpcService, ...],
        *,
        service: str,
        metrics: Metrics,
        max_message_bytes: int,
        max_calls: int = MAX_CALLS,
        max_connections: int = MAX_CONNECTIONS,
        tracer: Tracer | None = None,
    ) -> None:
        self._services = services
        self._max_calls = max_calls
        self._options = (
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_allowed_incoming_connections", max_connections),
        )
        self._calls = Calls(service, metrics, tracer)
        self._health = health_aio.HealthServicer()
        self._names = [table.name for table in services]
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self, address: str) -> None:
        """Listen on `host:port`.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        server = grpc.aio.server(options=self._options, maximum_concurrent_rpcs=self._max_calls)
        for table in self._services:
            handlers = {rpc.name: self._calls.handler(table.name, rpc) for rpc in table.methods}
            server.add_registered_method_handlers(table.name, handlers)  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._reflect(server)
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {address} for gRPC; is the port in use?") from error
        await server.start()
        self._server = server

    async def set_serving(self, *, serving: bool) -> None:
        """What the health service says of the process ("") and of each of its services."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight finish for `grace_s`, then cancel them."""
        if self._server is not None:
            await self._server.stop(grace_s)

    def _reflect(self, server: grpc.aio.Server) -> None:
        pool = reflection_pool(self._services)
        add_files(pool, [health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR])
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, pool=pool)


def own_rpcs() -> tuple[str, ...]:
    """The methods that `GrpcServer` adds to every service, as their descriptors list them."""
    files = (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
    services = [service for file in files for service in file.services_by_name.values()]
    return tuple(f"{service.full_name}/{method.name}" for service in services for method in service.methods)
