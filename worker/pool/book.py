"""The bookkeeping of a pool: who has what, who waits, what is to be done about it.

Every decision is made here, and nothing is done here: a method is told the time and returns `(answer, chores)`.
No lock, no clock, no I/O, so every race is a sequence of calls that a test can write down.

Four things always hold. Nothing is lent to two. Nobody waits while an entry is idle that he may have. Idle, lent and
opening together never exceed `max_size`, and nothing is idle beyond `min_size`. Whoever waits is served, oldest first,
by whatever comes first: something given back or something new.
"""

import dataclasses
import math
import random
from collections.abc import Callable, Iterable
from typing import Generic, TypeAlias, TypeVar

from worker.pool.chores import Chore, Close, Open, Report, Wake
from worker.pool.counters import Counters
from worker.pool.entry import Entry, Reason, State
from worker.pool.errors import LostUnused, OpenFailed, PoolClosed, PoolError, PoolFull, PoolTimeout
from worker.pool.line import Line
from worker.pool.pace import Pace
from worker.pool.policy import Policy
from worker.pool.stock import Stock
from worker.pool.ticket import Ticket

T = TypeVar("T")
Chores: TypeAlias = list[Chore[T]]

TEND_EVERY = 1.0  # an overdue entry is never lent even if tending is late, so this only has to be well below max_idle


class Book(Generic[T]):
    """Entries, waiters, counts. Knows nothing of threads and of what an entry holds."""

    def __init__(self, name: str, policy: Policy, random: Callable[[], float] = random.random) -> None:
        self.name = name
        self.policy = policy
        self.closed = False
        self._random = random
        self._start_afresh()

    def _start_afresh(self) -> None:
        self.counters = Counters()
        self.stock: Stock[T] = Stock()
        self.line: Line[T] = Line()
        self._pace = Pace(self.policy, self._random)
        self._tended = -math.inf

    def __repr__(self) -> str:
        return f"<Book {self.summary}>"

    # -- what a borrower does ------------------------------------------------------------------------------------------

    def ask(self, ticket: Ticket[T], now: float) -> tuple[Entry[T] | Ticket[T], Chores[T]]:
        """An idle entry, reserved until `lend` or `reject`; or the ticket: queued, or settled by an error."""
        self.line.number(ticket, now)
        chores = self._offer(ticket, now)
        if ticket.entry is None:
            self._queue(ticket, now)
        return ticket.entry or ticket, chores + self._go_on(now)

    def lend(self, ticket: Ticket[T], now: float) -> tuple[None, Chores[T]]:
        """The entry that was reserved for this ticket was found healthy."""
        assert ticket.entry is not None
        self.stock.take_out(ticket.entry)
        self._lease(ticket.entry, ticket, now)
        return None, []

    def reject(self, ticket: Ticket[T], now: float) -> tuple[Entry[T] | Ticket[T], Chores[T]]:
        """The entry that was reserved for this ticket was found unhealthy: close it and ask again."""
        entry, ticket.entry = ticket.entry, None
        assert entry is not None
        closing = self._discard_unhealthy(entry, now)
        answer, chores = self.ask(ticket, now)
        return answer, closing + chores

    def give_back(self, entry: Entry[T], keep: bool, now: float) -> tuple[None, Chores[T]]:
        """Straight to the oldest ticket, else idle; or closed, and replaced if it is missed."""
        if entry.ended:
            self.counters.add("returned_late")
            # Reclaimed and replaced long ago, only the resource itself is left to close. At a fork it was let go of.
            return None, [] if entry.ended is Reason.FORKED else [Close(entry, entry.ended)]
        if entry.state is State.LEASED:  # else: interrupted before it was lent
            self.counters.took("use_seconds", now - entry.last_used)
            entry.last_used = now
        self.stock.take_out(entry)
        entry.borrower = ""
        if keep:
            self._pace.outage.proven()
        reason = entry.overdue(now) if keep else Reason.NOT_REUSABLE
        chores = self._place(entry, now) if reason is None else [self._end(entry, reason)]
        return None, chores + self._go_on(now)

    def expire(self, ticket: Ticket[T], now: float) -> tuple[None, Chores[T]]:
        """The deadline has come. A ticket that was served in the same moment stays served."""
        if not ticket.settled:
            self._time_out(ticket, now)
        return None, self._go_on(now)

    def turn_away(self, borrower: str, now: float) -> tuple[None, Chores[T]]:
        """Whoever waits under this name waits no longer, as if his deadline had come. Who has an entry keeps it."""
        leaving = [ticket for ticket in self.line if ticket.borrower == borrower]
        for ticket in leaving:
            self._time_out(ticket, now)
        return None, [*(Wake(ticket) for ticket in leaving), *self._go_on(now)]

    def withdraw(self, ticket: Ticket[T], now: float) -> tuple[Entry[T] | None, Chores[T]]:
        """The borrower was interrupted. From now on the ticket gets nothing; what it got before must be given back."""
        self.line.leave(ticket)
        return ticket.entry, self._go_on(now)

    # -- what happens in the background --------------------------------------------------------------------------------

    def begin(self) -> tuple[bool, Chores[T]]:
        """An ordered open is about to begin. False: it was cancelled, or taken for lost."""
        return self.stock.begin(), []

    def opened(self, resource: T, seconds: float, now: float) -> tuple[None, Chores[T]]:
        self.stock.ended()
        self._pace.outage.connected()
        self.counters.add("created")
        self.counters.took("connect_seconds", seconds)
        if self.stock.ready >= self.policy.min_size:
            self.counters.add("overflow")
        entry = Entry(
            resource,
            now,
            max_idle=self._jittered(self.policy.max_idle),
            max_unused=self._jittered(self.policy.max_unused),
            max_lifetime=self._jittered(self.policy.max_lifetime),
        )
        return None, self._place(entry, now) + self._go_on(now)

    def open_failed(self, error: BaseException, now: float) -> tuple[None, Chores[T]]:
        """Try again after a back-off, for ever, as long as something is missing. Hopeless: let nobody wait for it."""
        self.stock.ended()
        self._pace.outage.failed(error, now)
        self.counters.add("open_failures")
        chores = self._fail_all(lambda: OpenFailed(self.name, error)) if self._pace.outage.hopeless else []
        return None, chores + self._go_on(now)

    def tend(self, now: float) -> tuple[None, Chores[T]]:
        """Retire what is overdue, reclaim what was kept too long, open what is missing. Wanted again at `due`."""
        if self.closed:
            return None, []
        self._tended = now
        self._pace.start(now)
        self.stock.forget_lost_orders(now)
        chores = self._end_all(self._retire(now)) + self._reclaim(now)
        return None, chores + self._go_on(now)

    def examine(self, now: float) -> tuple[Entry[T] | None, Chores[T]]:
        """An idle entry that nobody has looked at for a while, set aside until `vouch` or `doubt`; or None.

        One at a time, so that the others can be lent meanwhile.
        """
        return self.stock.set_aside(now, self.policy.check_every), []

    def vouch(self, entry: Entry[T], now: float) -> tuple[None, Chores[T]]:
        """The entry that was set aside is healthy."""
        self.stock.take_out(entry)
        self._pace.outage.proven()
        return None, self._place(entry, now) + self._go_on(now)

    def doubt(self, entry: Entry[T], now: float) -> tuple[None, Chores[T]]:
        """The entry that was set aside is not healthy."""
        return None, self._discard_unhealthy(entry, now) + self._go_on(now)

    def resize(self, min_size: int, max_size: int, now: float) -> tuple[None, Chores[T]]:
        """Keep more or fewer. What is lent is never taken away. Raises ValueError."""
        self.policy = dataclasses.replace(self.policy, min_size=min_size, max_size=max_size)
        surplus = self.stock.idle[: max(0, self.stock.ready - min_size)]
        del self.stock.idle[: len(surplus)]
        return None, self._end_all((entry, Reason.SURPLUS) for entry in surplus) + self._go_on(now)

    def close(self) -> tuple[None, Chores[T]]:
        """Close what is idle and let nobody wait. What is lent or being opened is closed when it comes."""
        self.closed = True
        idle = self.stock.clear()
        closing = self._end_all((entry, Reason.CLOSED) for entry in idle)
        return None, closing + self._fail_all(lambda: PoolClosed(self.name))

    def fork(self) -> tuple[None, Chores[T]]:
        """This is a child process: all that is held is its parent's, and whoever waited is not here. Start afresh."""
        inherited = list(self.stock)
        self._start_afresh()
        return None, self._end_all((entry, Reason.FORKED) for entry in inherited)

    # -- what there is to know -----------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When `tend` is wanted next."""
        regular, short = self._tended + TEND_EVERY, self._short()
        return min(regular, self._pace.due(urgent=short > 0)) if self._may_open(short) else regular

    @property
    def last_error(self) -> str:
        return self._pace.outage.last_error

    @property
    def is_cut_off(self) -> bool:
        """Whether nothing is idle and the last open failed in a way that may pass."""
        outage = self._pace.outage
        return not self.stock.idle and outage.error is not None and not outage.hopeless

    @property
    def summary(self) -> str:
        closed = "closed, " if self.closed else ""
        return f"{self.name!r} {closed}{self.stock.summary} | waiting {len(self.line)} | max {self.policy.max_size}"

    def timeout(self, what: str, seconds: float) -> PoolTimeout:
        return PoolTimeout(what, seconds, self._situation, self.last_error, self.stock.opening)

    def figures(self) -> dict[str, int | float]:
        return {
            "size": self.stock.size,
            "idle": len(self.stock.idle),
            "reserved": self.stock.in_question,
            "leased": len(self.stock.leased),
            "opening": self.stock.opening,
            "waiting": len(self.line),
            "min_size": self.policy.min_size,
            "max_size": self.policy.max_size,
            "max_leased": self.policy.lendable,
            **self.counters.figures(),
        }

    @property
    def _situation(self) -> str:
        lendable, most = self.policy.lendable, self.policy.max_size
        limit = f"max {most}" if lendable == most else f"max {most}, lent at most {lendable}"
        return f"{self.stock.summary}, waiting {len(self.line)}, {limit}"

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _short(self) -> int:
        """How many more must be opened for those who wait, beside what is on its way to them."""
        lendable = self.policy.lendable - self.stock.lent
        return min(len(self.line), lendable) - self.stock.opening - (self.stock.examined is not None)

    def _may_open(self, short: int) -> bool:
        """Whether an open is missed, and nothing but its pace stands against it. Not before the first `tend`."""
        size, policy = self.stock.size, self.policy
        missed = short > 0 or size < policy.min_size
        room = size < policy.max_size or (short > 0 and bool(self.stock.idle))
        wanted = self._tended > -math.inf and not self.closed
        return wanted and missed and room and self.stock.opening < self._pace.lanes

    def _go_on(self, now: float) -> Chores[T]:
        """What any change may make possible for those who wait."""
        return self._serve(now) + self._refill(now)

    def _refill(self, now: float) -> Chores[T]:
        """Order as many opens as are missed, as fit, as may run at once, and as their pace allows."""
        chores: Chores[T] = []
        while self._may_open(short := self._short()) and now >= self._pace.due(urgent=short > 0):
            if self.stock.size >= self.policy.max_size:  # what is idle suits nobody who waits
                chores.append(self._end(self.stock.idle.pop(0), Reason.REPLACED))
            self.stock.order(now)
            self._pace.took(now)
            chores.append(Open())
        return chores

    def _offer(self, ticket: Ticket[T], now: float) -> Chores[T]:
        """Reserve an idle entry for the ticket, if there is one that it may have."""
        if not self._may_have_one(ticket):
            return []
        entry, overdue = self.stock.pick(ticket.suits, now, self.policy.grace)
        if entry is not None:
            ticket.entry = entry
            self.stock.reserve(entry, ticket.borrower)
        return self._end_all(overdue)

    def _may_have_one(self, ticket: Ticket[T]) -> bool:
        """Whether one more may be lent, and not only to those who waited longer, for something fresh that will come."""
        older = 0 if self._pace.outage.error else self.line.before(ticket)
        return self.stock.lent + older < self.policy.lendable

    def _queue(self, ticket: Ticket[T], now: float) -> None:
        ticket.error = self._refusal(now)
        if ticket.error is None:
            self.line.join(ticket)
        self.counters.add("rejected" if ticket.error else "waits")

    def _serve(self, now: float) -> Chores[T]:
        """Where not all may be lent, some may wait beside idle entries. Give them one now if another may be lent."""
        chores: Chores[T] = []
        for ticket in list(self.line) if self.stock.idle else ():
            chores += self._offer(ticket, now)
            if ticket.entry is not None:
                self.line.leave(ticket)
                chores.append(Wake(ticket))
        return chores

    def _place(self, entry: Entry[T], now: float) -> Chores[T]:
        """To the oldest ticket that it suits, else to the idle ones if it is kept."""
        if self.closed:
            return [self._end(entry, Reason.CLOSED)]
        room = self.stock.size < self.policy.max_size  # not so after a resize
        ticket = self.line.first(entry) if room else None
        if ticket is not None and self._may_have_one(ticket):
            self.line.leave(ticket)
            ticket.entry = entry
            self._lease(entry, ticket, now)  # vetted or made a moment ago: lent without another look
            return [Wake(ticket)]
        if self.stock.ready >= self.policy.min_size:
            return [self._end(entry, Reason.SURPLUS)]
        self.stock.keep(entry, now)
        return []

    def _time_out(self, ticket: Ticket[T], now: float) -> None:
        ticket.error = self.timeout(f"no {self.name} free", now - ticket.asked)
        self.counters.add("timeouts")
        self.line.leave(ticket)

    def _lease(self, entry: Entry[T], ticket: Ticket[T], now: float) -> None:
        self.counters.add("leases")
        self.counters.took("borrow_seconds", now - ticket.asked)
        if ticket.fresh:
            self.counters.add("fresh")
        if entry.uses:
            self.counters.add("reused")
        self.stock.lease(entry, ticket.borrower, now)

    def _discard_unhealthy(self, entry: Entry[T], now: float) -> Chores[T]:
        self.stock.take_out(entry)
        if not entry.uses:  # as bad as an open that failed: opening the next at once would go on for ever
            self._pace.outage.failed(LostUnused(), now)
        return [self._end(entry, Reason.UNHEALTHY)]

    def _end(self, entry: Entry[T], reason: Reason) -> Close[T]:
        self.counters.ended(reason)
        entry.state, entry.ended = State.GONE, reason
        return Close(entry, reason)

    def _end_all(self, ends: Iterable[tuple[Entry[T], Reason]]) -> Chores[T]:
        return [self._end(entry, reason) for entry, reason in ends]

    def _retire(self, now: float) -> list[tuple[Entry[T], Reason]]:
        """Within the grace no more than can be replaced until the next look, and at most half of what is idle, so that
        those who come meanwhile find one.
        """
        replaceable = self.policy.opens_per_second * TEND_EVERY - max(0, self.policy.min_size - self.stock.ready)
        most = math.ceil(max(0, min(replaceable, len(self.stock.idle) // 2)))
        return self.stock.take_overdue(now, self.policy.grace, most)

    def _reclaim(self, now: float) -> Chores[T]:
        """Reported and cut off, not closed: the borrower's thread may still be at work on it. Its return closes it."""
        lost = self.stock.take_leased_since(now - self.policy.max_lease)
        for entry in lost:
            self._end(entry, Reason.MAX_LEASE)
        return [Report(entry, now - entry.last_used) for entry in lost]

    def _refusal(self, now: float) -> PoolError | None:
        outage = self._pace.outage
        if self.closed:
            return PoolClosed(self.name)
        if outage.error is not None and outage.hopeless and now < outage.until:
            return OpenFailed(self.name, outage.error)
        if len(self.line) >= self.policy.max_waiting:
            return PoolFull(self.name, self._situation)
        return None

    def _fail_all(self, error: Callable[[], PoolError]) -> Chores[T]:
        failed = self.line.clear()
        for ticket in failed:
            ticket.error = error()
        return [Wake(ticket) for ticket in failed]

    def _jittered(self, limit: float) -> float:
        return limit * (1 - self.policy.jitter * self._random())
