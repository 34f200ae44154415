"""When the next open may begin."""

import math
from collections.abc import Callable

from worker.pool.outage import Outage
from worker.pool.policy import Policy


class Pace:
    """Not faster than a rate, not in step with other processes, and with back-off from an upstream that fails.

    Twenty processes that start together, or lose their connections together, must not come as one wave: each begins to
    warm at a moment of its own and spaces its opens unevenly. Who waits is spared the first of these, not the others.
    """

    def __init__(self, policy: Policy, random: Callable[[], float]) -> None:
        self.outage = Outage(policy, random)
        self._policy = policy
        self._random = random
        self._slot = -math.inf
        self._calm: float | None = None

    def start(self, now: float) -> None:
        """The pool begins to warm; again does nothing."""
        if self._calm is None:
            self._calm = now + self._random() * self._policy.spread

    def due(self, urgent: bool) -> float:
        """When the next open may begin; urgent: somebody waits for it."""
        calm = -math.inf if urgent or self._calm is None else self._calm
        return max(self._slot, self.outage.until, calm)

    def took(self, now: float) -> None:
        """An open was ordered."""
        self._slot = now + (0.5 + self._random()) / self._policy.opens_per_second

    @property
    def lanes(self) -> int:
        """How many opens may run at once: one, as a probe, while they fail."""
        return self._policy.openers if self.outage.error is None else 1
