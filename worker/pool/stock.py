"""What a pool has, and where each of it is."""

import bisect
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from worker.pool.entry import Entry, Reason, State

T = TypeVar("T")

LOST_AFTER = 2.0


class Stock(Generic[T]):
    """Entries by state, and the opens that are under way. Takes no decision: that is the book's."""

    def __init__(self) -> None:
        self.idle: list[Entry[T]] = []  # by last use
        self.reserved: dict[Entry[T], None] = {}  # a dict is a set in order
        self.leased: dict[Entry[T], None] = {}
        self.examined: Entry[T] | None = None
        self._orders: list[float] = []  # when each open was ordered that has not begun
        self._begun = 0

    def __iter__(self) -> Iterator[Entry[T]]:
        yield from (*self.idle, *self.reserved, *self.leased)
        if self.examined is not None:
            yield self.examined

    @property
    def size(self) -> int:
        return self.ready + self.opening

    @property
    def ready(self) -> int:
        return len(self.idle) + self.in_question + len(self.leased)

    @property
    def in_question(self) -> int:
        return len(self.reserved) + (self.examined is not None)

    @property
    def lent(self) -> int:
        """Lent, or about to be."""
        return len(self.leased) + len(self.reserved)

    @property
    def opening(self) -> int:
        return len(self._orders) + self._begun

    @property
    def summary(self) -> str:
        reserved = f"reserved {self.in_question}, " if self.in_question else ""
        return f"leased {len(self.leased)}, {reserved}idle {len(self.idle)}, opening {self.opening}"

    # -- opens ---------------------------------------------------------------------------------------------------------

    def order(self, now: float) -> None:
        """An open was ordered."""
        self._orders.append(now)

    def begin(self) -> bool:
        """An ordered open begins. False: there is none."""
        if not self._orders:
            return False
        self._orders.pop(0)
        self._begun += 1
        return True

    def ended(self) -> None:
        """An open that had begun succeeded or failed."""
        self._begun -= 1

    def forget_lost_orders(self, now: float) -> None:
        """There is an opener for every order, so one that did not begin was lost between book and crew, by an
        interrupt."""
        self._orders = [ordered for ordered in self._orders if now - ordered < LOST_AFTER]

    # -- entries -------------------------------------------------------------------------------------------------------

    def keep(self, entry: Entry[T], now: float) -> None:
        """Put it to the idle ones. It was just made, given back or looked at."""
        entry.state, entry.checked = State.IDLE, now
        bisect.insort(self.idle, entry, key=lambda other: other.last_used)

    def pick(
        self, suits: Callable[[Entry[T]], bool], now: float, grace: float = 0.0
    ) -> tuple[Entry[T] | None, list[tuple[Entry[T], Reason]]]:
        """Take out the idle entry that was used last and suits, if any; and those found overdue on the way.

        Used last goes out first: it is the surest to be alive, and what is surplus can age.
        """
        overdue: list[tuple[Entry[T], Reason]] = []
        for position in range(len(self.idle) - 1, -1, -1):
            entry = self.idle[position]
            if reason := entry.overdue(now, grace):
                overdue.append((self.idle.pop(position), reason))
            elif suits(entry):
                return self.idle.pop(position), overdue
        return None, overdue

    def reserve(self, entry: Entry[T], borrower: str) -> None:
        entry.state, entry.borrower = State.RESERVED, borrower
        self.reserved[entry] = None

    def lease(self, entry: Entry[T], borrower: str, now: float) -> None:
        entry.state, entry.borrower, entry.last_used = State.LEASED, borrower, now
        entry.uses += 1
        self.leased[entry] = None

    def set_aside(self, now: float, every: float) -> Entry[T] | None:
        """The first idle entry that was not looked at for so long, if any; to be looked at now."""
        self.examined = next((entry for entry in self.idle if now - entry.checked >= every), None)
        if self.examined is not None:
            self.idle.remove(self.examined)
            self.examined.state = State.RESERVED
        return self.examined

    def take_out(self, entry: Entry[T]) -> None:
        """It is neither reserved nor lent nor examined any more."""
        self.reserved.pop(entry, None)
        self.leased.pop(entry, None)
        if self.examined is entry:
            self.examined = None

    def take_overdue(self, now: float, grace: float, most: int) -> list[tuple[Entry[T], Reason]]:
        """Take out what is idle and past one of its limits; within the grace at most so many."""
        overdue = [(entry, reason) for entry in self.idle if (reason := entry.overdue(now))]
        overdue.sort(key=lambda end: not end[0].overdue(now, grace))  # those beyond the grace first
        late = sum(entry.overdue(now, grace) is not None for entry, _ in overdue)
        leaving = overdue[: max(late, most)]
        for entry, _ in leaving:
            self.idle.remove(entry)
        return leaving

    def take_leased_since(self, moment: float) -> list[Entry[T]]:
        """Take out what was lent at this moment or earlier."""
        lost = [entry for entry in self.leased if entry.last_used <= moment]
        for entry in lost:
            del self.leased[entry]
        return lost

    def clear(self) -> list[Entry[T]]:
        """Cancel the opens that have not begun, and take out all that is idle."""
        self._orders.clear()
        idle, self.idle = self.idle, []
        return idle
