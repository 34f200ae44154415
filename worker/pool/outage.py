"""The latest news from upstream: all is well, or when to try again."""

import math
from collections.abc import Callable

from worker.pool.policy import Policy


class Outage:
    """Back-off shared by all opens of a pool: one failure slows them all, one success frees them all.

    Full jitter (a delay drawn between nothing and a doubling ceiling), because many processes lose the same upstream
    at the same moment and must not come back at the same moment. Knows no entries and no waiters.
    """

    def __init__(self, policy: Policy, random: Callable[[], float]) -> None:
        self.error: BaseException | None = None
        self._policy = policy
        self._random = random
        self._ceiling = 0.0
        self._until = -math.inf

    def failed(self, error: BaseException, now: float) -> None:
        self.error = error
        if now < self._until:
            return  # begun together, failed together: one step of back-off, not one for each
        # Doubled step by step: first * 2**failures overflows a float after some hours of outage.
        self._ceiling = min(2 * self._ceiling or self._policy.backoff_first, self._policy.backoff_max)
        self._until = now + self._random() * self._ceiling

    def over(self) -> None:
        self.error = None
        self._ceiling = 0.0
        self._until = -math.inf

    @property
    def hopeless(self) -> bool:
        """The latest error said itself that trying again cannot help. Read by shape: the pool knows no error types."""
        return getattr(self.error, "retryable", True) is False

    @property
    def last_error(self) -> str:
        return "" if self.error is None else type(self.error).__name__

    def delay(self, now: float) -> float:
        """How long to wait before the next open."""
        return max(0.0, self._until - now)
