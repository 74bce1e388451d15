"""The sender of webhooks against receivers that fail, hang, reset, redirect, dawdle and answer without end."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.webhook_receiver import (
    QUICK,
    Arrival,
    Behaviour,
    Names,
    Post,
    Receiver,
    answering,
    hang,
    open_guard,
    reset,
    sending,
)

from vedette.codec.webhook_signatures import verify
from vedette.core.errors import Conflict, InvalidArgument, NotFound, Unavailable
from vedette.core.metrics import Counter, NoMetrics
from vedette.entities.alerts import DeliveryState
from vedette.monitor.alerting.addresses import AddressGuard
from vedette.monitor.alerting.receivers import HIDDEN, Webhooks
from vedette.monitor.alerting.webhooks import MAX_ANSWER_BYTES, Answer, Persistence, WebhookSender
from vedette.storage.memory_monitors import MemoryMonitorStore

DEAD, DELIVERED, WAITING = DeliveryState.DEAD, DeliveryState.DELIVERED, DeliveryState.WAITING


class Counts(NoMetrics):
    """Keeps what was counted."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, ...], float] = {}

    def counter(self, name: str, **labels: str) -> Counter:
        key = (name, *labels.values())
        seen = self.seen

        class One:
            def inc(self, amount: float = 1.0) -> None:
                seen[key] = seen.get(key, 0.0) + amount

        return One()


async def test_a_delivery_arrives_signed() -> None:
    """With its id, its own headers and ours; the receiver can check it, and it is counted."""
    counts = Counts()
    async with Receiver() as receiver:
        post = Post()
        post.add("w", receiver.url, headers={"x-team": "fraud"})
        post.post("msg_1")
        async with sending(post.store, clock=post.clock, metrics=counts):
            done = await post.ended("msg_1")
        arrival = receiver.arrivals[0]
    assert (done.state, done.attempts, done.last_error) == (DELIVERED, 1, "")
    assert verify(post.secrets["w"], arrival.headers, arrival.body, now=post.clock.time()) == "msg_1"
    assert arrival.headers["x-team"] == "fraud"
    assert arrival.headers["content-type"].startswith("application/cloudevents+json")
    assert counts.seen == {("vedette_deliveries_total", "w", "delivered"): 1.0}


ENDLESS = {"bytes": 0}
"""How much of endless bodies left the receiver."""


async def endless(_: Arrival, writer: asyncio.StreamWriter) -> None:
    """A success whose body never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()
        ENDLESS["bytes"] += 65_536


async def endless_headers(_: Arrival, writer: asyncio.StreamWriter) -> None:
    """Headers that never end."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x: " + b"y" * 60_000 + b"\r\n")
        await writer.drain()


async def dripping(_: Arrival, writer: asyncio.StreamWriter) -> None:
    """A byte of the status line now and then."""
    for byte in b"HTTP/1.1 200 OK\r\n" * 1_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.1)


async def slow_body(_: Arrival, writer: asyncio.StreamWriter) -> None:
    """A success at once, whose body never comes."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
    await writer.drain()
    await asyncio.Event().wait()


async def forever_continuing(_: Arrival, writer: asyncio.StreamWriter) -> None:
    """Says 100 Continue and nothing else."""
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


async def nonsense(_: Arrival, writer: asyncio.StreamWriter) -> None:
    """Speaks another language."""
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (answering(500), "answered 500"),
        (answering(404), "answered 404"),
        (answering(400, body=b"secret of the receiver"), "answered 400"),
        (answering(301, headers={"location": "http://127.0.0.1:1/"}), "redirects are not followed"),
        (answering(302, headers={"location": "/elsewhere"}), "redirects are not followed"),
        (answering(307, headers={"location": "//127.0.0.1/"}), "redirects are not followed"),
        (answering(308, headers={"location": "http://[::1]/"}), "redirects are not followed"),
        (answering(304), "answered 304"),
        (hang, "did not answer in time"),
        (dripping, "did not answer in time"),
        (forever_continuing, "did not answer in time"),
        (reset, "broke"),
        (nonsense, "did not speak HTTP"),
        (endless_headers, "did not speak HTTP"),
    ],
)
async def test_a_receiver_that_fails_is_tried_again_and_then_given_up(behaviour: Behaviour, error: str) -> None:
    """Three times under one id, with longer and longer waits; nothing of its answer is shown."""
    counts = Counts()
    async with Receiver() as receiver:
        receiver.behaviour = behaviour
        post = Post()
        post.add("w", receiver.url)
        post.post("d")
        async with sending(
            post.store, clock=post.clock, persistence=QUICK, metrics=counts, jitter=lambda: 0.0
        ) as sender:
            for attempt, wait_s in ((1, 5.0), (2, 10.0)):
                failed = await post.failed("d", attempt)
                assert error in failed.last_error
                assert failed.next_attempt_at == post.clock.time() + wait_s
                post.clock.advance(wait_s)
                sender.wake()
            dead = await post.ended("d")
        assert (dead.state, dead.attempts) == (DEAD, 3)
        assert error in dead.last_error
        assert "secret" not in dead.last_error
        assert [arrival.id for arrival in receiver.arrivals] == ["d"] * 3
    assert {key[2]: number for key, number in counts.seen.items()} == {"retried": 2.0, "dead": 1.0}


@pytest.mark.parametrize("behaviour", [endless, slow_body, answering(200, body=b"x" * 10_000_000), answering(202)])
async def test_a_success_is_one_whatever_its_body(behaviour: Behaviour) -> None:
    """The status has said it; of the body no more than 64 KiB is read, and not for long."""
    async with Receiver() as receiver:
        receiver.behaviour = behaviour
        post = Post()
        post.add("w", receiver.url)
        post.post("d")
        async with sending(post.store, clock=post.clock):
            assert (await post.ended("d")).state is DELIVERED
        assert len(receiver.arrivals) == 1


async def test_endless_answers_take_no_memory() -> None:
    """Thirty receivers at once that answer without end: under 32 MB more than before."""
    process = psutil.Process()
    async with Receiver() as receiver:
        receiver.behaviour = endless
        post = Post()
        for number in range(30):
            post.add(f"w{number}", receiver.url)
        async with sending(post.store, clock=post.clock) as sender:
            post.post("warm", "w0")
            sender.wake()
            await post.ended("warm")
            before = process.memory_info().rss
            ENDLESS["bytes"] = 0
            for number in range(30):
                post.post(f"d{number}", f"w{number}")
            sender.wake()
            for number in range(30):
                await post.ended(f"d{number}")
            assert process.memory_info().rss - before < 32 * 1024 * 1024
            assert (
                ENDLESS["bytes"] < 30 * 12 * 1024 * 1024
            )  # what buffers of sockets hold; a second's worth is 50 times that
    assert MAX_ANSWER_BYTES == 65_536


async def test_a_closed_port_and_an_unknown_host_are_failures_like_others() -> None:
    """Their errors name no address."""
    async with Receiver() as receiver:
        url = receiver.url
    post = Post()
    post.add("w", url)
    post.add("v", "http://unknown.example:8080/")
    post.post("d1", "w")
    post.post("d2", "v")
    guard = AddressGuard(allowed_hosts=["127.0.0.1", "unknown.example"], resolver=Names({}))
    async with sending(post.store, guard, clock=post.clock):
        assert (await post.failed("d1")).last_error == "no connection to the receiver"
        assert (await post.failed("d2")).last_error == "the receiver's host cannot be looked up"


async def test_one_of_several_addresses_is_enough() -> None:
    """The next one is tried when there is no connection to the first."""
    async with Receiver() as receiver:
        post = Post()
        post.add("w", f"http://two.example:{receiver.port}/")
        post.post("d")
        names = Names({"two.example": ["127.0.0.99", "127.0.0.1"]})
        guard = AddressGuard(allowed_hosts=["two.example"], resolver=names)
        async with sending(post.store, guard, clock=post.clock):
            assert (await post.ended("d")).state is DELIVERED


async def test_a_receiver_that_hangs_holds_nobody_up() -> None:
    """It has its two attempts under way and no more; a hundred others go to the one that answers."""
    async with Receiver() as slow, Receiver() as quick:
        slow.behaviour = hang
        post = Post()
        post.add("slow", slow.url)
        post.add("quick", quick.url)
        for number in range(100):
            post.post(f"s{number}", "slow")
            post.post(f"q{number}", "quick")
        async with sending(post.store, clock=post.clock, per_webhook=2):
            for number in range(100):
                assert (await post.ended(f"q{number}")).state is DELIVERED
        assert slow.most_at_once == 2
        assert quick.most_at_once <= 2
        assert len(slow.arrivals) == 2


async def test_all_attempts_together_are_bounded() -> None:
    """Whatever the number of receivers."""
    async with Receiver() as receiver:
        receiver.behaviour = hang
        post = Post()
        for number in range(12):
            post.add(f"w{number}", receiver.url)
            post.post(f"d{number}", f"w{number}")
        async with sending(post.store, clock=post.clock, concurrency=5, persistence=QUICK):
            for number in range(12):
                await post.failed(f"d{number}")
        assert receiver.most_at_once == 5


async def test_a_slow_resolver_holds_nobody_up() -> None:
    """Looking up is part of the attempt and of its ten seconds."""
    release = threading.Event()

    class Stuck(Names):
        def addresses(self, host: str, port: int) -> list[str]:
            if host == "stuck.example":
                release.wait(10.0)
            return super().addresses(host, port)

    async with Receiver() as receiver:
        post = Post()
        post.add("stuck", "http://stuck.example:8080/")
        post.add("w", receiver.url)
        post.post("d1", "stuck")
        post.post("d2", "w")
        guard = AddressGuard(allowed_hosts=["127.0.0.1"], resolver=Stuck({}))
        try:
            async with sending(post.store, guard, clock=post.clock, persistence=QUICK):
                assert (await post.ended("d2")).state is DELIVERED
                assert (await post.failed("d1")).last_error == "the receiver did not answer in time"
        finally:
            release.set()


async def test_deliveries_of_a_topic_arrive_in_order() -> None:
    """What resolves an alert never arrives before what raised it, also when the first attempt fails."""
    answers = iter([answering(500), answering(204), answering(204)])

    async with Receiver() as receiver:

        async def behave(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
            await next(answers)(arrival, writer)

        receiver.behaviour = behave
        post = Post()
        post.add("w", receiver.url)
        post.post("first", topic="t")
        post.post("second", topic="t")
        async with sending(post.store, clock=post.clock) as sender:
            await post.failed("first")
            post.clock.advance(5.0)
            sender.wake()
            await post.ended("second")
        assert [arrival.id for arrival in receiver.arrivals] == ["first", "first", "second"]


async def test_a_receiver_that_is_back_gets_the_rest_at_once() -> None:
    """One success, and what waits for a later attempt is due."""
    async with Receiver() as receiver:
        receiver.behaviour = answering(503)
        post = Post()
        post.add("w", receiver.url)
        for number in range(5):
            post.post(f"d{number}")
        async with sending(post.store, clock=post.clock) as sender:
            for number in range(5):
                await post.failed(f"d{number}")
            receiver.behaviour = answering(204)
            post.post("d5")
            sender.wake()
            for number in range(6):
                assert (await post.ended(f"d{number}")).state is DELIVERED


async def test_410_switches_the_webhook_off() -> None:
    """Nobody wants this any more: what waits is dead, nothing is sent, until somebody switches it on."""
    counts = Counts()
    async with Receiver() as receiver:
        receiver.behaviour = answering(410)
        post = Post()
        post.add("w", receiver.url)
        post.post("d1", topic="t")
        post.post("d2", topic="t")
        async with sending(post.store, clock=post.clock, metrics=counts):
            assert (await post.ended("d1")).state is DEAD
            assert (await post.ended("d2")).state is DEAD
        assert len(receiver.arrivals) == 1
        assert counts.seen == {("vedette_deliveries_total", "w", "dead"): 2.0}
        with post.store.read() as snapshot:
            assert not snapshot.alerts.webhook("w").enabled


async def test_what_a_receiver_asks_to_wait_is_respected_within_limits() -> None:
    """Retry-After in seconds, an hour at most."""
    async with Receiver() as receiver:
        post = Post()
        post.add("w", receiver.url)
        async with sending(post.store, clock=post.clock, jitter=lambda: 0.0) as sender:
            for number, (asked, wait_s) in enumerate(
                [("120", 120.0), ("999999999", 3_600.0), ("1", 5.0), ("x", 5.0), ("-1", 5.0), ("9" * 400, 5.0)]
            ):
                receiver.behaviour = answering(429, headers={"retry-after": asked})
                post.post(f"d{number}")
                sender.wake()
                assert (await post.failed(f"d{number}")).next_attempt_at == post.clock.time() + wait_s


def test_waits_double_up_to_an_hour() -> None:
    """And jitter takes up to a half of them, so that receivers are not met by everybody at once."""
    waits = [Persistence().wait_s(attempt, 0.0) for attempt in range(1, 14)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]
    assert Persistence().wait_s(10_000, 1.0) == 1_800


async def test_what_is_too_old_ends_with_its_next_failure() -> None:
    """A backlog does not outlive its receiver by days."""
    async with Receiver() as receiver:
        receiver.behaviour = answering(500)
        post = Post()
        post.add("w", receiver.url)
        post.post("d")
        post.clock.advance(86_400.0)
        async with sending(post.store, clock=post.clock):
            dead = await post.ended("d")
        assert (dead.state, dead.attempts) == (DEAD, 1)


async def test_the_store_may_be_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender says so and goes on when it is back."""
    monkeypatch.setattr("vedette.monitor.alerting.webhooks._AFTER_TROUBLE_S", 0.01)

    class Flaky(MemoryMonitorStore):
        down = 3

        def read(self) -> Any:
            if self.down:
                self.down -= 1
                raise Unavailable("away") if self.down else RuntimeError("worse")
            return super().read()

    async with Receiver() as receiver:
        post = Post(store=MemoryMonitorStore())
        flaky = Flaky()
        flaky.migrate()
        post.store = flaky
        post.add("w", receiver.url)
        post.post("d")
        async with sending(flaky, clock=post.clock):
            await receiver.wait_for(1)


async def test_nothing_of_addresses_or_answers_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A URL is a credential as often as not."""
    caplog.set_level(logging.INFO)
    async with Receiver() as receiver:
        receiver.behaviour = answering(500, body=b"stack trace of theirs")
        post = Post()
        post.add("w", f"{receiver.url}/T0/B0/token", headers={"authorization": "Bearer hush"})
        post.post("d")
        async with sending(post.store, clock=post.clock):
            await post.failed("d")
    ours = "\n".join(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if "asyncio" not in record.name
    )
    assert "was not delivered" in ours
    for secret in ("token", "127.0.0.1", "hush", "theirs", "whsec"):
        assert secret not in ours


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate of its own for `good.example`."""
    path = tmp_path / "cert.pem"
    names = "subjectAltName=DNS:good.example"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(path), "-out", str(tmp_path / "c"), "-subj", "/CN=x", "-addext", names, "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "c").read_text())
    return path


@pytest.mark.parametrize(("host", "state"), [("good.example", DELIVERED), ("bad.example", DEAD)])
async def test_tls_asks_for_the_certificate_of_the_name(certificate: Path, host: str, state: DeliveryState) -> None:
    """Although the connection is made to an address; a certificate of another name is refused."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    arrived: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=served)
    port = server.sockets[0].getsockname()[1]
    post = Post()
    post.add("w", f"https://{host}:{port}/")
    post.post("d")
    guard = AddressGuard(allowed_hosts=[host], resolver=Names({host: ["127.0.0.1"]}))
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with sending(post.store, guard, clock=post.clock, tls=trusting, persistence=Persistence(attempts=1)):
        assert (await post.ended("d")).state is state
    server.close()
    assert bool(arrived) == (state is DELIVERED)


def test_a_sender_that_was_made_and_never_run_holds_nothing() -> None:
    """Constructors only store."""
    before = psutil.Process().num_threads()
    WebhookSender(MemoryMonitorStore(), open_guard())
    assert psutil.Process().num_threads() == before
    assert Answer().error == ""


async def test_a_sender_can_be_run_again() -> None:
    """After it was stopped, as after a failure."""
    async with Receiver() as receiver:
        post = Post()
        post.add("w", receiver.url)
        sender = WebhookSender(post.store, open_guard(), clock=post.clock)
        for name in ("d1", "d2"):
            task = asyncio.create_task(sender.run())
            post.post(name)
            sender.wake()
            assert (await post.ended(name)).state is DELIVERED
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def room(post: Post, **names: Any) -> Webhooks:
    """Webhooks over a store, with a resolver that knows `hooks.example` as public."""
    guard = AddressGuard(resolver=Names({"hooks.example": ["93.184.215.14"], **names}))
    return Webhooks(post.store, guard, clock=post.clock)


async def test_a_webhook_is_made_with_a_secret_that_is_shown_once() -> None:
    """And values of its headers never."""
    post = Post()
    webhooks = room(post)
    made, secret = await webhooks.create("w", "https://hooks.example/x", headers={"Authorization": "Bearer hush"})
    assert secret.startswith("whsec_")
    assert made.headers == {"authorization": HIDDEN}
    assert len(made.secret_ids) == 1
    assert webhooks.list() == [webhooks.get("w")] == [made]
    assert secret not in repr(webhooks.get("w"))
    with post.store.read() as snapshot:
        assert snapshot.alerts.webhook("w").headers == {"authorization": "Bearer hush"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../x"},
        {"url": "http://127.0.0.1/"},
        {"url": "http://inside.example/"},
        {"url": "http://unknown.example/"},
        {"format": "xml"},
        {"headers": {"host": "x"}},
        {"headers": {"Webhook-Id": "x"}},
        {"headers": {"x": "a\r\ny: b"}},
        {"headers": {"x y": "a"}},
        {"headers": {"": "a"}},
        {"headers": {"x": ""}},
        {"headers": {"x": "é"}},
        {"headers": {"x": "y" * 2_000}},
        {"headers": {f"x-{number}": "y" for number in range(21)}},
    ],
)
async def test_a_webhook_that_makes_no_sense_is_refused(wrong: Mapping[str, Any]) -> None:
    """And nothing is kept of it; nor may an existing one be changed to it."""
    post = Post()
    webhooks = room(post, **{"inside.example": ["127.0.0.1"]})
    given: dict[str, Any] = {"name": "w", "url": "https://hooks.example/", **wrong}
    with pytest.raises(InvalidArgument):
        await webhooks.create(given.pop("name"), given.pop("url"), **given)
    assert webhooks.list() == []
    change = {key: value for key, value in wrong.items() if key in {"url", "headers"}}
    if change:
        made, _ = await webhooks.create("w", "https://hooks.example/")
        with pytest.raises(InvalidArgument):
            await webhooks.update("w", **change)
        assert webhooks.get("w") == made


async def test_a_webhook_is_changed_part_by_part() -> None:
    """What is not given stays."""
    post = Post()
    webhooks = room(post)
    made, _ = await webhooks.create("w", "https://hooks.example/", headers={"x": "y"})
    changed = await webhooks.update("w", url="https://hooks.example/new", enabled=False)
    assert changed == replace(made, url="https://hooks.example/new", enabled=False)
    assert (await webhooks.update("w", headers={})).headers == {}
    with pytest.raises(NotFound):
        await webhooks.update("v", enabled=True)
    webhooks.delete("w")
    assert webhooks.list() == []


async def test_both_secrets_sign_for_a_day_after_a_rotation() -> None:
    """Then the old one no more; a second rotation ends it at once."""
    async with Receiver() as receiver:
        post = Post()
        post.add("w", receiver.url)
        webhooks = Webhooks(post.store, open_guard(), clock=post.clock)
        old = post.secrets["w"]
        changed, new = webhooks.rotate("w")
        assert len(changed.secret_ids) == 2
        async with sending(post.store, clock=post.clock):
            for number, (advance, good) in enumerate([(86_399.0, [old, new]), (1.0, [new])]):
                post.clock.advance(advance)
                post.post(f"d{number}")
                await post.ended(f"d{number}")
                arrival = receiver.arrivals[number]
                signatures = arrival.headers["webhook-signature"].split(" ")
                assert len(signatures) == len(good)
                for secret in good:
                    verify(secret, arrival.headers, arrival.body, now=post.clock.time())
        webhooks.rotate("w")
        assert len(webhooks.rotate("w")[0].secret_ids) == 2


async def test_a_webhook_can_be_tried_out_and_a_delivery_sent_again() -> None:
    """A test of its own; a dead or delivered one under its old id."""
    async with Receiver() as receiver:
        post = Post()
        post.add("w", receiver.url)
        webhooks = Webhooks(post.store, open_guard(), clock=post.clock)
        async with sending(post.store, clock=post.clock, persistence=Persistence(attempts=1)) as sender:
            test = webhooks.test("w")
            sender.wake()
            assert (await post.ended(test.id)).state is DELIVERED
            assert b"vedette.test" in receiver.arrivals[0].body
            receiver.behaviour = answering(500)
            post.post("d")
            sender.wake()
            assert (await post.ended("d")).state is DEAD
            receiver.behaviour = answering(200)
            for _ in range(2):
                assert webhooks.redeliver("d").state is WAITING
                sender.wake()
                assert (await post.ended("d")).state is DELIVERED
        assert [arrival.id for arrival in receiver.arrivals] == [test.id, "d", "d", "d"]
        assert [one.id for one in webhooks.deliveries(limit=9, webhook="w", state=DELIVERED)[0]] == ["d", test.id]


async def test_nothing_is_tried_with_what_is_switched_off_or_not_there() -> None:
    """It says so."""
    post = Post()
    webhooks = room(post)
    await webhooks.create("w", "https://hooks.example/")
    post.post("d")
    await webhooks.update("w", enabled=False)
    for call in (lambda: webhooks.test("w"), lambda: webhooks.redeliver("d")):
        with pytest.raises(Conflict, match="switched off"):
            call()
    for call in (lambda: webhooks.test("x"), lambda: webhooks.redeliver("x"), lambda: webhooks.rotate("x")):
        with pytest.raises(NotFound):
            call()
