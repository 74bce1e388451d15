"""The sender of webhooks: takes what is due from the outbox, sends it, and writes down what became of it.

Rule: nothing else of vedette sends. A delivery is claimed in one transaction, sent without any, and settled in
another: a crash in between sends it again under the same webhook-id, and never loses it. Every receiver has its own
bounded number of sends at a time, so that one that hangs holds up nobody else. An answer counts by its status; its
body is neither shown nor logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vedette.codec.webhook_signatures import signed_headers
from vedette.core.clock import Clock, SystemClock
from vedette.core.errors import InvalidArgument, NotFound, VedetteError
from vedette.core.metrics import Metrics, NoMetrics
from vedette.entities.alerts import DeliveryState, Notification, Webhook
from vedette.monitor.alerting.addresses import AddressGuard, Target
from vedette.monitor.alerting.payloads import destination, render
from vedette.ports.alerts import AlertStore, Outgoing

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 * 1024
"""Of an answer's body no more is read."""
_GONE = "the receiver answered 410 Gone; the webhook is switched off"
LEASE_MARGIN_S = 20.0
"""A claim outlives the attempt by this, before another process may take it up."""
_DRAIN_S = 1.0
_POLL_S = 0.5
_AFTER_TROUBLE_S = 2.0
_ADDRESSES_TRIED = 3
_RESOLVER_THREADS = 8


@dataclass(frozen=True, slots=True)
class Persistence:
    """How long the sender tries."""

    timeout_s: float = 10.0
    """For one attempt in all, looking the host up included."""
    attempts: int = 12
    """After so many a delivery is dead."""
    max_age_s: float = 86_400.0
    """A delivery that is older is dead after its next attempt, so that a backlog ends with its receiver."""
    first_wait_s: float = 5.0
    longest_wait_s: float = 3_600.0

    def wait_s(self, attempts: int, jitter: float) -> float:
        """Seconds after so many attempts: doubled each time, of which `jitter` (0 to 1) takes up to a half."""
        return min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(attempts - 1, 40)) * (1.0 - jitter / 2)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one attempt; `error` empty: the receiver took it."""

    error: str = ""
    gone: bool = False
    wait_s: float = 0.0
    """What the receiver asked for."""


class WebhookSender:
    """Delivers the outbox. One per process; several processes share an outbox by its claims.

    `per_webhook` and `concurrency` bound the attempts under way, of one receiver and in all.
    """

    def __init__(
        self,
        store: AlertStore,
        guard: AddressGuard,
        *,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        persistence: Persistence | None = None,
        per_webhook: int = 2,
        concurrency: int = 32,
        public_url: str = "",
        lease_margin_s: float = LEASE_MARGIN_S,
        jitter: Callable[[], float] = random.random,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._store = store
        self._guard = guard
        self._clock = clock or SystemClock()
        self._metrics = metrics or NoMetrics()
        self._persistence = persistence or Persistence()
        self._per_webhook = per_webhook
        self._concurrency = concurrency
        self._public_url = public_url
        self._lease_margin_s = lease_margin_s
        self._jitter = jitter
        self._tls = tls
        self._transport: httpx.AsyncBaseTransport | None = None
        """Opened for the first delivery."""
        self._resolving: ThreadPoolExecutor | None = None
        """Threads of its own, so that slow name servers keep nobody from the store; None: not running."""
        self._sending: dict[asyncio.Task[None], str] = {}
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Look at the outbox now. Call it in the sender's event loop."""
        self._news.set()

    async def run(self) -> None:
        """Deliver until cancelled; what is under way then is cut off, and sent again after its lease."""
        self._resolving = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="webhook-resolver")
        try:
            while True:
                self._news.clear()
                pause = await self._round()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):  # `wait_for` of Python 3.11 may swallow a cancellation
                        await self._news.wait()
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            self._resolving.shutdown(wait=False, cancel_futures=True)
            if self._transport is not None:
                await self._transport.aclose()
                self._transport = None

    def _open(self) -> httpx.AsyncBaseTransport:
        """The transport alone: a client would keep cookies, follow what it is told and log addresses. Blocks."""
        import httpx  # it and its certificates take 0.15 s, which is spent when there is something to send

        return httpx.AsyncHTTPTransport(
            verify=self._tls or _trust(),
            trust_env=False,  # a proxy of the environment would connect wherever it likes
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def _round(self) -> float:
        """Begin what is due and there is room for; returns the seconds until the next look."""
        try:
            claimed = await asyncio.to_thread(self._claim, Counter(self._sending.values()))
        except VedetteError as error:
            log.warning("the outbox cannot be read: %s", error.message)
            return _AFTER_TROUBLE_S
        except Exception:
            log.exception("the outbox cannot be read")
            return _AFTER_TROUBLE_S
        if claimed and self._transport is None:
            self._transport = await asyncio.to_thread(self._open)
        for webhook, secrets, outgoing in claimed:
            task = asyncio.create_task(self._deliver(webhook, secrets, outgoing))
            self._sending[task] = webhook.name
            task.add_done_callback(self._ended)
        return _POLL_S

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._sending[task]
        self._news.set()  # there is room again, and perhaps the next of the same topic

    def _claim(self, busy: Counter[str]) -> list[tuple[Webhook, list[str], Outgoing]]:
        """Take what there is room for, with the receivers and their secrets in force. Blocks."""
        now = self._clock.time()
        room = self._concurrency - busy.total()
        with self._store.read() as snapshot:
            due = [name for name in snapshot.alerts.due(now) if busy[name] < self._per_webhook]
        if not due or room <= 0:
            return []
        claimed: list[tuple[Webhook, list[str], Outgoing]] = []
        due.sort(key=lambda name: busy[name])  # who has nothing under way comes first
        with self._store.transaction() as tx:
            for name in due:
                free = min(self._per_webhook - busy[name], room - len(claimed))
                if free <= 0:
                    continue
                lease_s = self._persistence.timeout_s + self._lease_margin_s
                found = tx.alerts.claim(name, now=now, limit=free, lease_s=lease_s)
                if found:
                    webhook = tx.alerts.webhook(name)
                    known = tx.alerts.secrets(name)
                    secrets = [one.value for one in known if not one.expires_at or one.expires_at > now]
                    claimed += [(webhook, secrets, outgoing) for outgoing in found]
        return claimed

    async def _deliver(self, webhook: Webhook, secrets: list[str], outgoing: Outgoing) -> None:
        try:
            answer = await self._attempt(webhook, secrets, outgoing)
        except Exception:
            log.exception("sending to webhook %s failed", webhook.name)
            answer = Answer("it could not be sent; see the monitor's log")
        try:
            await asyncio.to_thread(self._settle, webhook.name, outgoing.notification, answer)
        except Exception:  # the lease runs out, and then it is sent again
            log.exception("what became of a delivery to webhook %s could not be kept", webhook.name)

    async def _attempt(self, webhook: Webhook, secrets: list[str], outgoing: Outgoing) -> Answer:
        """Send once. Every failure is an `Answer`, in words that name no address."""
        import httpx

        try:
            async with asyncio.timeout(self._persistence.timeout_s):
                target = self._guard.target(destination(webhook))
                loop = asyncio.get_running_loop()
                addresses = await loop.run_in_executor(self._resolving, self._guard.reach, target)
                request = self._request(webhook, secrets, outgoing)
                for place, address in enumerate(addresses[:_ADDRESSES_TRIED], start=1):
                    try:
                        return await self._post(target, address, *request)
                    except httpx.ConnectError:
                        if place == len(addresses[:_ADDRESSES_TRIED]):
                            raise
        except InvalidArgument as error:
            return Answer(error.message)
        except (TimeoutError, httpx.TimeoutException):
            return Answer("the receiver did not answer in time")
        except httpx.ConnectError:
            return Answer("no connection to the receiver")
        except (httpx.HTTPError, httpx.InvalidURL):
            return Answer("the connection to the receiver broke, or it did not speak HTTP")
        except OSError:
            return Answer("the receiver's host cannot be looked up")
        return Answer("the receiver's host has no address")

    def _request(self, webhook: Webhook, secrets: list[str], outgoing: Outgoing) -> tuple[bytes, dict[str, str]]:
        payload = render(outgoing, webhook.format, public_url=self._public_url)
        moment = int(self._clock.time())
        signed = signed_headers(secrets, outgoing.notification.id, timestamp=moment, body=payload.body)
        own = {"content-type": payload.content_type, "user-agent": "vedette-webhooks", "accept-encoding": "identity"}
        return payload.body, {**webhook.headers, **own, **signed}

    async def _post(self, target: Target, address: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Connect to this address and no other; TLS still asks for the certificate of the name."""
        import httpx

        if self._transport is None:
            raise RuntimeError("the sender is not running")
        host = f"[{address}]" if ":" in address else address
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._persistence.timeout_s)
        request = httpx.Request(
            "POST",
            f"{target.scheme}://{host}:{target.port}{target.path}",
            content=body,
            headers={**headers, "host": target.authority, "connection": "close"},
            extensions={"sni_hostname": target.host, "timeout": timeouts},
        )
        response = await self._transport.handle_async_request(request)
        try:
            answer = _judged(response.status_code, response.headers.get("retry-after", ""))
            await _drain(response)
        finally:
            await response.aclose()
        return answer

    def _settle(self, webhook: str, notification: Notification, answer: Answer) -> None:
        """Keep what became of an attempt. Blocks."""
        now = self._clock.time()
        after = self._after(notification, answer, now)
        with self._store.transaction() as tx:
            tx.alerts.settle(after)
            given_up = 0
            if answer.gone:
                with contextlib.suppress(NotFound):  # deleted meanwhile
                    tx.alerts.update_webhook(replace(tx.alerts.webhook(webhook), enabled=False))
                    given_up = tx.alerts.give_up(webhook, _GONE)
            elif after.state is DeliveryState.DELIVERED:
                tx.alerts.hurry(webhook, now)
        outcome = "retried" if after.state is DeliveryState.WAITING else after.state.value
        self._metrics.counter("vedette_deliveries_total", webhook=webhook, outcome=outcome).inc()
        if given_up:
            self._metrics.counter("vedette_deliveries_total", webhook=webhook, outcome="dead").inc(given_up)
        if answer.error:
            extra = {"webhook": webhook, "delivery": after.id, "attempts": after.attempts, "outcome": outcome}
            log.warning("a webhook was not delivered: %s", answer.error, extra=extra)

    def _after(self, notification: Notification, answer: Answer, now: float) -> Notification:
        """The notification after an attempt."""
        if not answer.error:
            return replace(notification, state=DeliveryState.DELIVERED, last_error="", next_attempt_at=0.0)
        limits = self._persistence
        too_old = now - notification.created_at >= limits.max_age_s
        if answer.gone or too_old or notification.attempts >= limits.attempts:
            return replace(notification, state=DeliveryState.DEAD, last_error=answer.error, next_attempt_at=0.0)
        wait_s = max(limits.wait_s(notification.attempts, self._jitter()), min(answer.wait_s, limits.longest_wait_s))
        return replace(notification, last_error=answer.error, next_attempt_at=now + wait_s)


def _judged(status: int, retry_after: str) -> Answer:
    """What a status means: 2xx delivered, 410 nobody wants this any more, all else a failure to try again."""
    if 200 <= status < 300:
        return Answer()
    if status == 410:
        return Answer(_GONE, gone=True)
    if 300 <= status < 400:
        return Answer(f"the receiver answered {status}; redirects are not followed")
    asked = float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10 else 0.0
    return Answer(f"the receiver answered {status}", wait_s=asked)


async def _drain(response: httpx.Response) -> None:
    """Read the body, but not to its end if that is far or slow: the status has said everything already."""
    import httpx

    left = MAX_ANSWER_BYTES
    with contextlib.suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            async for chunk in response.aiter_raw():
                left -= len(chunk)
                if left <= 0:
                    return


def _trust() -> ssl.SSLContext:
    """The authorities that come with httpx, and the machine's own: containers lack the one, companies add the other."""
    import httpx

    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context
