"""What a decision leaves to be done."""

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from worker.pool.entry import Entry, Reason
from worker.pool.ticket import Ticket

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Open:
    """Open a new entry."""


@dataclass(frozen=True, slots=True)
class Close(Generic[T]):
    entry: Entry[T]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Wake(Generic[T]):
    """Tell the holder of a ticket that it is settled."""

    ticket: Ticket[T]


@dataclass(frozen=True, slots=True)
class Report(Generic[T]):
    """Tell the log who kept an entry for too long, and cut it off."""

    entry: Entry[T]
    seconds: float


Chore: TypeAlias = Open | Close[T] | Wake[T] | Report[T]
