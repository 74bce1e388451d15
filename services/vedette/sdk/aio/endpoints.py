"""The registry's endpoints: `client.endpoints`.

Rule: a change returns what the registry now wants; `wait_in_service` is how a caller waits for the world.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

from vedette.core.errors import Conflict, DeadlineExceeded, NotFound
from vedette.core.models import Endpoint, EndpointConfig, EndpointStatus, Generation, check_name
from vedette.sdk.aio.connection import AsyncConnection, Call
from vedette.sdk.aio.pages import walk
from vedette.sdk.documents import encode, plain, read

POLL_S = 0.1

Config = EndpointConfig | Mapping[str, Any]
"""A whole configuration, also as the plain document of the registry, in which a version may be an `@alias`."""


class AsyncEndpoints:
    """Endpoints: what clients of the data plane call."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def deploy(
        self, name: str, *, model: str = "", version: int | str = "", config: Config | None = None
    ) -> Endpoint:
        """Make an endpoint; `AlreadyExists` when there is one of that name.

        Short form: `model` (else the model of the endpoint's name) at `version` (a number or `@alias`, else
        the newest that may serve) takes all the traffic. Long form: a whole `config`.
        """
        wanted = {"name": name, "model": model, "version": version, "config": plain(config) if config else None}
        document = {key: value for key, value in wanted.items() if value not in ("", None)}
        return await self._change("POST", "/v1/endpoints", document)

    async def update(self, name: str, config: Config) -> Endpoint:
        """Replace the configuration; the old one serves until the new one can."""
        return await self._change("PUT", _path(name), {"config": plain(config)})

    async def weights(self, name: str, weights: Mapping[str, float]) -> Endpoint:
        """Change shares of traffic by variant name; variants not named keep theirs."""
        return await self._change("PATCH", f"{_path(name)}/weights", {"weights": dict(weights)})

    async def rollback(self, name: str, *, generation: int | None = None) -> Endpoint:
        """Go back to a generation; None: to the one that served before."""
        document = {} if generation is None else {"generation": generation}
        return await self._change("POST", f"{_path(name)}/rollback", document)

    async def start(self, name: str) -> Endpoint:
        """Put an endpoint that was stopped back into service."""
        return await self._change("POST", f"{_path(name)}/start", {})

    async def stop(self, name: str) -> Endpoint:
        """Take the endpoint out of service and keep its configuration."""
        return await self._change("POST", f"{_path(name)}/stop", {})

    async def delete(self, name: str) -> None:
        """Delete the endpoint; its model stays."""
        await self._connection.send(Call("DELETE", _path(name)))

    async def get(self, name: str) -> Endpoint:
        """The endpoint with its configuration and status; `NotFound` when there is none."""
        return read(Endpoint, (await self._connection.send(Call("GET", _path(name)))).body)

    def list(
        self, *, model: str = "", status: EndpointStatus | None = None, name_contains: str = ""
    ) -> AsyncIterator[Endpoint]:
        """Every endpoint by name."""
        wanted = (("model", model), ("status", status.value if status else ""), ("name_contains", name_contains))
        return walk(self._connection, "/v1/endpoints", [pair for pair in wanted if pair[1]], Endpoint)

    def generations(self, name: str) -> AsyncIterator[Generation]:
        """The endpoint's configurations, newest first."""
        return walk(self._connection, f"{_path(name)}/generations", [], Generation)

    async def wait_in_service(self, name: str, *, generation: int | None = None, timeout_s: float = 120.0) -> Endpoint:
        """Wait until a configuration serves: that of `generation`, else the one that is the newest now.

        Give the generation that the change returned: a change that failed may already have been rolled back,
        and what serves then is the newest. One that somebody else asked for later ends the wait as well.

        Raises:
            Conflict: it failed, is stopped, or was rolled back by itself; the message holds the registry's reason.
            DeadlineExceeded: it is still not serving; the message says where it stands.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            endpoint = await self.get(name)
            generation = generation or endpoint.generation
            if endpoint.status in (EndpointStatus.FAILED, EndpointStatus.OUT_OF_SERVICE):
                raise Conflict(f"{name} is {endpoint.status}: {endpoint.reason or 'no reason given'}")
            if _rolled_back(endpoint, generation):
                raise Conflict(f"{name} was rolled back: {endpoint.reason or 'no reason given'}")
            if endpoint.status is EndpointStatus.IN_SERVICE and endpoint.serving_generation >= generation:
                return endpoint
            if time.monotonic() >= deadline:
                reason = f" ({endpoint.reason})" if endpoint.reason else ""
                raise DeadlineExceeded(f"{name} is still {endpoint.status} after {timeout_s:g} s{reason}")
            await asyncio.sleep(POLL_S)

    async def wait_deleted(self, name: str, *, timeout_s: float = 120.0) -> None:
        """Wait until the endpoint is gone; `DeadlineExceeded` when it is still there."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                await self.get(name)
            except NotFound:
                return
            await asyncio.sleep(POLL_S)
        raise DeadlineExceeded(f"{name} is still there after {timeout_s:g} s")

    async def _change(self, method: str, path: str, document: dict[str, Any]) -> Endpoint:
        headers = {"content-type": "application/json"}
        return read(
            Endpoint, (await self._connection.send(Call(method, path, body=encode(document), headers=headers))).body
        )


def _rolled_back(endpoint: Endpoint, generation: int) -> bool:
    """Whether the registry has replaced `generation` by itself: only that makes a generation with a reason."""
    replaced = endpoint.generation > generation and bool(endpoint.reason)
    return replaced or endpoint.status is EndpointStatus.ROLLING_BACK


def _path(name: str) -> str:
    return f"/v1/endpoints/{quote(check_name(name, 'endpoint name'), safe='')}"
