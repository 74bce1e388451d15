"""One server as the SDK speaks to it: requests with time limits, safe retries and typed errors.

Rule: everything the SDK sends goes through here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import httpx

from vedette.core.errors import InvalidArgument
from vedette.sdk.failures import error_from_response, error_from_transport
from vedette.sdk.retries import Outcome, Retries, outcome_of

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request, so that it can be sent more than once."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Callable[[], AsyncIterator[bytes]] | None = None
    """Makes the body anew for each attempt, in place of `body`."""
    timeout_s: float | None = None
    """Longest silence of the server; None: the connection's own."""
    again: bool | None = None
    """Whether doing it twice is the same as doing it once; None: by the method (all but POST)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer with its whole body; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class AsyncConnection:
    """Keeps connections to one address. Opens them on first use; `aclose` ends them."""

    def __init__(
        self, address: str, *, timeout_s: float, retries: Retries, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.address = _checked(address)
        self._timeout_s = timeout_s
        self._retries = retries
        self._transport = transport
        self._http: httpx.AsyncClient | None = None

    async def send(self, call: Call) -> Answer:
        """Send, again where that is safe, and return a successful answer.

        Raises:
            VedetteError: what the server answered, or why there was no answer.
        """
        again = call.method != "POST" if call.again is None else call.again
        attempt = 1
        while True:
            try:
                answer = await self._once(call)
            except httpx.TransportError as error:
                not_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                outcome = Outcome.NOT_SENT if not_sent else Outcome.FINAL
                retry_after, failure = None, error_from_transport(error, self.address)
            else:
                if answer.status < 300:
                    return answer
                outcome, retry_after = outcome_of(answer.status), answer.headers.get("retry-after")
                failure = error_from_response(answer.status, answer.body)
            wait_s = self._retries.wait_s(outcome, attempt=attempt, idempotent=again, retry_after=retry_after)
            if wait_s is None:
                raise failure
            await asyncio.sleep(wait_s)
            attempt += 1

    async def answers(self, call: Call) -> bool:
        """Whether one attempt is answered with success; no answer at all is False."""
        try:
            return (await self._once(call)).status < 300
        except httpx.TransportError:
            return False

    async def aclose(self) -> None:
        """Close all connections; idempotent. A later call opens new ones."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _once(self, call: Call) -> Answer:
        timeout_s = self._timeout_s if call.timeout_s is None else call.timeout_s
        response = await self._client().request(
            call.method,
            call.path,
            params=list(call.query) or None,
            headers=dict(call.headers),
            content=call.stream() if call.stream else call.body or None,
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
        )
        return Answer(response.status_code, response.headers, response.content)

    def _client(self) -> httpx.AsyncClient:
        # Proxy variables of the environment are left alone: these servers are ours and near.
        if self._http is None:
            self._http = httpx.AsyncClient(base_url=self.address, transport=self._transport, trust_env=False)
        return self._http


def _checked(address: str) -> str:
    text = address if "://" in address else f"http://{address}"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise InvalidArgument(f"{address!r} is not an address: {error}") from error
    if url.scheme not in ("http", "https") or not url.host or len(address.split()) != 1:
        raise InvalidArgument(f"{address!r} is not an address: write http://HOST:PORT")
    return text.rstrip("/")
