"""Fakes for the pool: a clock that stands still and a source of numbered resources."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes import FakeClock
from worker.pool.book import Book
from worker.pool.entry import Entry
from worker.pool.policy import Policy
from worker.pool.pool import Admit, Pool
from worker.pool.ticket import Ticket

PATIENCE = 10.0  # for threads: never reached unless something is broken


@dataclass(eq=False)
class FakeResource:
    number: int
    healthy: bool = True
    reusable: bool = True
    closed: int = 0
    aborted: int = 0

    def __repr__(self) -> str:
        return f"#{self.number}"


@dataclass
class FakeHooks:
    """Opens numbered resources, or raises what `errors` holds; counts what exists at once."""

    errors: list[BaseException] = field(default_factory=list)
    made: list[FakeResource] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)  # open waits here
    opening: int = 0
    calls: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.gate.set()

    def open(self) -> FakeResource:
        with self.changed:
            self.opening += 1
            self.changed.notify_all()
        assert self.gate.wait(PATIENCE)
        with self.changed:
            self.opening -= 1
            self._note("open")
            if self.errors:
                raise self.errors.pop(0)
            self.made.append(FakeResource(len(self.made) + 1))
            return self.made[-1]

    def is_healthy(self, resource: FakeResource) -> bool:
        return resource.healthy

    def is_reusable(self, resource: FakeResource) -> bool:
        return resource.reusable

    def close(self, resource: FakeResource) -> None:
        with self.changed:
            resource.closed += 1
            self._note(f"close {resource}")

    def abort(self, resource: FakeResource) -> None:
        with self.changed:
            resource.aborted += 1
            self._note(f"abort {resource}")

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds; looked at again after each call of a hook."""
        with self.changed:
            assert self.changed.wait_for(holds, PATIENCE)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.changed.notify_all()


def until(pool: Pool[FakeResource], holds: Callable[[], bool]) -> None:
    """Wait until it holds; looked at again after each decision of the pool."""
    with pool._changed:
        assert pool._changed.wait_for(holds, PATIENCE)


@dataclass
class Desk:
    """A book, a clock, and the orders it gave: short to write, so that a test is the sequence that matters."""

    book: Book[str]
    clock: FakeClock
    chores: list[object] = field(default_factory=list)

    def ask(self, borrower: str = "", fresh: bool = False) -> Ticket[str]:
        ticket: Ticket[str] = Ticket(borrower, fresh)
        self._note(self.book.ask(ticket, self.clock.now))
        return ticket

    def lease(self, borrower: str = "", fresh: bool = False) -> Entry[str]:
        return self.lend(self.ask(borrower, fresh))

    def lend(self, ticket: Ticket[str]) -> Entry[str]:
        assert ticket.entry is not None
        self._note(self.book.lend(ticket, self.clock.now))
        return ticket.entry

    def reject(self, ticket: Ticket[str]) -> None:
        self._note(self.book.reject(ticket, self.clock.now))

    def give_back(self, entry: Entry[str], keep: bool = True) -> None:
        self._note(self.book.give_back(entry, keep, self.clock.now))

    def opened(self, *resources: str) -> None:
        self.chores = []
        for resource in resources:
            assert self.book.stock._begun or self.begin()
            self.chores += self.book.opened(resource, 0.5, self.clock.now)[1]

    def open_failed(self, error: BaseException) -> None:
        assert self.book.stock._begun or self.begin()
        self._note(self.book.open_failed(error, self.clock.now))

    def tend(self) -> None:
        self._note(self.book.tend(self.clock.now))

    def expire(self, ticket: Ticket[str]) -> None:
        self._note(self.book.expire(ticket, self.clock.now))

    def turn_away(self, borrower: str) -> None:
        self._note(self.book.turn_away(borrower, self.clock.now))

    def withdraw(self, ticket: Ticket[str]) -> Entry[str] | None:
        answer, chores = self.book.withdraw(ticket, self.clock.now)
        self.chores = list(chores)
        return answer

    def begin(self) -> bool:
        return self.book.begin()[0]

    def examine(self) -> Entry[str] | None:
        return self.book.examine(self.clock.now)[0]

    def vouch(self, entry: Entry[str]) -> None:
        self._note(self.book.vouch(entry, self.clock.now))

    def doubt(self, entry: Entry[str]) -> None:
        self._note(self.book.doubt(entry, self.clock.now))

    def resize(self, min_size: int, max_size: int) -> None:
        self._note(self.book.resize(min_size, max_size, self.clock.now))

    def close(self) -> None:
        self._note(self.book.close())

    def fork(self) -> None:
        self._note(self.book.fork())

    def idle(self) -> list[str]:
        """What is idle, the one used last at the end."""
        return [entry.resource for entry in self.book.stock.idle]

    def figures(self, *names: str) -> tuple[float, ...]:
        return tuple(self.book.figures()[name] for name in names)

    def _note(self, decision: tuple[object, Sequence[object]]) -> None:
        self.chores = list(decision[1])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(0.0)


@pytest.fixture
def hooks() -> FakeHooks:
    return FakeHooks()


@pytest.fixture
def make_desk(clock: FakeClock) -> Callable[..., Desk]:
    def make(*resources: str, draw: float = 1.0, **limits: Any) -> Desk:
        """A desk with these resources idle; `draw` is what the dice always show."""
        sizes = {"min_size": len(resources), "max_size": max(1, len(resources)), "jitter": 0.0}
        policy = Policy(**sizes | {"opens_per_second": math.inf} | limits)
        desk = Desk(Book("thing", policy, lambda: draw), clock)
        desk.tend()
        while desk.book.stock.ready < len(resources):
            assert desk.book.stock.opening
            desk.opened(resources[desk.book.stock.ready])
        return desk

    return make


@pytest.fixture
def make_pool(hooks: FakeHooks) -> Iterator[Callable[..., Pool[FakeResource]]]:
    pools: list[Pool[FakeResource]] = []

    def make(clock: Callable[[], float] | None = None, admit: Admit | None = None, **limits: Any) -> Pool[FakeResource]:
        usual = {"min_size": 1, "max_size": 1, "lease_timeout": PATIENCE, "backoff_first": 0.001}
        usual["opens_per_second"] = math.inf
        policy = Policy(**usual | limits)
        given: dict[str, Any] = {"admit": admit} if admit else {}
        pools.append(Pool("thing", hooks, policy, clock=clock or time.monotonic, **given))
        return pools[-1]

    yield make
    hooks.gate.set()
    for pool in pools:
        pool.close(PATIENCE)


@pytest.fixture
def wait_until() -> Callable[[Pool[FakeResource], Callable[[], bool]], None]:
    return until


@pytest.fixture
def in_thread() -> Iterator[Callable[..., threading.Thread]]:
    threads: list[threading.Thread] = []

    def start(target: Callable[..., object], *args: object) -> threading.Thread:
        threads.append(threading.Thread(target=target, args=args, daemon=True))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
