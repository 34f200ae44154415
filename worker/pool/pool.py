"""The pool: a book, a lock, a clock and a crew.

A decision is made by the book under the lock, in microseconds; what it asks for is done outside it: no hook, no waiting
and no logging happens while the lock is held.
"""

import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from worker.pool.book import Book, Chores
from worker.pool.chores import Chore, Close, Open, Report, Wake
from worker.pool.crew import Crew
from worker.pool.entry import Entry, State
from worker.pool.errors import PoolClosed
from worker.pool.hooks import Hooks
from worker.pool.policy import Policy
from worker.pool.ticket import Ticket

A = TypeVar("A")
T = TypeVar("T")
Admit: TypeAlias = Callable[[Callable[[], bool]], None]
"""Waits until one more may be opened, as long as anything outside has a say in that. It is given what to ask whether
somebody waits for it, and may raise as an open does."""

log = logging.getLogger("worker.pool")

# An interrupt can strike between the decision to wake somebody and the waking: then he looks up by himself after this.
LOOK_UP_EVERY = 1.0


class Pool(Generic[T]):
    """Lends warm resources, each to one borrower at a time. Safe to use from any thread or greenlet.

    Making one starts nothing. In a forked child it starts afresh: it lets go of what its parent holds, and warms again
    when it is opened or asked.
    """

    def __init__(
        self,
        name: str,
        hooks: Hooks[T],
        policy: Policy,
        *,
        admit: Admit = lambda is_wanted: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._hooks = hooks
        self._admit = admit
        self._clock = clock
        self._book: Book[T] = Book(name, policy)
        self._start_afresh()
        _pools.add(self)

    def _start_afresh(self) -> None:
        self._crew = Crew(self.name, self._do, self._look)
        # Reentrant, because a lease cut off by an interrupt is finished by the garbage collector, which may run in the
        # midst of a decision of the same thread.
        # It is taken bare in `with`: an interrupt inside Condition.__enter__ would leave it taken for ever.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._switch = threading.RLock()  # opening and closing exclude each other; never taken inside the other lock
        self._alarm = math.inf
        self._is_open = False

    def __repr__(self) -> str:
        return f"<Pool {self._book.summary}>"

    @property
    def policy(self) -> Policy:
        return self._book.policy

    @property
    def last_error(self) -> str:
        """The type of the error with which the last open failed, by name; empty when it succeeded."""
        return self._book.last_error

    @property
    def is_cut_off(self) -> bool:
        """Whether nothing can be lent now because opens fail, which may pass."""
        return self._book.is_cut_off

    def open(self) -> None:
        """Begin to warm up in the background, and return at once. A second call does nothing.

        What cannot be opened is tried again for ever; `wait` and `stats` tell. Raises PoolClosed.
        """
        if self._is_open:
            return
        with self._switch:
            if self._book.closed:
                raise PoolClosed(self.name)
            if not self._is_open:
                self._crew.start(self._openers)
                self._decide(self._book.tend)
                self._is_open = True

    def wait(self, timeout: float) -> None:
        """Return as soon as `min_size` are ready, idle or lent. Raises PoolTimeout, PoolClosed."""
        self.open()
        deadline = self._clock() + timeout
        with self._lock:
            while self._book.stock.ready < self.policy.min_size:
                if self._book.closed:
                    raise PoolClosed(self.name)
                left = deadline - self._clock()
                if left <= 0:
                    raise self._book.timeout(f"{self.name} not warm", timeout)
                self._changed.wait(min(left, LOOK_UP_EVERY))

    @contextmanager
    def lease(self, timeout: float | None = None, *, borrower: str = "", fresh: bool = False) -> Iterator[T]:
        """Lend a resource for the length of a `with` block, opening the pool if need be.

        Then it is kept if the hooks call it reusable, however the block ended. `fresh` waits for a
        new one. The borrower's name is for the log and for `turn_away`.
        Raises PoolTimeout after `timeout` (`lease_timeout` if None), PoolFull, PoolClosed, OpenFailed.
        """
        self.open()
        ticket: Ticket[T] = Ticket(borrower, fresh)  # made here: whatever strikes from now on, `finally` finds the gift
        try:
            yield self._take(ticket, self.policy.lease_timeout if timeout is None else timeout).resource
        finally:
            try:
                self._finish(ticket)
            except BaseException:
                self._finish(ticket)  # struck while giving back: what is still held goes back all the same
                raise

    def turn_away(self, borrower: str) -> None:
        """Whoever waits under this name gets PoolTimeout now, from any thread. What is lent to him is not touched, and
        who asks later waits as usual.
        """
        self._decide(partial(self._book.turn_away, borrower))

    def resize(self, min_size: int, max_size: int) -> None:
        """Keep more or fewer, from now on. What is lent is not taken away. Raises ValueError for impossible sizes."""
        self._decide(partial(self._book.resize, min_size, max_size))
        with self._switch:
            if self._is_open:
                self._crew.start(self._openers)

    def stats(self) -> dict[str, int | float]:
        """Flat figures: how many there are now, and what happened since the pool was made."""
        with self._lock:
            return self._book.figures()

    def close(self, timeout: float = 3.0) -> None:
        """Close for good: who waits gets PoolClosed, what is idle is closed, what is lent is closed when it comes back.

        Waits up to `timeout` for the background threads to finish, not for what is lent.
        """
        with self._switch:
            self._decide(lambda now: self._book.close())
            self._is_open = False
        self._crew.stop(timeout)

    @property
    def _openers(self) -> int:
        return min(self.policy.openers, self.policy.max_size)

    # -- borrowing -----------------------------------------------------------------------------------------------------

    def _take(self, ticket: Ticket[T], timeout: float) -> Entry[T]:
        deadline = self._clock() + timeout
        self._decide(partial(self._book.ask, ticket))
        entry = self._await(ticket, deadline)
        while entry.state is State.RESERVED and not self._vouch(entry, ticket):  # a gift is lent when it is given
            entry = self._await(ticket, deadline)
        return entry

    def _vouch(self, entry: Entry[T], ticket: Ticket[T]) -> bool:
        healthy = self._hooks.is_healthy(entry.resource)  # what it raises may be meant for the borrower: a time limit
        if healthy:
            self._decide(partial(self._book.lend, ticket))
        else:
            self._decide(partial(self._book.reject, ticket))
        return healthy

    def _await(self, ticket: Ticket[T], deadline: float) -> Entry[T]:
        while not ticket.settled:
            left = deadline - self._clock()
            if left > 0:
                ticket.sleep(min(left, LOOK_UP_EVERY))
            else:
                self._decide(partial(self._book.expire, ticket))
        if ticket.entry is None:
            assert ticket.error is not None
            raise ticket.error
        return ticket.entry

    def _finish(self, ticket: Ticket[T]) -> None:
        entry = ticket.entry or self._decide(partial(self._book.withdraw, ticket))
        if entry is None:
            return
        keep = False
        try:
            keep = self._hooks.is_reusable(entry.resource)
        finally:  # interrupted while asking: not kept, but given back all the same
            self._decide(lambda now: self._give_back(ticket, keep, now))

    def _give_back(self, ticket: Ticket[T], keep: bool, now: float) -> tuple[None, Chores[T]]:
        # Taken off the ticket first: struck after that, an entry may be lost and replaced, but never given back twice.
        entry, ticket.entry = ticket.entry, None
        return (None, []) if entry is None else self._book.give_back(entry, keep, now)

    # -- deciding and doing --------------------------------------------------------------------------------------------

    def _decide(self, decision: Callable[[float], tuple[A, Chores[T]]]) -> A:
        with self._lock:
            answer, chores = decision(self._clock())
            # Queued inside the lock: an open whose order an interrupt lost would hold its slot for a while. And an
            # order given before the pool was closed is queued before the crew stops.
            mine = [chore for chore in chores if not self._crew.take(chore)]
            if self._book.due < self._alarm:
                self._alarm = self._book.due
                self._crew.hurry()
            self._changed.notify_all()
        for chore in mine:
            self._do(chore)
        return answer

    def _do(self, chore: Chore[Any]) -> None:
        match chore:
            case Open():
                self._open_one()
            case Close(entry, reason):
                self._end_by(self._hooks.close, entry)
                age = self._clock() - entry.born
                log.info("%s %s (%s): %.1f s old, uses %d", self.name, reason.word, reason.value, age, entry.uses)
            case Wake(ticket):
                ticket.wake()
            case _:
                self._report(chore)

    def _open_one(self) -> None:
        if not self._decide(lambda now: self._book.begin()):
            return
        try:
            self._admit(lambda: len(self._book.line) > 0)
            began = self._clock()
            resource = self._hooks.open()
        except BaseException as exc:  # gevent.Timeout is no Exception; whatever it was, the slot must come free
            error = exc
            self._decide(lambda now: self._book.open_failed(error, now))
            log.warning("%s: open failed: %s", self.name, type(exc).__name__)
            return
        seconds = self._clock() - began
        self._decide(lambda now: self._book.opened(resource, seconds, now))
        log.info("%s opened in %.3f s", self.name, seconds)

    def _report(self, report: Report[Any]) -> None:
        log.warning("%s reclaimed: lent to %r for %.1f s", self.name, report.entry.borrower, report.seconds)
        self._end_by(self._hooks.abort, report.entry)

    def _end_by(self, hook: Callable[[T], None], entry: Entry[T]) -> None:
        try:
            hook(entry.resource)
        except Exception as exc:
            log.warning("%s: %s raised %s", self.name, getattr(hook, "__name__", "a hook"), type(exc).__name__)

    # -- what the keeper does ------------------------------------------------------------------------------------------

    def _look(self) -> float:
        """Look after the entries. Returns the seconds until it is wanted again."""
        began = self._clock()
        self._decide(self._book.tend)
        # By the time at the beginning: each is looked at once, however long that takes.
        while (entry := self._decide(lambda _: self._book.examine(began))) is not None:
            self._examine(entry)
        with self._lock:
            self._alarm = self._book.due
            return self._alarm - self._clock()

    def _examine(self, entry: Entry[T]) -> None:
        healthy = False
        try:
            healthy = self._hooks.is_healthy(entry.resource)
        except Exception as exc:  # whoever cannot answer for a resource does not vouch for it
            log.warning("%s: is_healthy raised %s", self.name, type(exc).__name__)
        finally:
            verdict = self._book.vouch if healthy else self._book.doubt
            self._decide(partial(verdict, entry))

    # -- forking -------------------------------------------------------------------------------------------------------

    def _after_fork(self) -> None:
        # The locks are made anew first: a thread that does not exist here may have held the parent's.
        self._start_afresh()
        _, chores = self._book.fork()
        for chore in chores:
            self._do(chore)


_pools: "weakref.WeakSet[Pool[Any]]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
