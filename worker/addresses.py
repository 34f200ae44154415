"""The guard that keeps a process's HTTP off the private network.

A reference comes from outside, so its host may be anything: our own Redis, a router, the cloud's metadata service.
The guard looks at the address that a connection really goes to, right before it is made, so neither a redirect nor a
second DNS answer gets past it.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["ForbiddenAddress", "Guard", "Resolver", "is_metadata", "is_public"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[..., list[Any]]

_METADATA = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local, where nearly all of them are
        "fe80::/10",
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's host agent, a public address by its number
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::/32",  # AWS over IPv6: ::254, and ::23 of EKS
        "fd20:ce::254",  # Google Cloud over IPv6
        "fd00:42::42",  # Scaleway over IPv6
    )
)
_6TO4_RELAYS = ipaddress.ip_network("192.88.99.0/24")
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
"""RFC 8215: for a network's own translators. Their prefixes lie within it, and may be longer."""


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


def _translated(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that a network's own NAT64 may make of this one. Where in it they stand depends on the length
    of the translator's prefix, which we do not know.

    RFC 6052: after 48, 56 or 64 bits of prefix, where bits 64 to 71 do not count; or after 96.
    """
    if address not in _LOCAL_NAT64:
        return []
    number = int(address)
    without_gap = ((number >> 64) << 56) | (number & ((1 << 56) - 1))
    after = [without_gap >> (120 - length - 32) for length in (48, 56, 64)]
    return [ipaddress.IPv4Address(found & 0xFFFFFFFF) for found in (*after, number)]


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
    meant = [inner] if inner is not None else _translated(address)
    return any(map(is_metadata, meant)) or any(address in network for network in _METADATA)


class Guard:
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
