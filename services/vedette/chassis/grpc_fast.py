"""The gRPC adapter on `pygrpc-native` (the extra `fast`): HTTP/2 in Rust outside the interpreter's lock.

Methods with one request and one answer are served here. Everything else (streams, health, reflection,
unknown methods) the transport hands on to a `GrpcServer` behind it, on a socket that only this host sees.

    tokio thread -> receiving thread -> event loop: a task a call -> tokio thread

Rule: what surrounds a call is in `grpc_calls.py`, the same as on grpcio. What this transport cannot limit is
refused by `grpc_transport.py` before it is opened (docs/adr/0021).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from vedette.chassis.config import ConfigurationError
from vedette.chassis.grpc_calls import Calls, Failure, parser, whole, withdrawn
from vedette.chassis.grpc_server import MAX_CALLS, GrpcServer
from vedette.chassis.rpc import Rpc, RpcService
from vedette.chassis.tracing import Tracer
from vedette.core.errors import Overloaded, TooLarge, Unavailable, VedetteError
from vedette.core.metrics import Metrics

_EVENTS = 64
"""Arrivals that one trip from the receiving thread to the event loop takes along, at most."""

_LINGER_S = 0.2
"""The transport drops what it has not sent yet when it is closed and does not tell when all is sent: it stays open
this long after the last answer, where there is time. The worker waits as long for HTTP, so nothing takes longer."""
_STOPPING = Failure(14, "the server is stopping")

Details = tuple[tuple[tuple[str, str | bytes], ...], str, float | None]
"""The caller's metadata, its address, seconds until its deadline."""
Event = tuple[int, int, int, bytes, object, Details | None]
"""What the transport says: kind, call, method, message, (not used here), details; None: the call is over."""


@dataclass(frozen=True, slots=True)
class _Method:
    """One method as its calls need it."""

    parse: Callable[[bytes], Any]
    handle: Callable[..., Any]


class Call:
    """One call, as far as its handler may ask."""

    __slots__ = ("_left", "_metadata", "_read", "headers")

    def __init__(self, metadata: tuple[tuple[str, str | bytes], ...], left: float | None) -> None:
        self._metadata = metadata
        self._left = left
        self._read = time.monotonic() if left is not None else 0.0
        self.headers: list[tuple[str, str]] = []

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What the caller sent beside its message."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""
        return None if self._left is None else max(0.0, self._left - (time.monotonic() - self._read))

    async def send_initial_metadata(self, initial_metadata: list[tuple[str, str]]) -> None:
        """Metadata that goes out with the answer; with the trailing metadata where the call fails."""
        self.headers = list(initial_metadata)


class FastGrpcServer:
    """One gRPC server of one worker; the same surface as `GrpcServer`."""

    def __init__(
        self,
        services: tuple[RpcService, ...],
        *,
        service: str,
        metrics: Metrics,
        max_message_bytes: int,
        max_calls: int = MAX_CALLS,
        tracer: Tracer | None = None,
    ) -> None:
        calls = Calls(service, metrics, tracer)
        self._methods = {
            f"/{table.name}/{rpc.name}": _Method(parser(rpc), calls.traced(table.name, rpc, _answering(calls, rpc)))
            for table in services
            for rpc in table.methods
            if rpc.kind == "unary_unary"
        }
        self._table = tuple(self._methods.values())
        self._calls = calls
        self._max_message_bytes = max_message_bytes
        self._max_calls = max_calls
        self._behind = GrpcServer(
            services,
            service=service,
            metrics=metrics,
            max_message_bytes=max_message_bytes,
            max_calls=max_calls,
            tracer=tracer,
        )
        self._front: Any = None
        self._open: dict[int, asyncio.Task[None]] = {}
        self._stopping = False
        self.port = 0

    async def start(self, address: str) -> None:
        """Listen on `host:port`.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        from pygrpc_native import NativeGrpcFront

        try:
            # one thread moves bytes as fast as one event loop can answer; a second only takes turns with it
            front = NativeGrpcFront(
                address, [(path, False) for path in self._methods], io_threads=1, call_details=True, reuse_port=True
            )  # fmt: skip
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {address} for gRPC; is the port in use?") from error
        # abstract: nothing is left in a folder when the process is killed
        name = f"vedette-{os.getpid()}-{os.urandom(16).hex()}"
        await self._behind.start(f"unix-abstract:{name}")
        front.set_fallback(f"\0{name}")
        self._front, self.port = front, front.bound_port
        front.start()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._receive, args=(front, loop), name="grpc-arrivals", daemon=True).start()

    async def set_serving(self, *, serving: bool) -> None:
        """What the health service says of the process ("") and of each of its services."""
        await self._behind.set_serving(serving=serving)

    async def stop(self, grace_s: float) -> None:
        """Let calls in flight finish for `grace_s`, then cancel them. While streams finish, calls are answered."""
        if self._front is None:
            return
        end = time.monotonic() + grace_s
        await self._behind.stop(grace_s)
        self._stopping = True
        if self._open:
            await asyncio.wait(self._open.values(), timeout=max(0.0, end - time.monotonic()))
        for task in self._open.values():
            task.cancel()
        await asyncio.gather(*self._open.values(), return_exceptions=True)
        await asyncio.sleep(min(_LINGER_S, max(0.0, end - time.monotonic())))
        front, self._front = self._front, None
        await asyncio.to_thread(front.close)

    def _receive(self, front: Any, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own until the front is closed: hand arrivals to the event loop."""
        while (events := front.recv_batch_details(_EVENTS)) is not None:
            try:
                loop.call_soon_threadsafe(self._arrived, front, loop, events)
            except RuntimeError:  # the loop was closed without `stop`
                front.close()
                return

    def _arrived(self, front: Any, loop: asyncio.AbstractEventLoop, events: list[Event]) -> None:
        for _, number, method, message, _, details in events:
            if details is None:  # the caller is gone, or its deadline has passed
                if (task := self._open.get(number)) is not None:
                    task.cancel()
                    # `_run` cannot forget it: cancelled before its first step, a coroutine never begins
                    task.add_done_callback(partial(self._forget, number))
            elif (refusal := self._refusal(message)) is not None:
                _fail(front, number, self._calls.failure(refusal))
            else:
                call = Call(details[0], details[2])
                run = self._run(front, number, self._table[method], message, call)
                self._open[number] = loop.create_task(run)

    def _refusal(self, message: bytes) -> VedetteError | None:
        if self._stopping:
            return Unavailable("the server is stopping")
        if len(self._open) >= self._max_calls:
            return Overloaded(f"{self._max_calls} calls are open already")
        if len(message) > self._max_message_bytes:
            return TooLarge(f"the message has {len(message)} bytes; at most {self._max_message_bytes} are taken")
        return None

    async def _run(self, front: Any, number: int, method: _Method, message: bytes, call: Call) -> None:
        """The whole of one call. An error never leaves: it is the answer."""
        try:
            answer = await method.handle(method.parse(message), call)
            front.respond(number, answer, call.headers or None)
        except (Exception, asyncio.CancelledError) as error:
            if withdrawn(error):
                _fail(front, number, _STOPPING)  # nobody hears it where it was the caller that left
                raise
            _fail(front, number, self._calls.failure(error), call.headers)
        finally:
            self._open.pop(number, None)

    def _forget(self, number: int, _task: asyncio.Task[None]) -> None:
        self._open.pop(number, None)


def _answering(calls: Calls, rpc: Rpc) -> Callable[..., Any]:
    """A handler as this transport runs it: from the parsed message to the bytes of the answer."""
    identify, answered, handler, written = calls.identify, calls.answered, rpc.handler, rpc.writes_bytes

    async def answer(request: Any, call: Call) -> bytes:
        identify(call.invocation_metadata())
        response = await handler(whole(request), call)
        raw: bytes = response if written else response.SerializeToString()
        answered()
        return raw

    return answer


def _fail(front: Any, number: int, failure: Failure, headers: Sequence[tuple[str, str]] = ()) -> None:
    front.fail(number, failure.status, failure.message, [*failure.trailing, *headers])
