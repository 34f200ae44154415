"""Bounds the time of an answer as a whole.

A socket's timeout is for one packet: a server that sends a byte a second never runs into it, and a head of a hundred
lines, a chunk's size or the lines after the last chunk may have as many bytes as it likes.
"""

import http.client
import io
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from worker.patched import is_patched

__all__ = ["PatientResponse", "alarm"]


def alarm(seconds: float | None) -> AbstractContextManager[object]:
    """Under gevent, whose TLS waits anew for each packet of a record or a handshake: one bound for all of them.

    Elsewhere the socket's timeout is that already. Raises `TimeoutError` in the block. Never imports gevent.
    """
    if seconds is None or not is_patched("socket"):
        return nullcontext()
    bound: AbstractContextManager[object] = sys.modules["gevent"].Timeout(seconds, TimeoutError("timed out"))
    return bound


class PatientResponse(http.client.HTTPResponse):
    """An answer whose head, and each `read1` of whose body, comes within the socket's timeout or not at all."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        self._incoming = _Incoming(sock)
        super().__init__(self._incoming, *args, **options)  # type: ignore[arg-type]

    def begin(self) -> None:
        """Read the head. Raises `TimeoutError`, and what http.client raises."""
        with self._incoming.bounded():
            super().begin()

    def read1(self, n: int = -1) -> bytes:
        """What the body has next. Raises `TimeoutError`, and what http.client raises."""
        with self._incoming.bounded():
            return super().read1(n)


class _Incoming(io.RawIOBase):
    """What a socket receives, as a file."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._patience: float | None = sock.gettimeout()
        self._until: float | None = None
        self._is_first = True

    def makefile(self, mode: str) -> io.BufferedReader:
        """All that http.client wants of a socket."""
        return io.BufferedReader(self)

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Within the block all waits together take no longer than one may."""
        if self._patience is None:
            yield
            return
        self._until, self._is_first = time.monotonic() + self._patience, True
        try:
            yield
        finally:
            self._until = None
            if not self._is_first:
                with suppress(OSError):  # it was read to its end and is closed
                    self._socket.settimeout(self._patience)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        with alarm(self._left()):
            return self._raw.readinto(buffer)

    def close(self) -> None:
        super().close()
        self._raw.close()

    def _left(self) -> float | None:
        """Seconds for the next wait, which the socket knows then, too."""
        if self._until is None:
            return self._patience
        left = self._until - time.monotonic()
        if self._is_first:  # it may take all the time that there is: most answers need no more, and no change
            self._is_first = False
            return left
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)
        return left
