"""What a borrower can get instead of a lease.

    PoolError
    ├── PoolTimeout   waited as long as allowed, nothing came free
    ├── PoolFull      as many wait already as may wait
    ├── PoolClosed    the pool is closed, now or while waiting
    ├── OpenFailed    new ones are refused for a reason that trying again cannot mend
    └── LostUnused    not raised: the name under which the statistics count what died before its first use

Other people's errors appear by type name only: the text of a failed handshake may hold a secret.
"""


class PoolError(Exception):
    """The pool lent nothing. What the borrower does inside a lease never raises one."""


class PoolTimeout(PoolError):
    """Raised at the deadline of a lease, or of `wait`."""

    def __init__(self, what: str, seconds: float, figures: str, last_error: str = "", opening: int = 0) -> None:
        super().__init__(what, seconds, figures, last_error, opening)
        self.what = what
        self.seconds = seconds
        self.figures = figures
        self.last_error = last_error
        self.opening = opening

    def __str__(self) -> str:
        tail = f"; last error: {self.last_error}" if self.last_error else ""
        return f"{self.what} after {self.seconds:.1f} s ({self.figures}){tail}"


class PoolFull(PoolError):
    """Raised at once when nothing is idle and `max_waiting` others wait."""

    def __init__(self, pool: str, figures: str) -> None:
        super().__init__(pool, figures)
        self.pool = pool
        self.figures = figures

    def __str__(self) -> str:
        return f"no {self.pool} free and no room to wait ({self.figures})"


class PoolClosed(PoolError):
    """Raised when a closed pool is asked to lend, warm or open, and for all who wait when it is closed."""

    def __init__(self, pool: str) -> None:
        super().__init__(pool)
        self.pool = pool

    def __str__(self) -> str:
        return f"the pool of {self.pool} is closed"


class OpenFailed(PoolError):
    """Raised for all who wait when an open fails for good (`retryable` is False), and for newcomers until the next try.

    `error`, also the cause, is what the open raised.
    """

    def __init__(self, pool: str, error: BaseException) -> None:
        super().__init__(pool, error)
        self.pool = pool
        self.error = error
        self.__cause__ = error

    def __str__(self) -> str:
        return f"no {self.pool} can be opened: {type(self.error).__name__}"


class LostUnused(PoolError):
    """What was opened was unhealthy before its first use. It holds up further opens as a failed one does."""
