"""W3C trace context, and spans over OTLP/HTTP when an endpoint is configured.

Rule: without an endpoint no tracer exists, and a request pays one comparison with None. The OpenTelemetry
packages are the extra `otel`; nothing else imports them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vedette.chassis.config import ConfigurationError
from vedette.chassis.http import HeaderMap
from vedette.chassis.logs import TRACE_ID

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def trace_id_of(traceparent: str) -> str:
    """The trace id in a `traceparent` header; empty when the header is not valid (W3C Trace Context, 3.2)."""
    valid = _TRACEPARENT.fullmatch(traceparent) is not None and not traceparent.startswith("ff")
    return traceparent[3:35] if valid else ""


class Tracer:
    """Server spans for requests. `open_tracer` makes one."""

    def __init__(self, provider: Any, propagator: Any, status: Any, kind: Any) -> None:
        self._provider = provider
        self._propagator = propagator
        self._error = status
        self._kind = kind
        self._tracer = provider.get_tracer("vedette")

    @contextmanager
    def server_span(self, name: str, headers: HeaderMap | Mapping[str, str]) -> Iterator[Span]:
        """A span around one request, child of the caller's; current for what the handler calls."""
        context = self._caller(headers)
        with self._tracer.start_as_current_span(name, context=context, kind=self._kind) as span:
            TRACE_ID.set(f"{span.get_span_context().trace_id:032x}")
            yield Span(span, self._error, self._propagator)

    def stream_span(self, name: str, headers: Mapping[str, str]) -> Span:
        """Like `server_span` for a call that answers in a stream; the caller ends it with `Span.end`.

        It stays current until the task of the call is over: a stream that is cut off is closed from another
        task, which could not undo that.
        """
        from opentelemetry import context, trace

        span = self._tracer.start_span(name, context=self._caller(headers), kind=self._kind)
        context.attach(trace.set_span_in_context(span))
        TRACE_ID.set(f"{span.get_span_context().trace_id:032x}")
        return Span(span, self._error, self._propagator)

    def _caller(self, headers: HeaderMap | Mapping[str, str]) -> Any:
        return self._propagator.extract(
            {key: value for key in ("traceparent", "tracestate") if (value := headers.get(key))}
        )

    def close(self) -> None:
        """Send what is left; blocks for up to a few seconds."""
        self._provider.shutdown()


class Span:
    """The span of one request."""

    def __init__(self, span: Any, error: Any, propagator: Any) -> None:
        self._span = span
        self._error = error
        self._propagator = propagator

    def headers(self) -> list[tuple[str, str]]:
        """The `traceparent` (and `tracestate`) that name this span."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return list(carrier.items())

    def finish(self, status: int) -> None:
        """Note the HTTP status of the answer."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(self._error)

    def end(self, *, failed: bool) -> None:
        """The stream is over; only for spans of `stream_span`."""
        if failed:
            self._span.set_status(self._error)
        self._span.end()


def open_tracer(endpoint: str, service: str) -> Tracer | None:
    """The tracer that exports to `endpoint`; None when it is empty.

    Raises:
        ConfigurationError: the extra `otel` is not installed.
    """
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError as error:
        raise ConfigurationError(
            "otlp_endpoint is set but OpenTelemetry is missing: pip install 'vedette[otel]'"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": f"vedette-{service}"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracer(provider, TraceContextTextMapPropagator(), Status(StatusCode.ERROR), SpanKind.SERVER)
