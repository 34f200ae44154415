"""The latest news from upstream: all is well, or when to try again."""

import math
from collections.abc import Callable

from worker.pool.policy import Policy

QUIET = 2.0
"""After this many times the longest back-off without a failure, the next one is taken for a new outage."""

LONGEST_FLOOR = 10.0
"""An error that says itself when to come back is believed up to this many times the longest back-off."""


class Outage:
    """Back-off shared by all opens of a pool: one failure slows them all, one success frees them all.

    Full jitter (a delay drawn between nothing and a doubling ceiling), because many processes lose the same upstream
    at the same moment and must not come back at the same moment. A success alone does not bring the ceiling down: an
    upstream that takes connections and drops them would be asked for more without pause. Knows no entries, no waiters.
    """

    def __init__(self, policy: Policy, random: Callable[[], float]) -> None:
        self.error: BaseException | None = None
        self.until = -math.inf
        """When the next open may begin."""
        self._policy = policy
        self._random = random
        self._ceiling = 0.0
        self._failed_last = -math.inf

    def failed(self, error: BaseException, now: float) -> None:
        """An open failed, or what it made was dead before its first use."""
        if now >= self.until:  # else: begun together, failed together: one step of back-off, not one for each
            self._raise_ceiling(now)
            self.until = now + self._random() * self._ceiling
        if floor := self._floor(error):
            self.until = max(self.until, now + floor + self._random() * self._ceiling)
        self.error, self._failed_last = error, now

    def connected(self) -> None:
        """An open succeeded."""
        self.error = None
        self.until = -math.inf

    def proven(self) -> None:
        """What was opened proved good."""
        self._ceiling = 0.0

    @property
    def hopeless(self) -> bool:
        """The latest error said itself that trying again cannot help. Read by shape: the pool knows no error types."""
        return getattr(self.error, "retryable", True) is False

    @property
    def last_error(self) -> str:
        return "" if self.error is None else type(self.error).__name__

    def _raise_ceiling(self, now: float) -> None:
        policy = self._policy
        if now - self._failed_last > QUIET * policy.backoff_max:
            self._ceiling = 0.0
        # Doubled step by step: first * 2**failures overflows a float after some hours of outage.
        self._ceiling = min(2 * self._ceiling or policy.backoff_first, policy.backoff_max)

    def _floor(self, error: BaseException) -> float:
        """What the error says of when to come back, in seconds. Read by shape, too."""
        return min(getattr(error, "retry_after", None) or 0.0, LONGEST_FLOOR * self._policy.backoff_max)
