"""One socket of the load server, plain or TLS, that never blocks."""

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

from bench.load.figures import Figures
from bench.load.speech import Malformed, Speech

MOST_UNREAD: Final = 1024 * 1024  # bytes that a client may leave unread; then we read no more of it
NOT_NOW: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
IN, OUT = select.EPOLLIN, select.EPOLLOUT

BUFFER: Final = bytearray(256 * 1024)
"""What was just received. One for all links: it is dealt with before the next is received."""


class Link:
    """Moves bytes between a socket and its speech. `gone` is called once, when the client left or was dropped."""

    def __init__(
        self,
        sock: socket.socket,
        speech: Speech,
        figures: Figures,
        watch: Callable[[int, int], None],
        gone: Callable[["Link"], None],
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self._speech = speech
        self._figures = figures
        self._watch = watch
        self._gone = gone
        self._watched = IN
        self._unsent = bytearray()
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._shaken = self._tls is None

    def ready(self, events: int) -> None:
        """The kernel says that something can be done. Whatever the client did wrong ends this link alone."""
        try:
            if not self._shaken:
                self._shake()
                return
            if events & OUT:
                self._send(b"")
            if events & ~OUT:
                self._receive()
        except NOT_NOW:
            return
        except (Malformed, OSError):
            self._drop(is_error=True)

    def close(self) -> None:
        """Hang up."""
        self._speech.end()
        self.sock.close()

    def _shake(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantWriteError:
            self._watch_for(OUT)
        except ssl.SSLWantReadError:
            self._watch_for(IN)
        else:
            self._shaken = True
            self._watch_for(IN)

    def _receive(self) -> None:
        # What TLS has already decrypted the kernel does not know of.
        while True:
            size = self.sock.recv_into(BUFFER)
            if not size:
                self._drop(is_error=self._speech.in_task)
                return
            self._speech.feed(BUFFER, size, time.monotonic())
            if self._speech.out:
                said = b"".join(self._speech.out)
                self._speech.out.clear()
                self._send(said)
            if self._speech.is_over:
                self._drop(is_error=False)
                return
            if self._tls is None or not self._tls.pending():
                return

    def _send(self, said: bytes) -> None:
        if self._unsent:
            self._unsent += said
            said = bytes(self._unsent)
        try:
            sent = self.sock.send(said) if said else 0
        except NOT_NOW:
            sent = 0
        if sent < len(said) or self._unsent:
            self._unsent = bytearray(said[sent:])
            self._watch_for(0 if len(self._unsent) > MOST_UNREAD else IN, bool(self._unsent))

    def _watch_for(self, events: int, is_unsent: bool = False) -> None:
        wanted = events | OUT if is_unsent else events
        if wanted != self._watched:
            self._watched = wanted
            self._watch(self.fd, wanted)

    def _drop(self, is_error: bool) -> None:
        self._figures.errors += is_error
        self._gone(self)
