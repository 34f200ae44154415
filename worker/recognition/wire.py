"""A connected socket that never blocks. Knows TCP and TLS, no WebSocket.

Made in two steps of life. For the upgrade and the goodbye somebody waits: an operation is tried, and only when it would
block is there a wait, up to one deadline for all of them (websocket-client's own timeouts are per call of `recv`, it
reads the handshake's answer byte by byte, and its loop around `send` has no end at all). In between the I/O loop asks
for what is there and gives what is taken, and nobody waits here.

Trying first is also what makes TLS safe: bytes that the TLS layer has already decrypted are read before anybody polls a
socket that will never become readable for them. One read takes as much as a whole TLS record, so that nothing stays
behind in it.

`select.poll`, not `select.select`, which fails for descriptors from 1024 on; gevent patches both.
"""

import contextlib
import functools
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

T = TypeVar("T")

READ_SIZE: Final = 65536
# Eight seconds of audio: as much as a fast stream over a long distance has under way. By itself the kernel would take
# up to 4 MB, two minutes of audio, before anybody noticed that the network or the peer takes less than it is given.
SEND_BUFFER: Final = 262_144
# Keepalive finds a dead peer of an idle connection after 60 s. It is not sent while our own bytes wait for their
# acknowledgement, and then the kernel would go on for a quarter of an hour: that is what TCP_USER_TIMEOUT is for.
SOCKET_OPTIONS: Final = [
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),
        (socket.SOL_SOCKET, "SO_SNDBUF", SEND_BUFFER),
    )
    if hasattr(socket, name)  # not every system has all of them
]
_ASKED: Final[Mapping[type[Exception], int]] = {
    ssl.SSLWantReadError: select.POLLIN,
    ssl.SSLWantWriteError: select.POLLOUT,
}


_forks = 0
"""How many forks this process is away from the first: cheaper to ask than the process's number, for each frame."""


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Wire:
    """Bytes in and out of one socket, for one thread. Raises TimeoutError at the deadlines, OSError for the rest."""

    def __init__(self, sock: socket.socket, *, write_timeout: float) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._forks = _forks
        self._ending = threading.RLock()
        self._write_timeout = write_timeout
        self._unsent = b""
        self._reading_wants_write = self._writing_wants_read = False
        self._buffer = b""
        self._deadline = 0.0

    # -- for the I/O loop: nobody waits ----------------------------------------------------------------------------

    def fileno(self) -> int:
        """The socket's descriptor; -1 when it is closed."""
        return self._sock.fileno()

    @property
    def is_blocked(self) -> bool:
        """Whether it has to become writable before anything goes on: bytes are left, or TLS has something to say."""
        return (bool(self._unsent) and not self._writing_wants_read) or self._reading_wants_write

    @property
    def unsent(self) -> int:
        """Bytes that were given and that neither the network nor the peer has taken yet."""
        return len(self._unsent)

    def put(self, data: bytes) -> bool:
        """Send what goes at once and keep the rest for the next call. False: something is left.

        After an OSError a part may be under way: unusable.
        """
        if self._unsent:
            data = self._unsent + data
        self._writing_wants_read = False
        try:
            taken = self._sock.send(data) if data else 0
        except (BlockingIOError, ssl.SSLWantWriteError):
            taken = 0
        except ssl.SSLWantReadError:  # the peer wants a new key first: to wait for room to write would be to spin
            taken, self._writing_wants_read = 0, True
        self._unsent = data[taken:]
        return not self._unsent

    def take(self) -> bytes | None:
        """What one read gives: None when nothing is there, no bytes when the peer has closed."""
        self._reading_wants_write = False
        if self._buffer:  # came with the handshake's answer
            data, self._buffer = self._buffer, b""
            return data
        try:
            data = self._sock.recv(READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:  # a new key, for example, that has to be agreed upon
            self._reading_wants_write = True
            return None
        return data

    # -- for the upgrade and the goodbye: waits, with an end -------------------------------------------------------

    def read_until(self, deadline: float) -> None:
        """From now on, reading may last until this moment (monotonic)."""
        self._deadline = deadline

    def recv(self, size: int) -> bytes:
        """Some bytes, `size` at most; none when the peer has closed."""
        if not self._buffer:
            # A service that sends faster than we read must not hold us beyond the deadline either.
            if time.monotonic() >= self._deadline:
                raise TimeoutError
            self._buffer = self._try(functools.partial(self._sock.recv, READ_SIZE), select.POLLIN, self._deadline)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def send(self, data: bytes) -> int:
        """All of `data`, within the write timeout. After any exception a part may be under way: unusable."""
        deadline = time.monotonic() + self._write_timeout
        rest = memoryview(data)
        while rest:
            sent = self._try(functools.partial(self._sock.send, rest), select.POLLOUT, deadline)
            rest = rest[sent:]
        return len(data)

    def secure(self, context: ssl.SSLContext, host: str, deadline: float) -> None:
        """Put TLS on top, with the certificate checked against `host`, by `deadline`."""
        secured = context.wrap_socket(self._sock, server_hostname=host, do_handshake_on_connect=False)
        self._sock = secured
        self._try(secured.do_handshake, select.POLLIN, deadline)

    def gettimeout(self) -> float:
        """0, a socket's word for "does not block": websocket-client then leaves all waiting to us."""
        return 0.0

    def is_ours(self) -> bool:
        """False in a forked child. It has the same socket, on which a byte from it would fall into our stream."""
        return self._forks == _forks

    def abort(self) -> None:
        """End the connection at once, from any thread: who waits in it, or comes to it, finds it at its end.

        Goes below TLS, whose object is the owner's alone, and leaves the descriptor to the owner's `close`. Does
        nothing in a forked child, where it would end its parent's connection. Never raises.
        """
        if self.is_ours():
            with self._ending, contextlib.suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close at once, without a word, and forget what was not read. Never raises."""
        self._buffer = self._unsent = b""
        # Closed while another thread aborts, its descriptor could already be somebody else's connection. A forked
        # child may have got the lock in its taken state, and there nobody aborts.
        with self._ending if self.is_ours() else contextlib.nullcontext(), contextlib.suppress(OSError):
            self._sock.close()

    def _try(self, operation: Callable[[], T], wanted: int, deadline: float) -> T:
        while True:
            try:
                return operation()
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
                # TLS may have to read in order to write, and the reverse.
                self._wait(_ASKED.get(type(exc), wanted), deadline)

    def _wait(self, wanted: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        poll = select.poll()
        poll.register(self._sock, wanted)
        poll.poll(left * 1000)


def dial(host: str, port: int, deadline: float) -> socket.socket:
    """A TCP connection, made by `deadline` (monotonic), or the last address's OSError.

    Each address gets an equal share of what is left, so that a route that swallows packets does not cost the others
    their turn. Name resolution has no deadline of ours: it lasts as long as the resolver's own limits.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for position, (family, kind, proto, _, address) in enumerate(found):
        share = (deadline - time.monotonic()) / (len(found) - position)
        try:
            return _connected(socket.socket(family, kind, proto), address, share)
        except OSError as exc:  # a family that this machine does not have is one, too
            failure = exc
    raise failure


def _connected(sock: socket.socket, address: Any, timeout: float) -> socket.socket:
    with contextlib.ExitStack() as unless_connected:
        unless_connected.callback(sock.close)
        for option in SOCKET_OPTIONS:
            sock.setsockopt(*option)
        sock.settimeout(max(0.001, timeout))  # 0 would mean: do not wait at all
        sock.connect(address)
        unless_connected.pop_all()
    return sock
