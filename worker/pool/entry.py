"""What the pool knows of one thing that it lends."""

import enum
import math
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class State(enum.Enum):
    IDLE = "idle"  # free: the only state from which an entry is lent or retired
    RESERVED = "reserved"  # in question: nobody else may lend it, close it or talk to it
    LEASED = "leased"  # the borrower's alone
    GONE = "gone"  # no longer in the book


class Reason(enum.Enum):
    """Why an entry left the book: planned ends are retirements, the others discards."""

    MAX_IDLE = "max_idle"
    MAX_LIFETIME = "max_lifetime"
    SURPLUS = "surplus"  # more than are kept
    REPLACED = "replaced"  # made room for a new one that somebody asked for
    CLOSED = "closed"  # the pool was
    UNHEALTHY = "unhealthy"
    NOT_REUSABLE = "not_reusable"
    MAX_LEASE = "max_lease"
    FORKED = "forked"  # the parent process's

    @property
    def word(self) -> str:
        return "retired" if self in _PLANNED else "discarded"


_PLANNED = {Reason.MAX_IDLE, Reason.MAX_LIFETIME, Reason.SURPLUS, Reason.REPLACED, Reason.CLOSED}


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """A resource and its history. Nothing is ever written on the resource itself.

    `last_used` is when it last changed hands, `checked` when it was last known to be healthy; the limits are its own,
    so that entries born together end apart.
    """

    resource: T
    born: float
    max_idle: float = math.inf
    max_unused: float = math.inf
    max_lifetime: float = math.inf
    last_used: float = -math.inf
    checked: float = -math.inf
    uses: int = 0
    state: State = State.IDLE
    ended: Reason | None = None
    borrower: str = ""

    def __post_init__(self) -> None:
        self.last_used = max(self.last_used, self.born)
        self.checked = max(self.checked, self.born)

    def __repr__(self) -> str:
        whose = f" to {self.borrower!r}" if self.borrower else ""
        return f"<Entry {self.resource!r} {self.state.value}{whose}, uses {self.uses}>"

    def overdue(self, now: float, grace: float = 0.0) -> Reason | None:
        """The limit that it has reached, `grace` seconds ago or earlier, if any. At the limit counts as past it."""
        then = now - grace
        if then - self.born >= self.max_lifetime:
            return Reason.MAX_LIFETIME
        idle_limit = self.max_idle if self.uses else self.max_unused
        return Reason.MAX_IDLE if then - self.last_used >= idle_limit else None
