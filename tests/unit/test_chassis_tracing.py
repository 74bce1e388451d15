"""Trace context in and out, and spans at a collector of our own."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.grpc_transports import Transport
from tests.unit.test_chassis_asgi import bridged
from tests.unit.test_chassis_grpc import Ask, Toy, method
from tests.unit.test_chassis_grpc import serving as grpc_serving
from tests.unit.test_chassis_rsgi import ask, request, serving

from vedette.chassis.config import ConfigurationError
from vedette.chassis.http import HttpRequest, HttpResponse, Route
from vedette.chassis.logs import TRACE_ID
from vedette.chassis.problem import render_problem
from vedette.chassis.tracing import open_tracer, trace_id_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


async def show_trace(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, TRACE_ID.get().encode())


ROUTES = (Route("GET", "/trace/{name}", "read", show_trace, render_problem),)


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (PARENT, TRACE),
        (f"cc-{TRACE}-b7ad6b7169203331-01-what-comes-later", TRACE),
        (f"ff-{TRACE}-b7ad6b7169203331-01", ""),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", ""),
        ("00-abc", ""),
        ("", ""),
    ],
)
def test_trace_ids(header: str, trace: str) -> None:
    """Valid headers of this and later versions give their trace id; all others none."""
    assert trace_id_of(header) == trace


async def test_without_an_endpoint_the_id_reaches_the_logs() -> None:
    """With tracing off, a caller's trace id still stands in log lines of its request."""
    assert open_tracer("", "test") is None
    async with serving(ROUTES) as (address, _):
        assert (await ask(address, request("GET /trace/a", f"traceparent: {PARENT}"))).body == TRACE.encode()
        assert (await ask(address, request("GET /trace/a"))).body == b""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP/HTTP collector that keeps what it is sent."""
    received: list[bytes] = []

    class Take(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.path.encode() + b" " + self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Take) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


async def test_spans_reach_the_collector(collector: tuple[str, list[bytes]]) -> None:
    """A request becomes a span named after its route, a child of the caller's, and the answer names it."""
    endpoint, received = collector
    tracer = open_tracer(endpoint, "test")
    assert tracer is not None
    async with serving(ROUTES, tracer=tracer) as (address, _):
        answer = await ask(address, request("GET /trace/a", f"traceparent: {PARENT}"))
    tracer.close()
    assert answer.body == TRACE.encode()
    assert re.fullmatch(rf"00-{TRACE}-(?!b7ad6b7169203331)[0-9a-f]{{16}}-01", answer.headers["traceparent"])
    (sent,) = received
    assert sent.startswith(b"/v1/traces ")
    for part in (b"GET /trace/{name}", b"vedette-test", bytes.fromhex(TRACE), bytes.fromhex("b7ad6b7169203331")):
        assert part in sent


async def test_calls_and_control_routes_have_spans_too(
    transport: Transport, collector: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    """A gRPC call and a route of an ASGI application are children of their caller's span as well."""
    endpoint, received = collector
    tracer = open_tracer(endpoint, "test")
    assert tracer is not None
    toy = Toy()
    async with grpc_serving(transport, toy, tracer=tracer) as (channel, _):
        call = method(channel, "One")(Ask(service="a"), metadata=(("traceparent", PARENT),))
        assert (await call).status == 1
        assert dict(await call.initial_metadata())["traceparent"].startswith(f"00-{TRACE}-")
    async with bridged(tmp_path, tracer=tracer) as address:
        answer = await ask(address, request("GET /parts", f"traceparent: {PARENT}"))
        assert answer.headers["traceparent"].startswith(f"00-{TRACE}-")
    tracer.close()
    sent = b"".join(received)
    assert b"toys.ToyService/One" in sent
    assert sent.count(bytes.fromhex("b7ad6b7169203331")) == 2


async def test_streams_have_a_span_until_their_end(
    transport: Transport, collector: tuple[str, list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    """One that ends, one that fails and one that the caller leaves each become a span, and nothing is logged."""
    endpoint, received = collector
    tracer = open_tracer(endpoint, "test")
    assert tracer is not None
    toy = Toy()
    async with grpc_serving(transport, toy, tracer=tracer) as (channel, _):
        for service in ("a", "failed", "forever"):
            call = method(channel, "Many", "unary_stream")(Ask(service=service), metadata=(("traceparent", PARENT),))
            assert dict(await call.initial_metadata())["traceparent"].startswith(f"00-{TRACE}-")
            if service == "forever":
                assert (await call.read()).status == 1
                call.cancel()
                await asyncio.wait_for(toy.cancelled.wait(), 5)
                continue
            with contextlib.suppress(grpc.aio.AioRpcError):
                assert [answer.status async for answer in call][:1] == [1]
    assert [trace for _, trace in toy.ids] == [TRACE] * 3
    tracer.close()
    sent = b"".join(received)
    assert sent.count(b"toys.ToyService/Many") == 3
    assert sent.count(bytes.fromhex("b7ad6b7169203331")) == 3
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_a_missing_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint without the OpenTelemetry packages is a clear error at the start."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigurationError, match=r"pip install 'vedette\[otel\]'"):
        open_tracer("http://127.0.0.1:1", "test")
