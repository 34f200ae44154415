"""One request at a time in its own thread, over the connections of an `HttpPool`. The pool of a process without an
event loop, and of one in which gevent has patched what an event loop stands on.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    EmptyPoolError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from worker.generation.errors import Garbled, Lost, Unanswered, Unreachable
from worker.generation.messages import Reply, seconds
from worker.http import ForbiddenAddress, HttpPool

MOST_BYTES = 8 * 1024**2
"""Of one answer. The longest that a model gives is far below a megabyte."""

BLOCK = 64 * 1024


class SyncClient:
    """Posts and waits. `timeout` is in seconds, for all of the answer."""

    def __init__(self, http: HttpPool, timeout: float) -> None:
        self._http = http
        self._timeout = timeout

    def begin(self, url: str, headers: Mapping[str, str], body: bytes) -> "Future[Reply]":
        """Post it in a thread of its own. Who does not wait for it any more leaves it to its timeout."""
        future: Future[Reply] = Future()
        threading.Thread(target=self._run, args=(future, url, headers, body), name="generation", daemon=True).start()
        return future

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Post it and return what comes back. Raises RecognitionError."""
        until = time.monotonic() + self._timeout
        with translated():
            response = self._http.request("POST", url, headers=headers, body=body, read_timeout=self._timeout)
            whole = False
            try:
                reply = Reply(
                    status=response.status,
                    body=_read(response, until),
                    retry_after=seconds(response.headers.get("Retry-After")),
                )
                whole = True
            finally:
                if not whole:
                    response.close()
                response.release_conn()
            return reply

    def close(self) -> None:
        """Close the connections that are kept."""
        self._http.close()

    def _run(self, future: "Future[Reply]", url: str, headers: Mapping[str, str], body: bytes) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(self.post(url, headers, body))
        except BaseException as error:  # whatever it is, somebody waits
            future.set_exception(error)


def _read(response: BaseHTTPResponse, until: float) -> bytes:
    """All of the body. The pool's timeout is for each single wait, and with a byte a minute it would never end."""
    body = bytearray()
    while block := response.read1(BLOCK):
        body += block
        if len(body) > MOST_BYTES:
            raise Garbled(f"it has more than {MOST_BYTES} bytes")
        if time.monotonic() > until:
            raise Unanswered
    return bytes(body)


@contextmanager
def translated() -> Iterator[None]:
    """The library's errors as ours, by their type: their texts hold the address."""
    try:
        yield
    except (ForbiddenAddress, NewConnectionError, ConnectTimeoutError, SSLError) as error:
        raise Unreachable(type(error).__name__) from None
    except (ReadTimeoutError, EmptyPoolError):
        raise Unanswered from None
    except HTTPError as error:
        raise Lost(type(error).__name__) from None
