"""The bookkeeping of a pool: who has what, who waits, what is to be done about it.

Every decision is made here, and nothing is done here: a method is told the time and returns `(answer, chores)`.
No lock, no clock, no I/O, so every race is a sequence of calls that a test can write down.

Three things always hold. Nobody waits while an entry is idle. Idle, lent and opening together never exceed `max_size`.
Whoever waits is served, oldest first, by whatever comes first: something given back or something new.
"""

import bisect
import random
from collections.abc import Callable, Iterable
from typing import Generic, TypeAlias, TypeVar

from worker.pool.chores import Chore, Close, Open, Report, Tend, Wake
from worker.pool.counters import Counters
from worker.pool.entry import Entry, Reason, State
from worker.pool.errors import OpenFailed, PoolClosed, PoolError, PoolFull, PoolTimeout
from worker.pool.outage import Outage
from worker.pool.policy import Policy
from worker.pool.ticket import Ticket

T = TypeVar("T")
Chores: TypeAlias = list[Chore[T]]

TEND_EVERY = 1.0  # an overdue entry is never lent even if tending is late, so this only has to be well below max_idle
LOST_AFTER = 2.0


class Book(Generic[T]):
    """Entries, waiters, counts. Knows nothing of threads and of what an entry holds."""

    def __init__(self, name: str, policy: Policy, random: Callable[[], float] = random.random) -> None:
        self.name = name
        self.policy = policy
        self.closed = False
        self.counters = Counters()
        self._random = random
        self._outage = Outage(policy, random)
        self._orders: list[float] = []  # when each open that has not begun is due
        self._begun = 0
        self._idle: list[Entry[T]] = []  # used last goes out first: surest to be alive, and what is surplus can age
        self._reserved: dict[Entry[T], None] = {}  # a dict is a set in order
        self._leased: dict[Entry[T], None] = {}
        self._waiting: list[Ticket[T]] = []
        self._arrivals = 0

    def __repr__(self) -> str:
        return f"<Book {self.summary}>"

    # -- what a borrower does ------------------------------------------------------------------------------------------

    def ask(self, ticket: Ticket[T], now: float) -> tuple[Entry[T] | Ticket[T], Chores[T]]:
        """An idle entry, reserved until `lend` or `reject`; or the ticket: queued, or settled by an error."""
        if not ticket.number:
            self._arrivals += 1
            ticket.number, ticket.asked = self._arrivals, now
        chores = self._retire_overdue(now)
        if self._idle:
            self._reserve(self._idle.pop(), ticket)
        elif error := self._refusal(now):
            self.counters.add("rejected")
            ticket.error = error
        else:
            # By number, not at the end: whoever comes back because its entry was unhealthy keeps its place.
            bisect.insort(self._waiting, ticket, key=lambda other: other.number)
            self.counters.add("waits")
        return ticket.entry or ticket, chores + self._refill(now)

    def lend(self, entry: Entry[T], now: float) -> tuple[None, Chores[T]]:
        """The reserved entry was found healthy."""
        del self._reserved[entry]
        self._lease(entry, now)
        return None, []

    def reject(self, entry: Entry[T], ticket: Ticket[T], now: float) -> tuple[Entry[T] | Ticket[T], Chores[T]]:
        """The reserved entry was found unhealthy: close it and ask again."""
        del self._reserved[entry]
        ticket.entry = None
        closing: Chores[T] = [self._end(entry, Reason.UNHEALTHY)]
        answer, chores = self.ask(ticket, now)
        return answer, closing + chores

    def give_back(self, entry: Entry[T], keep: bool, now: float) -> tuple[None, Chores[T]]:
        """Straight to the oldest ticket, else idle; or closed, and replaced if it is missed."""
        if entry.state is State.GONE:  # reclaimed long ago and replaced: only the resource itself is left to close
            self.counters.add("returned_late")
            return None, [Close(entry, Reason.MAX_LEASE)]
        self._leased.pop(entry, None)
        self._reserved.pop(entry, None)  # interrupted before it was lent
        entry.last_used, entry.borrower = now, ""
        reason = self._reason_to_end(entry, keep, now)
        chores = self._place(entry, now) if reason is None else [self._end(entry, reason)]
        return None, chores + self._refill(now)

    def expire(self, ticket: Ticket[T], now: float) -> tuple[None, Chores[T]]:
        """The deadline has come. A ticket that was served in the same moment stays served."""
        if not ticket.settled:
            ticket.error = self.timeout(f"no {self.name} free", now - ticket.asked)
            self.counters.add("timeouts")
            self._leave(ticket, now)
        return None, []

    def withdraw(self, ticket: Ticket[T], now: float) -> tuple[Entry[T] | None, Chores[T]]:
        """The borrower was interrupted. From now on the ticket gets nothing; what it got before must be given back."""
        self._leave(ticket, now)
        return ticket.entry, []

    # -- what happens in the background --------------------------------------------------------------------------------

    def still_wanted(self, now: float) -> tuple[bool, Chores[T]]:
        """An open is due. Those who waited for it may have been served meanwhile, or have left: then it is dropped."""
        if not self._orders:  # it came so late that it was taken for lost
            return False, []
        wanted = not self.closed and (self.size <= self.policy.min_size or len(self._waiting) >= self.opening)
        self._orders.pop(0)
        self._begun += wanted
        return wanted, []

    def opened(self, resource: T, seconds: float, now: float) -> tuple[None, Chores[T]]:
        self._begun -= 1
        self._outage.over()
        self.counters.add("created")
        self.counters.took("connect_seconds", seconds)
        policy = self.policy
        entry = Entry(resource, now, self._jittered(policy.max_idle), self._jittered(policy.max_lifetime))
        chores = [self._end(entry, Reason.CLOSED)] if self.closed else self._place(entry, now)
        return None, chores + self._refill(now)

    def open_failed(self, error: BaseException, now: float) -> tuple[None, Chores[T]]:
        """Try again after a back-off, for ever, as long as something is missing. Hopeless: let nobody wait for it."""
        self._begun -= 1
        self._outage.failed(error, now)
        self.counters.add("open_failures")
        chores = self._fail_all(lambda: OpenFailed(self.name, error), now) if self._outage.hopeless else []
        return None, chores + self._refill(now)

    def tend(self, now: float) -> tuple[None, Chores[T]]:
        """Retire what is overdue, reclaim what was kept too long, replace both; again in a while. Begins warming."""
        if self.closed:
            return None, []
        # There is an opener for every order, so one that did not begin was lost between book and crew, by an interrupt.
        self._orders = [due for due in self._orders if now - due < LOST_AFTER]
        chores = self._retire_overdue(now) + self._reclaim(now)
        return None, [*chores, *self._refill(now), Tend(TEND_EVERY)]

    def close(self, now: float) -> tuple[None, Chores[T]]:
        """Close what is idle and let nobody wait. What is lent or being opened is closed when it comes."""
        self.closed = True
        closing: Chores[T] = [self._end(entry, Reason.CLOSED) for entry in self._idle]
        self._idle.clear()
        return None, closing + self._fail_all(lambda: PoolClosed(self.name), now)

    # -- what there is to know -----------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return self.ready + self.opening

    @property
    def opening(self) -> int:
        return len(self._orders) + self._begun

    @property
    def ready(self) -> int:
        return len(self._idle) + len(self._reserved) + len(self._leased)

    @property
    def summary(self) -> str:
        closed = "closed, " if self.closed else ""
        return f"{self.name!r} {closed}{self._holdings} | waiting {len(self._waiting)} | max {self.policy.max_size}"

    def timeout(self, what: str, seconds: float) -> PoolTimeout:
        return PoolTimeout(what, seconds, self._situation, self._outage.last_error)

    def figures(self) -> dict[str, int | float]:
        return {
            "size": self.size,
            "idle": len(self._idle),
            "reserved": len(self._reserved),
            "leased": len(self._leased),
            "opening": self.opening,
            "waiting": len(self._waiting),
            "min_size": self.policy.min_size,
            "max_size": self.policy.max_size,
            **self.counters.figures(),
        }

    @property
    def _holdings(self) -> str:
        reserved = f"reserved {len(self._reserved)}, " if self._reserved else ""
        return f"leased {len(self._leased)}, {reserved}idle {len(self._idle)}, opening {self.opening}"

    @property
    def _situation(self) -> str:
        return f"{self._holdings}, waiting {len(self._waiting)}, max {self.policy.max_size}"

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _refill(self, now: float) -> Chores[T]:
        """As many opens as are missed, as fit, and as may run at once: only one, as a probe, while opens fail."""
        if self.closed:
            return []
        missed = max(self.policy.min_size - self.size, len(self._waiting) - self.opening)
        lanes = 1 if self._outage.error is not None else self.policy.openers
        count = max(0, min(missed, self.policy.max_size - self.size, lanes - self.opening))
        delay = self._outage.delay(now)
        self._orders += [now + delay] * count
        return [Open(delay)] * count

    def _place(self, entry: Entry[T], now: float) -> Chores[T]:
        if not self._waiting:
            entry.state = State.IDLE
            self._idle.append(entry)
            return []
        ticket = self._waiting[0]
        self._leave(ticket, now)
        ticket.entry, entry.borrower = entry, ticket.borrower
        self._lease(entry, now)  # vetted or made a moment ago: lent without another look
        return [Wake(ticket)]

    def _reserve(self, entry: Entry[T], ticket: Ticket[T]) -> None:
        ticket.entry, entry.borrower = entry, ticket.borrower
        entry.state = State.RESERVED
        self._reserved[entry] = None

    def _lease(self, entry: Entry[T], now: float) -> None:
        self.counters.add("leases")
        if entry.uses:
            self.counters.add("reused")
        entry.state, entry.last_used = State.LEASED, now
        entry.uses += 1
        self._leased[entry] = None

    def _end(self, entry: Entry[T], reason: Reason) -> Close[T]:
        self.counters.ended(reason)
        entry.state = State.GONE
        return Close(entry, reason)

    def _reason_to_end(self, entry: Entry[T], keep: bool, now: float) -> Reason | None:
        if not keep:
            return Reason.NOT_REUSABLE
        return Reason.CLOSED if self.closed else entry.overdue(now)

    def _retire_overdue(self, now: float) -> Chores[T]:
        overdue = [(entry, reason) for entry in self._idle if (reason := entry.overdue(now))]
        for entry, _ in overdue:
            self._idle.remove(entry)
        return [self._end(entry, reason) for entry, reason in overdue]

    def _reclaim(self, now: float) -> Chores[T]:
        """Reported, not closed: the borrower's thread may still be at work on it. Its return, if any, closes it."""
        lost = [entry for entry in self._leased if now - entry.last_used >= self.policy.max_lease]
        for entry in lost:
            del self._leased[entry]
            self._end(entry, Reason.MAX_LEASE)
        return [Report(entry, now - entry.last_used) for entry in lost]

    def _refusal(self, now: float) -> PoolError | None:
        if self.closed:
            return PoolClosed(self.name)
        if self._outage.error is not None and self._outage.hopeless and self._outage.delay(now):
            return OpenFailed(self.name, self._outage.error)
        if len(self._waiting) >= self.policy.max_waiting:
            return PoolFull(self.name, self._situation)
        return None

    def _fail_all(self, error: Callable[[], PoolError], now: float) -> Chores[T]:
        failed: Iterable[Ticket[T]] = list(self._waiting)
        for ticket in failed:
            self._leave(ticket, now)
            ticket.error = error()
        return [Wake(ticket) for ticket in failed]

    def _leave(self, ticket: Ticket[T], now: float) -> None:
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            self.counters.took("wait_seconds", now - ticket.asked)

    def _jittered(self, limit: float) -> float:
        return limit * (1 - self.policy.jitter * self._random())
