"""A real transport for tests that want to wait for its next message."""

import select
import time
from collections import deque
from typing import Any, Final

from worker.recognition import RecognitionError, WebSocketTransport

PATIENCE: Final = 10.0
"""Seconds, more than any wait that ends well."""


class Waiting:
    """A transport for who wants to wait: does what the I/O loop does, for one connection in the caller's thread."""

    def __init__(self, transport: WebSocketTransport) -> None:
        self.transport = transport
        self._heard: deque[str | RecognitionError] = deque()

    def __repr__(self) -> str:
        return repr(self.transport)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def send(self, data: str | bytes | memoryview, timeout: float = PATIENCE) -> None:
        """All of it. TimeoutError: something is left, and goes with the next."""
        deadline = time.monotonic() + timeout
        done = self.transport.send(data)
        while not done:
            self._wait(select.POLLOUT, deadline)
            done = self.transport.flush()

    def receive(self, timeout: float) -> str | None:
        """The next message; None when none came in so many seconds."""
        deadline = time.monotonic() + timeout
        self._look()
        while not self._heard:
            try:
                self._wait(select.POLLIN, deadline)
            except TimeoutError:
                return None
            self._look()
        heard = self._heard.popleft()
        if isinstance(heard, RecognitionError):
            raise heard
        return heard

    def _look(self) -> None:
        if not self._heard:
            try:
                self._heard.extend(self.transport.receive())
            except RecognitionError as error:
                self._heard.append(error)

    def _wait(self, wanted: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        poll = select.poll()
        poll.register(self.transport.fileno(), wanted | (select.POLLOUT if self.transport.is_blocked() else 0))
        poll.poll(left * 1000)
