"""Where connections are opened: not faster than the account allows, those that a job waits for first, and while the
service is away by one probe of all workers.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import redis

from worker.quota.quota import Quota, Slot

PATIENCE = 60.0
"""Seconds after which a pool decides anew whether it needs the connection."""

LOOK_EVERY = 0.5
"""Seconds of one wait at most: somebody may have begun to wait for the connection."""

SLOWLY = 1.0
"""Seconds, about, from one open to the next in a process that does not know what others open."""

WARM_UP_PATIENCE = 5.0
"""Seconds that a warm-up task waits for quota. After that the connection has to do without."""

log = logging.getLogger("worker.quota")


class NotAdmitted(Exception):
    """Raised when no connection may be opened now."""


class Gate:
    """One process's way to an account's connections."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._closed = threading.Event()
        self._alone = threading.Lock()

    def close(self) -> None:
        """Nobody is let through any more."""
        self._closed.set()

    def admit(self, is_wanted: Callable[[], bool]) -> None:
        """Wait until a connection may be opened; `is_wanted` says whether a job waits for it. Raises NotAdmitted.

        While Redis is away nobody knows what others open: then each process opens one after the other, slowly.
        """
        until = time.monotonic() + PATIENCE
        while not self._closed.is_set() and time.monotonic() < until:
            try:
                may, wait = self._quota.ledger.open(urgent=is_wanted())
            except redis.RedisError:
                return self._slowly()
            if may and not self._closed.wait(wait):
                return None
            self._closed.wait(min(wait, LOOK_EVERY) * random.uniform(1.0, 1.5))
        raise NotAdmitted

    def _slowly(self) -> None:
        with self._alone:
            if self._closed.wait(SLOWLY * random.uniform(0.5, 1.5)):
                raise NotAdmitted

    def opened(self) -> None:
        """It was opened: the service is there."""
        self._tell(self._quota.ledger.opened)

    def failed(self, *, refused: bool, retry_after: float | None) -> None:
        """It could not be opened; `refused`: the service was there, and declined."""
        self._tell(lambda: self._quota.ledger.open_failed(refused=refused, retry_after=retry_after))

    def warm_up(self, model: str) -> AbstractContextManager[Slot | None]:
        """A slot for a warm-up task, or None: jobs go first."""
        return self._quota.calm_slot(model, WARM_UP_PATIENCE)

    def _tell(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except redis.RedisError as error:
            log.info("Redis was not told of a connection (%s)", type(error).__name__)
