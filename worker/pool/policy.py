"""The limits of a pool."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Sizes are counts, times are seconds. `math.inf` switches off a limit of time or rate.

    `max_size` bounds what is idle, lent or being opened; what is being closed is no longer counted, for a slow goodbye
    must not hold up its replacement. What is above `min_size` is overflow: opened when all are lent, closed on return.
    """

    min_size: int = 2  # kept warm; the same as max_size by default, because a fixed size takes spikes best
    max_size: int = 2
    max_leased: int | None = None  # lent at once; None: as many as there may be
    max_waiting: int = 64  # 0: nobody waits, only what is warm is lent
    lease_timeout: float = 30.0
    max_idle: float = 50.0  # below the 60 s after which upstream hangs up
    max_unused: float = 50.0  # the same for one that was never lent
    max_lifetime: float = 1800.0
    max_lease: float = 6 * 3600.0  # a leak watch, not a limit for jobs: above the longest recording
    grace: float = 0.0  # so long after these ages it may still be lent: not all idle ones are replaced at once
    jitter: float = 0.05  # the part by which these ages may be shorter, drawn for each entry
    check_every: float = 5.0  # between two looks at an idle entry
    openers: int = 2  # opens at once
    opens_per_second: float = 20.0
    spread: float = 0.0  # warming begins at a random moment within this; whoever waits is not kept waiting by it
    backoff_first: float = 0.1
    backoff_max: float = 30.0

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_times()
        self._check(0 <= self.jitter < 1, "jitter", "must be at least 0 and below 1")

    @property
    def lendable(self) -> int:
        """How many may be lent at once."""
        return self.max_size if self.max_leased is None else min(self.max_leased, self.max_size)

    def _check_sizes(self) -> None:
        self._check(self.max_size >= 1, "max_size", "must be at least 1")
        self._check(0 <= self.min_size <= self.max_size, "min_size", f"must be between 0 and max_size={self.max_size}")
        self._check(self.max_leased is None or self.max_leased >= 1, "max_leased", "must be at least 1")
        self._check(self.max_waiting >= 0, "max_waiting", "must not be negative")
        self._check(
            self.max_waiting > 0 or self.min_size > 0,
            "max_waiting",
            "with min_size=0 lends nothing: raise one of them",
        )
        self._check(self.openers >= 1, "openers", "must be at least 1")

    def _check_times(self) -> None:
        self._check(0 <= self.lease_timeout < math.inf, "lease_timeout", "must be finite and not negative")
        for name in ("spread", "grace"):
            self._check(0 <= getattr(self, name) < math.inf, name, "must be finite and not negative")
        for name in ("max_idle", "max_unused", "max_lifetime", "max_lease", "check_every", "opens_per_second"):
            self._check(getattr(self, name) > 0, name, "must be above 0 (math.inf for no limit)")
        self._check(0 < self.backoff_first < math.inf, "backoff_first", "must be finite and above 0")
        self._check(
            self.backoff_first <= self.backoff_max < math.inf,
            "backoff_max",
            f"must be finite and at least backoff_first={self.backoff_first}",
        )

    def _check(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise ValueError(f"{name}={getattr(self, name)} {rule}")
