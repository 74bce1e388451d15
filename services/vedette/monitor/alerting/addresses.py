"""Which addresses the monitor may send to: public ones, and private ones that the operator has named.

Rule: a URL is taken apart once, by one strict grammar, and a connection is made only to an address that came out of
`reach`. It runs when a webhook is saved and again before every attempt, and every address that a name has at that
moment must be allowed: so neither a name that changes its mind nor a second reading of the URL leads elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import idna

from vedette.core.errors import InvalidArgument

PORTS = (80, 443, 8080, 8443, 9093)
"""Ports that any host may be reached on unless told otherwise; 9093 is Alertmanager's."""
MAX_URL = 2_048
_MAX_ADDRESSES = 64

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[^\x00-\x20/?#\\@:%\[\]<>\"^`{|}]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!$-;=@-Z_a-z~]*)?(?P<query>\?[!$-;=?-Z_a-z~]*)?",
    re.IGNORECASE,
)
_ENTRY = re.compile(
    r"(?P<host>\[[^\]]+\]|[^\[\]:]+|[0-9A-Fa-f:.]+(?:/\d+)?)(?::(?P<port>\d{1,5})(?:-(?P<last>\d{1,5}))?)?"
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16")
)
"""Where clouds hand out credentials: never reached, whatever the operator has named."""

_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.88.99.0/24",  # 6to4 relays
        "::/96",  # IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64 of a local network
        "2001::/32",  # Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
    )
)
"""What `is_global` lets pass in some versions of Python, or what holds another address inside."""


class Resolver(Protocol):
    """Looks names up."""

    def addresses(self, host: str, port: int) -> list[str]:
        """Every address that a connection to the host might use. Blocks. `OSError` when there is none."""


class SystemResolver:
    """The machine's resolver."""

    def addresses(self, host: str, port: int) -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart."""

    scheme: str
    host: str
    """A name in ASCII and lower case, or an address (without brackets)."""
    port: int
    path: str
    """Path and query as they go on the wire."""

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Allowed:
    """An entry of the operator's list: a name or a network, on some ports or (None) on every port."""

    host: str | IPNetwork
    ports: range | None

    def has(self, port: int) -> bool:
        """Whether the entry is about this port."""
        return self.ports is None or port in self.ports


class AddressGuard:
    """Decides where webhooks may go.

    `allowed_hosts` names private hosts that may be reached all the same: names, addresses or networks, with or
    without a port or a span of them (`hooks.example`, `127.0.0.1:9000`, `[::1]:1024-65535`, `192.0.2.0/24`); without
    one, every port of them. For a name that leads into a network, that is the usual ports and those which stand there.

    Raises:
        InvalidArgument: an entry of `allowed_hosts` cannot be read.
    """

    def __init__(
        self,
        *,
        allowed_hosts: Sequence[str] = (),
        ports: Sequence[int] = PORTS,
        resolver: Resolver | None = None,
    ) -> None:
        self._allowed = tuple(_allowed(entry) for entry in allowed_hosts)
        self._ports = frozenset(ports)
        self._resolver = resolver or SystemResolver()

    def target(self, url: str) -> Target:
        """Take a URL apart and check everything that needs no look-up.

        Raises:
            InvalidArgument: it is no URL that a webhook may have.
        """
        match = _URL.fullmatch(url) if len(url) <= MAX_URL else None
        if match is None:
            raise InvalidArgument(
                "a webhook's URL is http:// or https://, a host, perhaps a port and a path; without user or fragment"
            )
        scheme = match["scheme"].lower()
        port = int(match["port"] or {"http": 80, "https": 443}[scheme])
        if not 0 < port < 65_536:
            raise InvalidArgument(f"{port} is no port: 1 to 65535")
        target = Target(scheme, _host(match["host"]), port, (match["path"] or "/") + (match["query"] or ""))
        if port not in self._ports and not self._names(target):
            raise InvalidArgument(f"webhooks may not use port {port}")
        if (address := _address(target.host)) is not None:
            self._check(target, [address])
        return target

    def reach(self, target: Target) -> list[str]:
        """Look the host up and return the addresses to connect to. Blocks as long as the resolver does.

        Raises:
            InvalidArgument: one of its addresses is not allowed.
            OSError: it has none, or the resolver failed.
        """
        literal = _address(target.host)
        texts = [target.host] if literal is not None else self._resolver.addresses(target.host, target.port)
        if not texts:
            raise OSError("the host has no address")
        self._check(target, [_address(text) for text in texts[:_MAX_ADDRESSES]])
        return texts[:_MAX_ADDRESSES]

    def check(self, url: str) -> Target:
        """What saving a webhook checks: the URL, and the addresses that its host has now. Blocks.

        A host that the operator has named may be one that is not up yet.

        Raises:
            InvalidArgument: it may not be sent to, or its host is unknown.
        """
        target = self.target(url)
        try:
            self.reach(target)
        except OSError:
            if not self._names(target):
                raise InvalidArgument("the webhook's host cannot be looked up") from None
        return target

    def _check(self, target: Target, addresses: Sequence[IPAddress | None]) -> None:
        for address in addresses:
            if address is None or not self._may_reach(target, address):
                raise InvalidArgument("webhooks may not be sent to this address: it is private, local or reserved")

    def _may_reach(self, target: Target, address: IPAddress) -> bool:
        if address in _METADATA or _carries(address, _METADATA.__contains__):
            return False
        if any(self._covers(entry, target, address) for entry in self._allowed):
            return True
        return target.port in self._ports and is_public(address)

    def _covers(self, entry: _Allowed, target: Target, address: IPAddress) -> bool:
        if not entry.has(target.port):
            return False
        if isinstance(entry.host, str):
            return entry.host == target.host
        return address.version == entry.host.version and address in entry.host

    def _names(self, target: Target) -> bool:
        """Whether the operator named this host, or a network that could hold what it resolves to, with this port."""
        literal = _address(target.host)
        for entry in self._allowed:
            if not entry.has(target.port):
                continue
            if isinstance(entry.host, str):
                if entry.host == target.host:
                    return True
            elif literal is None:
                if entry.ports is not None or target.port in self._ports:
                    return True
            elif literal.version == entry.host.version and literal in entry.host:
                return True
        return False


def is_public(address: IPAddress) -> bool:
    """Whether an address is one of the public internet, and not a way of writing another one."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return not any(address.version == network.version and address in network for network in _REFUSED)


def _carries(address: IPAddress, wanted: Callable[[IPAddress], bool]) -> bool:
    """Whether an IPv6 address holds an IPv4 address with this property: mapped, 6to4, NAT64 or the like."""
    if isinstance(address, ipaddress.IPv4Address):
        return False
    number = int(address)
    held = [number & 0xFFFFFFFF, number >> 80 & 0xFFFFFFFF]
    return any(wanted(ipaddress.IPv4Address(part)) for part in held)


def _address(text: str) -> IPAddress | None:
    """The address that a text is in its one canonical way of writing; None: it is a name."""
    if "%" in text:
        return None  # an interface of this machine
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _host(text: str) -> str:
    """A host in the one form that is compared and looked up.

    Raises:
        InvalidArgument: it is neither a name nor an address written in the usual way.
    """
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise InvalidArgument("the webhook's host is not an IPv6 address") from None
    try:
        name = text.lower() if text.isascii() else idna.encode(text, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise InvalidArgument("the webhook's host is not a name") from None
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # what ends in a number is an IPv4 address to some reader
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise InvalidArgument("an IPv4 address is written as four decimal numbers") from None
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidArgument("the webhook's host is not a name")
    return name


def _allowed(entry: str) -> _Allowed:
    refusal = InvalidArgument(
        f"{entry[:80]!r} is no host: write NAME, ADDRESS or NETWORK, perhaps with :PORT or :FIRST-LAST"
    )
    match = _ENTRY.fullmatch(entry.strip())
    if match is None:
        raise refusal
    text = match["host"].strip("[]")
    ports = _span(match["port"], match["last"]) if match["port"] else None
    if ports is not None and not 1 <= ports.start < ports.stop <= 65_536:
        raise InvalidArgument(f"{entry[:80]!r} names no port")
    try:
        return _Allowed(ipaddress.ip_network(text), ports)
    except ValueError:
        pass  # a name
    try:
        return _Allowed(_host(text), ports)
    except InvalidArgument:
        raise refusal from None


def _span(first: str, last: str | None) -> range:
    return range(int(first), int(last or first) + 1)
