"""A webhook receiver on loopback that can behave badly, and a store with a sender to try it on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vedette.codec.webhook_signatures import new_secret
from vedette.core.clock import ManualClock
from vedette.entities.alerts import Alert, AlertState, DeliveryState, Notification, Webhook, WebhookFormat
from vedette.monitor.alerting.addresses import AddressGuard
from vedette.monitor.alerting.webhooks import Persistence, WebhookSender
from vedette.ports.alerts import AlertStore, Bulletin, Outgoing, Secret
from vedette.storage.memory_monitors import MemoryMonitorStore

Behaviour = Callable[["Arrival", asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Arrival:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The webhook-id."""
        return self.headers["webhook-id"]


async def read_request(reader: asyncio.StreamReader) -> Arrival:
    """One HTTP request with a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *rest = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (entry.partition(":") for entry in rest)}
    return Arrival(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def answering(status: int, *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answers with this status."""

    async def behave(_: Arrival, writer: asyncio.StreamWriter) -> None:
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body)
        await writer.drain()

    return behave


async def hang(_: Arrival, __: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.Event().wait()


async def reset(_: Arrival, writer: asyncio.StreamWriter) -> None:
    """Drops the connection."""
    writer.transport.abort()


async def until_the_sender_leaves(behaving: Coroutine[Any, Any, None], reader: asyncio.StreamReader) -> None:
    """Behave, but not beyond the end of the connection."""
    tasks = [asyncio.create_task(behaving), asyncio.create_task(reader.read())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Receiver:
    """Keeps what arrives and behaves as told, by default with 204."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.behaviour: Behaviour = answering(204)
        self.connections = 0
        self.at_once = 0
        self.most_at_once = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Receiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            arrival = await read_request(reader)
            self.arrivals.append(arrival)
            async with self._changed:
                self._changed.notify_all()
            await until_the_sender_leaves(self.behaviour(arrival, writer), reader)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the sender's side of a failure, or the end of the test
        finally:
            self.at_once -= 1
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def wait_for(self, number: int) -> list[Arrival]:
        """Wait until so many requests have arrived."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.arrivals) >= number)
        return self.arrivals


class Names:
    """A resolver that knows what it is told; a name may change with every look-up."""

    def __init__(self, names: Mapping[str, Sequence[str] | Callable[[], Sequence[str]]]) -> None:
        self._names = names

    def addresses(self, host: str, port: int) -> list[str]:
        found = self._names.get(host)
        if found is None:
            raise OSError("no such host")
        return list(found() if callable(found) else found)


def bulletin(text: str = "moved", *, topic: str = "m/e/A") -> Bulletin:
    """One alert that fires."""
    alert = Alert("a", "m", "e", "A", "", "drift", "age", AlertState.FIRING, 1_000.0, 1_000.0, value=0.5, threshold=0.1)
    return Bulletin("alerts", topic, (replace(alert, description=text, execution="x1", version="3"),), 995.0, 1_000.0)


@dataclass
class Post:
    """A store with an outbox, and what is needed to send it."""

    store: Any = field(default_factory=MemoryMonitorStore)
    clock: ManualClock = field(default_factory=ManualClock)
    secrets: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store.migrate()

    def add(self, name: str, url: str, *, format: WebhookFormat = "cloudevents", **more: Any) -> None:
        """A webhook with a secret, whatever its address."""
        self.secrets[name] = new_secret()
        with self.store.transaction() as tx:
            tx.alerts.insert_webhook(Webhook(name, url, format, **more))
            tx.alerts.put_secrets(name, [Secret("s1", self.secrets[name], self.clock.time())])

    def post(self, name: str, webhook: str = "w", *, topic: str = "", content: Bulletin | None = None) -> None:
        """A delivery that is due."""
        now = self.clock.time()
        notification = Notification(name, webhook, DeliveryState.WAITING, 0, now, now, subject="s")
        with self.store.transaction() as tx:
            tx.alerts.post(Outgoing(notification, content or bulletin(topic=topic or name)))

    def state(self, name: str) -> Notification:
        """What became of a delivery."""
        with self.store.read() as snapshot:
            return snapshot.alerts.delivery(name).notification

    async def until(self, name: str, reached: Callable[[Notification], bool]) -> Notification:
        """Wait until a delivery is as wanted."""
        async with asyncio.timeout(20):
            while not reached(found := await asyncio.to_thread(self.state, name)):  # noqa: ASYNC110 - no event in a store
                await asyncio.sleep(0.01)
        return found

    async def ended(self, name: str) -> Notification:
        """Wait until it is delivered or dead."""
        return await self.until(name, lambda one: one.state is not DeliveryState.WAITING)

    async def failed(self, name: str, attempts: int = 1) -> Notification:
        """Wait until so many attempts have failed, and the last one is written down."""
        return await self.until(
            name,
            lambda one: one.attempts >= attempts and bool(one.last_error) and one.next_attempt_at > self.clock.time(),
        )


def open_guard(**options: Any) -> AddressGuard:
    """A guard that lets loopback pass, as an operator may allow."""
    return AddressGuard(allowed_hosts=("127.0.0.1",), **options)


@contextlib.asynccontextmanager
async def sending(store: AlertStore, guard: AddressGuard | None = None, **options: Any) -> AsyncIterator[WebhookSender]:
    """A sender at work."""
    sender = WebhookSender(store, guard or open_guard(), **options)
    task = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


QUICK = Persistence(timeout_s=0.5, attempts=3)
"""Gives up soon."""
