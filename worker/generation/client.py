"""Text models as a process asks them: over kept connections, and so many requests at a time, of all its jobs together.

one request            its thread waits for it (`sync`): a process that never has more needs no event loop
several at a time      one event loop waits for all (`aio`)
several, under gevent  a greenlet each waits (`sync`): an event loop stands on what gevent has patched
"""

import ssl
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from worker.generation.limits import Limits
from worker.generation.messages import PATH, Caller, Prompt, Reply
from worker.generation.sync import SyncClient
from worker.http import HttpLimits, HttpPool
from worker.patched import is_patched

if TYPE_CHECKING:
    from worker.generation.aio import AsyncClient


class Way(Protocol):
    """How a request is sent."""

    def begin(self, url: str, headers: Any, body: bytes) -> "Future[Reply]": ...


class Client:
    """Begins requests from any thread. Making it opens nothing."""

    def __init__(self, base_url: str, limits: Limits, context: ssl.SSLContext) -> None:
        self._url = base_url + PATH
        self._limits = limits
        self._context = context
        self._room = threading.BoundedSemaphore(limits.at_once)
        # The address is the operator's own and may be in his own network.
        self._sync = SyncClient(HttpPool(http_limits(limits), allow_private=True, context=context), limits.timeout)
        self._lock = threading.Lock()
        self._made: AsyncClient | None = None

    def __repr__(self) -> str:
        return f"<Client, at most {self._limits.at_once} requests at once>"

    def begin(self, prompt: Prompt, caller: Caller, *, alone: bool, patience: float) -> "Future[Reply] | None":
        """Send a prompt; None if within `patience` seconds there was no room for it. `alone`: no other of its job is
        sent meanwhile.

        What is returned may be cancelled. Raises MissingApiKey.
        """
        headers, body = caller.headers(), prompt.encode()
        if not self._room.acquire(timeout=patience):
            return None
        try:
            future = self._way(alone).begin(self._url, headers, body)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def close(self, timeout: float) -> None:
        """Close all connections; what is under way in the event loop is broken off."""
        self._sync.close()
        if self._made is not None:
            self._made.close(timeout)

    def _way(self, alone: bool) -> Way:
        return self._sync if alone or is_patched("threading") else self._many()

    def _many(self) -> "AsyncClient":
        with self._lock:
            if self._made is None:
                # Only here: the library takes 13 MB, in each of a worker's processes.
                from worker.generation.aio import AsyncClient

                self._made = AsyncClient(self._limits, self._context)
            return self._made


def http_limits(limits: Limits) -> HttpLimits:
    """The same limits for the pool of blocking connections."""
    return HttpLimits(
        hosts=1,
        maxsize=limits.at_once,
        block=True,
        total=limits.at_once,
        connect_timeout=limits.connect_timeout,
        read_timeout=limits.timeout,
        idle=limits.idle_time,
    )
