"""The process's pooled HTTP connections, and the guard that keeps them off the private network.

A reference comes from outside, so its host may be anything: our own Redis, a router, the cloud's metadata service.
The guard looks at the address that a connection really goes to, right before it is made, so neither a redirect nor a
second DNS answer gets past it.
"""

import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import Timeout
from urllib3.util.connection import create_connection

__all__ = ["ForbiddenAddress", "HttpLimits", "HttpPool", "is_metadata", "is_public"]

# urllib3 writes whole URLs, and with them signatures, at DEBUG and WARNING.
logging.getLogger("urllib3").setLevel(logging.ERROR)
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[..., list[Any]]

_LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
_METADATA = tuple(
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's host agent, a public address by its number
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS over IPv6
        "fd20:ce::254",  # Google Cloud over IPv6
    )
)
_6TO4_RELAYS = ipaddress.ip_network("192.88.99.0/24")
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class ForbiddenAddress(Exception):
    """Raised when a host's every address is one that we refuse to connect to. Holds the host, never the address.

    `allowable` says whether `allow_private` would have let it through.
    """

    def __init__(self, host: str, allowable: bool) -> None:
        super().__init__(host, allowable)
        self.host = host
        self.allowable = allowable

    def __str__(self) -> str:
        return f"{self.host} is at an address that is not allowed"


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64), if any."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def is_public(address: Address) -> bool:
    """Whether the address is on the open internet: not private, loopback, link-local, shared (CGNAT), multicast or
    reserved.
    """
    inner = _embedded(address)
    if inner is not None:
        return is_public(inner)
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_IPV6:
        return False  # ipaddress calls unassigned space global
    # 2001::/23 holds Teredo, ORCHID and other addresses that lead elsewhere than they say; `is_global` knows them.
    return address.is_global and not address.is_multicast and address not in _6TO4_RELAYS


def is_metadata(address: Address) -> bool:
    """Whether a cloud's metadata service answers there.

    It hands out the machine's credentials, and no recording lives there.
    """
    inner = _embedded(address)
    return (inner is not None and is_metadata(inner)) or address in _METADATA or any(address in n for n in _LINK_LOCAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpLimits:
    """Sizes and times of the pool; times in seconds.

    `block` is off because a download at the pace of speech holds its connection for as long as the recording: with it
    on, the recording number `maxsize + 1` from one host would wait for another to end. `maxsize` is then how many are
    kept, not made.
    """

    hosts: int = 32
    maxsize: int = 16
    block: bool = False
    connect_timeout: float = 5.0
    read_timeout: float = 10.0


class _Guard:
    """Turns a host into addresses that may be connected to, and counts."""

    def __init__(self, allow_private: bool, resolve: Resolver | None) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        self._lock = threading.Lock()
        self.opened = 0
        self.refused = 0

    def addresses(self, host: str, port: int) -> list[str]:
        """The host's addresses in the resolver's order. Raises `socket.gaierror`, `ForbiddenAddress`."""
        resolve = self._resolve or socket.getaddrinfo
        found = [str(entry[4][0]) for entry in resolve(host.strip("[]"), port, type=socket.SOCK_STREAM)]
        allowed = [text for text in found if self._allows(ipaddress.ip_address(text))]
        if not allowed:
            with self._lock:
                self.refused += 1
            raise ForbiddenAddress(host, not any(is_metadata(ipaddress.ip_address(text)) for text in found))
        return allowed

    def connected(self) -> None:
        with self._lock:
            self.opened += 1

    def _allows(self, address: Address) -> bool:
        return not is_metadata(address) and (self._allow_private or is_public(address))


class _Guarded(HTTPConnection):
    """Connects only to an address that the guard has seen: the one it looked at is the one used."""

    def __init__(self, *args: Any, guard: _Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard

    def _new_conn(self) -> socket.socket:
        try:
            addresses = self._guard.addresses(self._dns_host, self.port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that IDNA cannot hold
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from None
        connected = self._first(addresses)
        self._guard.connected()
        return connected

    def _first(self, addresses: list[str]) -> socket.socket:
        # One timeout for all addresses together, else a host with ten dead ones holds a thread ten times as long.
        until = time.monotonic() + (self.timeout or 0.0)
        failure: Exception = NewConnectionError(self, "no address answered")
        for address in addresses:
            left = until - time.monotonic() if self.timeout else None
            if left is not None and left <= 0:
                break
            try:
                return create_connection((address, self.port), left, self.source_address, self.socket_options)
            except TimeoutError:
                failure = ConnectTimeoutError(self, "connecting took too long")
            except OSError:
                failure = NewConnectionError(self, "the connection was refused")
        raise failure


class _GuardedTLS(_Guarded, HTTPSConnection):
    """The same over TLS: the certificate is still checked against the host's name."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Guarded


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _GuardedTLS


class HttpPool:
    """All HTTP of one process: kept connections, one TLS context, no redirects, no retries, no proxy from the
    environment.

    Nothing is made before the first request. `context` defaults to the system's certificates (`SSL_CERT_FILE` is
    honoured), `resolve` to `socket.getaddrinfo`. `allow_private` opens private networks; metadata services stay
    closed in any case.
    """

    def __init__(
        self,
        limits: HttpLimits | None = None,
        *,
        allow_private: bool = False,
        context: ssl.SSLContext | None = None,
        resolve: Resolver | None = None,
    ) -> None:
        self._limits = limits or HttpLimits()
        self._context = context
        self._guard = _Guard(allow_private, resolve)
        self._lock = threading.Lock()
        self._manager: urllib3.PoolManager | None = None
        self._requests = 0

    def __repr__(self) -> str:
        return "<HttpPool {hosts} hosts, {connections} connections made, {requests} requests>".format(**self.stats())

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and return the response with its body still to be read; a redirect is an answer like any
        other.

        The caller reads it to the end or closes it, then calls `release_conn()`. `read_timeout` is for each single
        wait, not for the whole. Raises `ForbiddenAddress` and urllib3's `HTTPError`s, whose texts hold the whole URL:
        never log or show them.
        """
        limits = self._limits
        connect = limits.connect_timeout if connect_timeout is None else connect_timeout
        read = limits.read_timeout if read_timeout is None else read_timeout
        return self._open().urlopen(
            method,
            url,
            headers=dict(headers or {}),
            body=body,
            timeout=Timeout(connect=connect, read=read),
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            pool_timeout=connect,  # counts only with `block`
        )

    def stats(self) -> dict[str, int]:
        """Counts since the start: requests, connections made, requests refused by the guard; and hosts with a pool
        now.
        """
        hosts = len(self._manager.pools) if self._manager else 0
        guard = self._guard
        return {"requests": self._requests, "connections": guard.opened, "refused": guard.refused, "hosts": hosts}

    def close(self) -> None:
        """Close every kept connection. Those in use close when they are given back; a later request starts afresh."""
        with self._lock:
            manager, self._manager = self._manager, None
        if manager is not None:
            manager.clear()

    def _open(self) -> urllib3.PoolManager:
        with self._lock:
            self._requests += 1
            if self._manager is None:
                self._manager = self._make()
            return self._manager

    def _make(self) -> urllib3.PoolManager:
        # One context for all: making one costs 30 ms of CPU.
        self._context = self._context or ssl.create_default_context()
        limits = self._limits
        manager = urllib3.PoolManager(
            limits.hosts, maxsize=limits.maxsize, block=limits.block, ssl_context=self._context, retries=False
        )
        pools: Any = {"http": partial(_Pool, guard=self._guard), "https": partial(_PoolTLS, guard=self._guard)}
        manager.pool_classes_by_scheme = pools
        return manager
