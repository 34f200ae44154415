"""The world of a book, for random lives of it: what may happen in it, in any order, and what each part of it knows."""

import math
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from tests.worker.pool.moves import LIMITS, move, some
from worker.pool.book import TEND_EVERY, Book
from worker.pool.chores import Close, Open, Report, Wake
from worker.pool.entry import Entry, Reason, State
from worker.pool.errors import PoolTimeout
from worker.pool.policy import Policy
from worker.pool.ticket import Ticket


class Life(RuleBasedStateMachine):
    """Borrowers, openers, a keeper and an owner; each knows what it did. Whatever a decision leaves to be done is
    checked when it comes: it must fit what they know.
    """

    @initialize(
        limits=st.fixed_dictionaries({name: st.sampled_from(values) for name, values in LIMITS.items()}),
        **some("sizes", "seed", "used"),
    )
    def begin_life(self, limits: dict[str, Any], sizes: tuple[int, int], seed: int, used: int) -> None:
        """Up to the first warmth; the bits of `used` tell which were lent already."""
        waiting = max(limits["max_waiting"], sizes[0] == 0)
        policy = Policy(**limits | {"min_size": sizes[0], "max_size": sizes[1], "max_waiting": waiting})
        self.now = 100.0
        self.book: Book[int] = Book("thing", policy, random.Random(seed).random)
        self.resources = 0
        self.known: set[Entry[int]] = set()  # in the stock after the last step
        self.closed: set[Entry[int]] = set()
        self.start_afresh()
        while self.book.stock.ready < policy.min_size:
            self.end_an_open(None) if self.ordered or self.begun else self.tend(late=0.0)
        for entry in [entry for place, entry in enumerate(self.book.stock.idle) if used >> place & 1]:
            entry.uses = 1

    def start_afresh(self) -> None:
        self.waiting: list[Ticket[int]] = []
        self.looking: list[Ticket[int]] = []  # those for whom an entry is reserved
        self.held: list[Entry[int]] = []
        self.examined: Entry[int] | None = None
        self.ordered = self.begun = self.inherited = 0
        self.failing = False
        self.last_order = self.last_look = -math.inf

    # -- borrowers -----------------------------------------------------------------------------------------------------

    @move("name", "fresh")
    def ask(self, name: str, fresh: bool) -> None:
        ticket: Ticket[int] = Ticket(name, fresh)
        answer, chores = self.book.ask(ticket, self.now)
        self.note_answer(ticket, answer)
        self.note(chores)

    @move("which", "healthy", when=lambda life: life.looking)
    def look(self, which: int, healthy: bool) -> None:
        ticket = pick(self.looking, which)
        if healthy:
            self.held.append(ticket.entry)
            assert self.book.lend(ticket, self.now) == (None, [])
            return
        self.failing = self.failing or not ticket.entry.uses
        answer, chores = self.book.reject(ticket, self.now)
        self.note_answer(ticket, answer)
        self.note(chores)

    @move("which", "keep", when=lambda life: life.held)
    def give_back(self, which: int, keep: bool) -> None:
        entry, ready = pick(self.held, which), self.book.stock.ready
        late = entry.ended is not None
        self.note(self.book.give_back(entry, keep, self.now)[1], decided=not late)
        assert late or self.book.stock.ready < ready or ready <= self.book.policy.max_size

    @move("which", "fate", "keep", when=lambda life: life.waiting or life.looking)
    def lose_patience(self, which: int, fate: str, keep: bool) -> None:
        if fate == "deadline" and self.waiting:
            ticket = pick(self.waiting, which)
            self.note(self.book.expire(ticket, self.now)[1])
            assert ticket.error is not None
        elif fate == "interrupt" and self.waiting:
            entry, chores = self.book.withdraw(pick(self.waiting, which), self.now)
            assert entry is None
            self.note(chores)
        elif fate == "interrupt":
            self.note(self.book.give_back(pick(self.looking, which).entry, keep, self.now)[1])

    @move("name", when=lambda life: life.waiting)
    def turn_away(self, name: str) -> None:
        leaving = [ticket for ticket in self.waiting if ticket.borrower == name]
        chores = self.book.turn_away(name, self.now)[1]
        assert all(ticket.entry is None and isinstance(ticket.error, PoolTimeout) for ticket in leaving)
        self.note(chores)
        assert not any(ticket.borrower == name for ticket in self.waiting)

    # -- openers -------------------------------------------------------------------------------------------------------

    @move("lost", when=lambda life: life.ordered)
    def begin(self, lost: bool) -> None:
        """One may be lost: an interrupt struck between the order and its doing."""
        while self.ordered:
            self.ordered -= 1
            self.begun += not lost and self.book.begin()[0]
            lost = False

    @move("error", when=lambda life: life.ordered or life.begun)
    def end_an_open(self, error: Exception | None) -> None:
        if not self.begun:
            self.begin(lost=False)
        if not self.begun:  # it was not wanted any more
            return
        self.begun -= 1
        self.failing = error is not None
        if error is not None:
            self.note(self.book.open_failed(error, self.now)[1])
        else:
            self.resources += 1
            self.note(self.book.opened(self.resources, 0.1, self.now)[1])

    # -- the keeper ----------------------------------------------------------------------------------------------------

    @move("late")
    def tend(self, late: float) -> None:
        self.now = max(self.now, self.book.due + late)
        self.last_look = self.now
        self.note(self.book.tend(self.now)[1])
        assert self.book.closed or self.book.due <= self.now + TEND_EVERY

    @move(when=lambda life: life.examined is None)
    def examine(self) -> None:
        self.examined, chores = self.book.examine(self.now)
        assert not chores

    @move("healthy", when=lambda life: life.examined)
    def judge(self, healthy: bool) -> None:
        entry, self.examined = self.examined, None
        assert entry is not None
        self.failing = self.failing or not (healthy or entry.uses)
        verdict = self.book.vouch if healthy else self.book.doubt
        self.note(verdict(entry, self.now)[1])

    @move("seconds")
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    # -- the owner -----------------------------------------------------------------------------------------------------

    @move("act", "sizes")
    def own(self, act: str, sizes: tuple[int, int]) -> None:
        if act == "resize":
            min_size = sizes[0] if self.book.policy.max_waiting else max(1, sizes[0])
            self.note(self.book.resize(min_size, sizes[1], self.now)[1])
        elif act == "fork":
            self.fork()
        elif act == "close":
            self.note(self.book.close()[1])

    def fork(self) -> None:
        """By a thread that holds all that is lent; the other threads are not in the child."""
        held, parents = self.held, self.known
        chores: Sequence[Any] = self.book.fork()[1]
        assert {chore.entry for chore in chores} == parents and len(chores) == len(parents)
        assert all(isinstance(chore, Close) and chore.entry.ended is Reason.FORKED for chore in chores)
        self.start_afresh()
        self.held, self.inherited = held, len(parents)
        self.closed |= parents

    # -- what a decision leaves to be done -----------------------------------------------------------------------------

    def note(self, chores: Sequence[Any], decided: bool = True) -> None:
        """Whatever a decision makes possible is ordered at once: no open is due, unless a look is overdue itself."""
        late = self.now >= self.last_look + TEND_EVERY
        assert self.book.due > self.now or late or self.book.closed or not decided
        for chore in chores:
            match chore:
                case Open():
                    self.note_open()
                case Close(entry, reason):
                    self.note_close(entry, reason)
                case Wake(ticket):
                    self.waiting.remove(ticket)
                    self.note_answer(ticket, ticket.entry or ticket)
                case Report(entry, seconds):
                    assert entry.ended is Reason.MAX_LEASE and entry in self.held
                    assert seconds >= self.book.policy.max_lease

    def note_open(self) -> None:
        policy, stock = self.book.policy, self.book.stock
        wanted = min(len(self.book.line), policy.lendable - stock.lent) - (stock.examined is not None)
        assert stock.opening <= max(policy.min_size - stock.ready, wanted)
        assert stock.opening <= (1 if self.failing else policy.openers)
        assert self.now - self.last_order >= 0.5 / policy.opens_per_second
        self.last_order = self.now
        self.ordered += 1

    def note_close(self, entry: Entry[int], reason: Reason) -> None:
        assert (entry.state, entry.ended) == (State.GONE, reason)
        assert entry not in self.closed and entry not in self.held and entry is not self.examined
        assert reason is not Reason.SURPLUS or self.book.stock.size >= self.book.policy.min_size
        assert reason is not Reason.REPLACED or any(ticket.fresh for ticket in self.book.line)
        self.closed.add(entry)

    def note_answer(self, ticket: Ticket[int], answer: Entry[int] | Ticket[int]) -> None:
        """What became of a ticket that asked just now, or that was woken."""
        assert answer is (ticket.entry or ticket)
        if ticket.entry is None:
            self.waiting += [] if ticket.error else [ticket]
            return
        was_new = ticket.entry.uses == (ticket.entry.state is State.LEASED)
        older = [other for other in self.waiting if other.number < ticket.number]
        assert all(other.fresh and not (was_new and ticket.entry.born >= other.asked) for other in older)
        assert self.failing or self.book.stock.lent + len(older) <= self.book.policy.lendable
        if ticket.entry.state is State.RESERVED:
            assert ticket.suits(ticket.entry) and ticket.entry.overdue(self.now, self.book.policy.grace) is None
            self.looking.append(ticket)
        else:
            assert was_new or not ticket.fresh
            self.held.append(ticket.entry)


def pick(among: list[Any], which: int) -> Any:
    return among.pop(which % len(among))
