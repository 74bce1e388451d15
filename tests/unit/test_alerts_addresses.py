"""Where webhooks may go: 300 and more addresses that lead inside, a listener there, and not one connection."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.webhook_receiver import Names, Post, Receiver, sending

from vedette.core.errors import InvalidArgument
from vedette.entities.alerts import DeliveryState
from vedette.monitor.alerting.addresses import AddressGuard, SystemResolver, is_public
from vedette.monitor.alerting.webhooks import Persistence

INSIDE_4 = [
    0x7F000001, 0x7F000102, 0x00000000, 0x0A000001, 0xAC100001, 0xC0A80001, 0xA9FEA9FE, 0x64400001, 0x646464C8,
    0xE0000001, 0xFFFFFFFF, 0xF0000001, 0xC6120001, 0xC0000201, 0xA83F8110, 0xC0586301,
]  # fmt: skip
"""Loopback, this host, private, link-local, shared, multicast, broadcast, reserved, test nets, metadata, 6to4 relay."""

INSIDE_6 = [
    "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:1234::7f00:1",
    "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fdff::1", "ff02::1", "ff0e::1", "2001:db8::1", "100::1",
    "0:0:0:0:0:0:0:1", "0000:0000:0000:0000:0000:0000:0000:0001", "::ffff:169.254.169.254", "5f00::1", "3fff::1",
    "4000::1", "e000::1", "::2", "0:0:0:0:0:ffff:127.0.0.1",
]  # fmt: skip


def four(number: int) -> Iterator[str]:
    """The ways of writing an IPv4 address that some reader somewhere understands."""
    a, b, c, d = ipaddress.IPv4Address(number).packed
    yield f"{a}.{b}.{c}.{d}"
    yield str(number)
    yield hex(number)
    yield hex(number).upper()
    yield f"0{number:o}"
    yield f"{a:#x}.{b:#x}.{c:#x}.{d:#x}"
    yield f"0{a:o}.0{b:o}.0{c:o}.0{d:o}"
    yield f"{a:03}.{b:03}.{c:03}.{d:03}"
    yield f"{a}.{number & 0xFFFFFF}"
    yield f"{a}.{b}.{number & 0xFFFF}"
    yield f"{a:#x}.{b}.0{c:o}.{d}"
    yield f"{a}.{b}.{c}.{d}."
    yield str(number + (1 << 32))
    yield f"{a}。{b}。{c}。{d}"
    yield f"{a}.{b}.{c}.{d}".translate(str.maketrans("0123456789", "０１２３４５６７８９"))
    yield f"{a}.{b}.{c}.{d}".translate(str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨"))
    yield f"%{ord(str(a)[0]):x}{str(a)[1:]}.{b}.{c}.{d}"
    yield f"[::ffff:{a}.{b}.{c}.{d}]"


NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "sub.localhost": ["127.0.0.1"],
    "inside.example": ["127.0.0.1"],
    "alias.example": ["127.0.0.1"],
    "mixed.example": ["93.184.215.14", "127.0.0.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "scoped.example": ["fe80::1%lo"],
    "metadata.example": ["169.254.169.254"],
    "xn--lcalhost-54a.example": ["127.0.0.1"],
    "nonsense.example": ["not an address"],
    "empty.example": [],
}


def corpus(port: int) -> list[str]:
    """URLs that lead, or might lead, to something inside on this port."""
    hosts = [text for number in INSIDE_4 for text in four(number)]
    hosts += [f"[{text}]" for text in INSIDE_6] + [f"[{text}%25lo]" for text in INSIDE_6[:3]] + list(NAMES)
    hosts += ["LOCALHOST", "ＬＯＣＡＬＨＯＳＴ", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "localhost.", "inside。example", "ınside.example", "[::1"]
    urls = [f"http://{host}:{port}/hook" for host in hosts]
    here = f"127.0.0.1:{port}"
    urls += [
        f"https://{here}/", f"HTTP://{here}/", f"http://user@{here}/", f"http://a:b@{here}/", f"http://{here}#@one.one/",
        f"http://one.one@{here}/", f"http://one.one:80@{here}/", f"http://{here}\\@one.one/", f"http://one.one\\@{here}/",
        f"http:{here}/", f"http:/{here}/", f"http:///{here}/", f"http://{here}?x=1#y", f"//{here}/", here,
        f"gopher://{here}/_x", f"ftp://{here}/", f"file://{here}/etc/passwd", f"file:///{here}", f"dict://{here}/",
        f"ldap://{here}/", f"ws://{here}/", f"unix:/{here}", f"javascript://{here}/", f"data:text/plain,{here}",
        f" http://{here}/", f"http://{here}/ ", f"http://{here}/\r\nx: y", f"http://{here}\n/", f"http://\t{here}/",
        f"http://{here}\0/", f"http://one.one\r\nhost: {here}/", f"http://{here}/é", f"http://{here}:80/",
        "http://", "http://:80/", "https://[]/", "http://./", "http://../", "http://-a.example/", "http://a_.-/",
        f"http://{'a' * 64}.example/", f"http://{'a.' * 140}example/", f"http://one.one/{'x' * 3_000}", "",
        "http://one.one:0/", "http://one.one:22/", "http://one.one:6379/", "http://one.one:65536/", "http://one.one:-1/",
        "http://one.one:99999999/", "http://one.one:8 0/", "http://one.one:0x50/", "http://one.one:８０/",
    ]  # fmt: skip
    return urls


async def test_none_of_300_addresses_reaches_a_listener_inside() -> None:
    """Not when it is saved, and not when it stands in the store all the same and is sent to."""
    async with Receiver() as canary:
        urls = corpus(canary.port)
        assert len(set(urls)) >= 300
        guard = AddressGuard(ports=(80, 443, canary.port), resolver=Names(NAMES))
        for url in urls:
            with pytest.raises(InvalidArgument):
                guard.check(url)
        post = Post()
        kept = [url for url in urls if "\0" not in url]  # which no store keeps
        for number, url in enumerate(kept):
            post.add(f"w{number}", url)
            post.post(f"d{number}", f"w{number}")
        async with sending(post.store, guard, clock=post.clock, persistence=Persistence(attempts=1)):
            for number, url in enumerate(kept):
                assert (await post.ended(f"d{number}")).state is DeliveryState.DEAD, url
        assert canary.connections == 0


async def test_the_listener_notices_a_connection() -> None:
    """The test above could fail: an operator who names the address reaches it."""
    async with Receiver() as canary:
        post = Post()
        post.add("w", canary.url)
        post.post("d")
        async with sending(post.store, AddressGuard(allowed_hosts=[f"127.0.0.1:{canary.port}"]), clock=post.clock):
            assert (await post.ended("d")).state is DeliveryState.DELIVERED
        assert canary.connections == 1


async def test_a_name_that_changes_its_mind_is_refused() -> None:
    """Public when it is saved, loopback when it is sent to, and public again if anybody looks twice."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    async with Receiver() as canary:
        names = Names({"flip.example": lambda: next(answers, ["93.184.215.14"])})
        guard = AddressGuard(ports=(canary.port,), resolver=names)
        url = f"http://flip.example:{canary.port}/"
        guard.check(url)
        post = Post()
        post.add("w", url)
        post.post("d")
        async with sending(post.store, guard, clock=post.clock, persistence=Persistence(attempts=1)):
            ended = await post.ended("d")
        assert (ended.state, "private" in ended.last_error) == (DeliveryState.DEAD, True)
        assert canary.connections == 0


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """The name is looked up once for each attempt; the receiver sees it in the Host header."""
    looked_up: list[str] = []

    class Counting(Names):
        def addresses(self, host: str, port: int) -> list[str]:
            looked_up.append(host)
            return super().addresses(host, port)

    async with Receiver() as receiver:
        names = Counting({"hooks.example": ["127.0.0.1"]})
        post = Post()
        post.add("w", f"http://HOOKS.example:{receiver.port}/a?b=%20c")
        post.post("d")
        guard = AddressGuard(allowed_hosts=["hooks.example"], resolver=names)
        async with sending(post.store, guard, clock=post.clock):
            await post.ended("d")
        assert looked_up == ["hooks.example"]
        assert receiver.arrivals[0].line == "POST /a?b=%20c HTTP/1.1"
        assert receiver.arrivals[0].headers["host"] == f"hooks.example:{receiver.port}"


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would connect wherever they like."""
    async with Receiver() as receiver, Receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        post = Post()
        post.add("w", receiver.url)
        post.post("d")
        async with sending(post.store, clock=post.clock):
            await post.ended("d")
        assert (receiver.connections, proxy.connections) == (1, 0)


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://hooks.slack.com/services/T/B/x", "hooks.slack.com", 443, "/services/T/B/x", "hooks.slack.com"),
        ("http://Example.COM", "example.com", 80, "/", "example.com"),
        ("https://example.com:8443?a=b", "example.com", 8443, "/?a=b", "example.com:8443"),
        ("https://example.com:443/", "example.com", 443, "/", "example.com"),
        ("http://bücher.example/", "xn--bcher-kva.example", 80, "/", "xn--bcher-kva.example"),
        ("http://exa。mple.com/", "exa.mple.com", 80, "/", "exa.mple.com"),
        ("http://93.184.215.14/", "93.184.215.14", 80, "/", "93.184.215.14"),
        ("http://[2606:4700:0::1111]/", "2606:4700::1111", 80, "/", "[2606:4700::1111]"),
    ],
)
def test_public_addresses_pass(url: str, host: str, port: int, path: str, authority: str) -> None:
    """In one form for looking up, for the Host header and for the certificate."""
    target = AddressGuard(resolver=Names({})).target(url)
    assert (target.host, target.port, target.path, target.authority) == (host, port, path, authority)


@pytest.mark.parametrize(
    ("entry", "url", "passes"),
    [
        ("127.0.0.1", "http://127.0.0.1:9/", True),
        ("127.0.0.1:9", "http://127.0.0.1:9/", True),
        ("127.0.0.1:9", "http://127.0.0.1:10/", False),
        ("127.0.0.1:9", "http://127.0.0.2:9/", False),
        ("127.0.0.0/8", "http://127.9.9.9:9/", True),
        ("127.0.0.0/8:80", "http://127.9.9.9/", True),
        ("127.0.0.0/8:80", "http://127.9.9.9:443/", False),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]/", False),
        ("[::1]:9", "http://[::1]:9/", True),
        ("::1", "http://[::1]/", True),
        ("::1", "http://127.0.0.1/", False),
        ("inside.example", "http://inside.example:9/", True),
        ("Inside.Example:9", "http://inside.EXAMPLE:9/", True),
        ("inside.example:9", "http://inside.example/", False),
        ("inside.example", "http://alias.example/", False),
        ("127.0.0.1", "http://alias.example/", True),
        ("127.0.0.1", "http://mixed.example/", True),
        ("mixed.example", "http://localhost/", False),
        ("0.0.0.0/0", "http://metadata.example/", False),
        ("metadata.example", "http://metadata.example/", False),
        ("169.254.169.254", "http://169.254.169.254/", False),
        ("::/0", "http://[::ffff:169.254.169.254]/", False),
        ("not-up-yet.example", "http://not-up-yet.example:9/", True),
        ("other.example", "http://not-up-yet.example/", False),
        ("127.0.0.1:1024-65535", "http://127.0.0.1:1024/", True),
        ("127.0.0.1:1024-65535", "http://inside.example:65535/", True),
        ("127.0.0.1:1024-65535", "http://127.0.0.1:22/", False),
        ("127.0.0.1:1024-65535", "http://not-up-yet.example:25/", False),
        ("[::1]:9-10", "http://[::1]:10/", True),
        ("[::1]:9-10", "http://[::1]:11/", False),
        ("127.0.0.1", "http://not-up-yet.example:25/", False),
        ("127.0.0.1", "http://inside.example:25/", False),
        ("127.0.0.1:25", "http://inside.example:25/", True),
        ("127.0.0.0/8", "http://not-up-yet.example:8080/", True),
    ],
)
def test_what_the_operator_allows(entry: str, url: str, passes: bool) -> None:
    """Names, addresses and networks, on one port, a span or all; metadata never, a public host on a usual port.

    A network speaks for ports of the names that lead into it only where it names them.
    """
    guard = AddressGuard(allowed_hosts=[entry], resolver=Names(NAMES))
    if passes:
        guard.check(url)
    else:
        with pytest.raises(InvalidArgument):
            guard.check(url)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "a b",
        "a:b",
        "host:0",
        "host:70000",
        "1.2.3",
        "0x7f.1",
        "http://a/",
        "[::1",
        "a/8",
        "a:9-8",
        "a:0-9",
        "a:9-",
        "a:9-70000",
    ],
)
def test_an_allow_list_that_cannot_be_read_is_refused(entry: str) -> None:
    """When the service starts, not when somebody relies on it."""
    with pytest.raises(InvalidArgument):
        AddressGuard(allowed_hosts=[entry])


@given(st.integers(0, 2**32 - 1))
def test_no_address_holds_a_private_one_inside(number: int) -> None:
    """However an IPv4 address is wrapped in IPv6, the wrapping is not public."""
    text = str(ipaddress.IPv4Address(number))
    hexed = f"{number >> 16:x}:{number & 0xFFFF:x}"
    for wrapped in (f"::ffff:{text}", f"::{text}", f"64:ff9b::{text}", f"64:ff9b:1::{text}", f"2002:{hexed}::1"):
        assert not is_public(ipaddress.ip_address(wrapped))


@given(st.text(max_size=80))
def test_any_text_is_taken_apart_or_refused(text: str) -> None:
    """With one kind of error."""
    guard = AddressGuard(resolver=Names({}))
    for url in (text, f"http://{text}", f"https://{text}/x", f"http://a.example/{text}", f"http://a.example:{text}/"):
        try:
            target = guard.target(url)
        except InvalidArgument:
            continue
        assert target.host.isascii()
        assert target.path.isascii()
        assert not set(target.path) & set(" \r\n\t\0#\\")


async def test_the_machines_resolver_knows_this_machine() -> None:
    """The adapter that is used unless a test brings another."""
    found = await asyncio.to_thread(SystemResolver().addresses, "localhost", 80)
    assert set(found) <= {"127.0.0.1", "::1"}
    assert found


@pytest.mark.parametrize("port", [0, 65_536, 99_999])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    """Also where the operator has named the host on all ports."""
    guard = AddressGuard(allowed_hosts=["127.0.0.1"])
    with pytest.raises(InvalidArgument, match=f"{port} is no port"):
        guard.check(f"http://127.0.0.1:{port}/")
