"""Those who wait."""

import bisect
from collections.abc import Iterator
from typing import Generic, TypeVar

from worker.pool.entry import Entry
from worker.pool.ticket import Ticket

T = TypeVar("T")


class Line(Generic[T]):
    """Unsettled tickets in the order in which they first asked."""

    def __init__(self) -> None:
        self._tickets: list[Ticket[T]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket[T]]:
        return iter(self._tickets)

    def number(self, ticket: Ticket[T], now: float) -> None:
        """Give a ticket its place, once: who comes back because its entry was unhealthy keeps it."""
        if not ticket.number:
            self._arrivals += 1
            ticket.number, ticket.asked = self._arrivals, now

    def join(self, ticket: Ticket[T]) -> None:
        bisect.insort(self._tickets, ticket, key=lambda other: other.number)

    def leave(self, ticket: Ticket[T]) -> None:
        """Does nothing if it is not in the line."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def before(self, ticket: Ticket[T]) -> int:
        """How many wait who asked earlier."""
        return bisect.bisect_left(self._tickets, ticket.number, key=lambda other: other.number)

    def first(self, entry: Entry[T]) -> Ticket[T] | None:
        """The oldest ticket that this entry suits."""
        return next((ticket for ticket in self._tickets if ticket.suits(entry)), None)

    def clear(self) -> list[Ticket[T]]:
        """Send everybody away; returns who they were."""
        gone, self._tickets = self._tickets, []
        return gone
