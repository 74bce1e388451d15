"""Requests sent ahead, cut anywhere, are answered as if each had been sent alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.unit.http_wire import Wire

PHASES = (Phase.explicit, Phase.generate)
"""Not made smaller: a failure here may be one that waits, and each try would."""


@dataclass(frozen=True)
class Sent:
    """One request, and what the application does with it."""

    method: str
    deed: str
    body: bytes
    chunked: bool
    turns: int
    copies: int
    """Of the body: a large one is not shown in full where a test fails."""
    lead: bytes = b""

    @property
    def raw(self) -> bytes:
        lines = [f"{self.method} /{self.deed}/{self.turns} HTTP/1.1", "Host: h"]
        body = self.body * self.copies
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
            half = len(body) // 2
            parts = [part for part in (body[:half], body[half:]) if part]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        elif body:
            lines.append(f"Content-Length: {len(body)}")
        return self.lead + "\r\n".join((*lines, "", "")).encode() + body


async def app(scope: Any, protocol: Any) -> None:
    _, deed, turns = scope.path.split("/")
    for _ in range(int(turns)):
        await asyncio.sleep(0)
    body = b""
    if deed == "parts":
        async for part in protocol:
            body += part
    else:
        body = await protocol()
    if deed == "stream":
        stream = protocol.response_stream(200, [])
        for part in (b"a", body, b"z"):
            await asyncio.sleep(0)
            await stream.send_bytes(part)
    elif deed == "empty":
        protocol.response_empty(204, [])
    else:
        protocol.response_bytes(200, [("x-method", scope.method)], body + b"!")
        await asyncio.sleep(0)


requests = st.builds(
    Sent,
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    deed=st.sampled_from(["echo", "parts", "stream", "empty"]),
    body=st.one_of(st.binary(max_size=20), st.sampled_from([b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"])),
    copies=st.sampled_from([1, 1, 1, 3000]),
    chunked=st.booleans(),
    turns=st.integers(0, 3),
    lead=st.sampled_from([b"", b"", b"\r\n"]),
)


async def alone(sent: list[Sent]) -> bytes:
    got = b""
    for request in sent:
        wire = Wire(app)
        await wire.send(request.raw)
        async with asyncio.timeout(10):
            while wire.connection.exchange is not None:  # noqa: ASYNC110 - what is awaited is the connection's own state
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        got += bytes(wire.got)
        wire.abort()
        await asyncio.sleep(0)
    return got


async def ahead(sent: list[Sent], cuts: list[tuple[int, int]], *, reads: bool) -> bytes:
    raw, position, wire = b"".join(request.raw for request in sent), 0, Wire(app)
    wire.unread = -1 if reads else 0
    for size, turns in [*cuts, (len(raw), 0)]:
        piece = raw[position : position + size]
        position += len(piece)
        if not wire.reading and not reads:  # it reads when it cannot send
            wire.read_all()
        if piece:
            await wire.send(piece, turns=turns)
    wire.read_all()
    async with asyncio.timeout(10):
        while wire.connection.exchange or wire.connection._ahead.strip(b"\r\n"):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    await wire.end()
    return await wire.until_closed()


def statuses(raw: bytes, sent: list[Sent]) -> list[int]:
    """The answers as a client of h11 reads them: one for each request and nothing behind."""
    client, found = h11.Connection(h11.CLIENT), []
    client.receive_data(raw)
    for request in sent:
        client.send(h11.Request(method=request.method, target="/", headers=[("host", "h")]))
        client.send(h11.EndOfMessage())
        answer = client.next_event()
        assert isinstance(answer, h11.Response)
        found.append(answer.status_code)
        while isinstance(client.next_event(), h11.Data):
            pass
        client.start_next_cycle()
    assert client.trailing_data[0] == b""
    return found


@settings(max_examples=120, phases=PHASES, derandomize=True)
@given(
    st.lists(requests, min_size=1, max_size=6),
    st.lists(st.tuples(st.one_of(st.integers(1, 40), st.integers(1, 100_000)), st.integers(0, 4)), max_size=30),
    st.booleans(),
)
def test_pipelined_requests_are_answered_as_if_alone(
    sent: list[Sent], cuts: list[tuple[int, int]], reads: bool
) -> None:
    """Any mixture of methods, bodies, chunks, answers and waits, cut anywhere; another client reads the answers."""

    async def both() -> tuple[bytes, bytes]:
        return await alone(sent), await ahead(sent, cuts, reads=reads)

    one_by_one, pipelined = asyncio.run(both())
    assert pipelined == one_by_one
    assert statuses(pipelined, sent) == [204 if request.deed == "empty" else 200 for request in sent]
