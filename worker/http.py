"""The process's pooled HTTP connections: guarded, bounded in number, in time and in age."""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, EmptyPoolError, NameResolutionError, NewConnectionError
from urllib3.util import Timeout
from urllib3.util.connection import create_connection

from worker.addresses import ForbiddenAddress, Guard, Resolver
from worker.patience import PatientResponse, alarm

__all__ = ["ForbiddenAddress", "HttpLimits", "HttpPool"]

# urllib3 writes whole URLs, and with them signatures, at DEBUG and WARNING.
logging.getLogger("urllib3").setLevel(logging.ERROR)
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpLimits:
    """Sizes and times of the pool; times in seconds.

    `maxsize` is how many connections of a host are kept; with `block`, also how many are in use at once. `total` is how
    many of all hosts are in use at once. A request beyond waits up to `connect_timeout`. Both are off because a
    download at the pace of speech holds its connection for as long as the recording, so that the next one would wait
    for another to end; jobs are bounded already. `idle`: a connection unused for longer is not used again.
    """

    hosts: int = 32
    maxsize: int = 16
    block: bool = False
    total: int | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 10.0
    idle: float = 60.0


class _Guarded(HTTPConnection):
    """Connects only to an address that the guard has seen: the one it looked at is the one used."""

    response_class = PatientResponse

    def __init__(self, *args: Any, guard: Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard
        self.free_since = time.monotonic()

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

    def connect(self) -> None:
        with alarm(self.timeout):
            super().connect()


class _Pool(HTTPConnectionPool):
    """The connections of one host. `gate` lets no more through than there may be of all hosts."""

    ConnectionCls = _Guarded

    def __init__(self, *args: Any, gate: threading.Semaphore | None, idle: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._gate, self._idle = gate, idle

    def _get_conn(self, timeout: float | None = None) -> Any:
        # What urllib3 takes here it gives back below, exactly once: None, if it could not be used.
        if self._gate is not None and not self._gate.acquire(timeout=timeout):
            raise EmptyPoolError(self, "no connection became free in time")
        try:
            found: Any = super()._get_conn(timeout)
        except EmptyPoolError:
            self._release()
            raise
        if time.monotonic() - found.free_since > self._idle:
            found.close()  # it connects again when it is used
        return found

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.free_since = time.monotonic()
        try:
            super()._put_conn(conn)
        finally:
            self._release()

    def _release(self) -> None:
        if self._gate is not None:
            self._gate.release()


class _PoolTLS(_Pool, HTTPSConnectionPool):
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
        self._guard = Guard(allow_private, resolve)
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

        The caller reads it to the end or closes it, then calls `release_conn()`. `read_timeout` is for the whole head,
        and then for each `read1`; a longer `read` has it for each packet. Raises `ForbiddenAddress` and urllib3's
        `HTTPError`s, whose texts hold the whole URL: never log or show them.
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
            pool_timeout=connect,  # counts only with `block` or `total`
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
        gate = threading.Semaphore(limits.total) if limits.total is not None else None
        how: dict[str, Any] = {"guard": self._guard, "gate": gate, "idle": limits.idle}
        pools: Any = {"http": partial(_Pool, **how), "https": partial(_PoolTLS, **how)}
        manager.pool_classes_by_scheme = pools
        return manager
