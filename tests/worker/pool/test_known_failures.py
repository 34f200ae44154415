"""What went wrong in other pools, each with the thread that tells of it; here it is tried on ours.

Those that are tried elsewhere, because a rule of ours says exactly that:

| thread | what went wrong | tried by |
|---|---|---|
| commons-pool POOL-125; httpcore #880 | opens or closes under the lock | `test_pool_threads` (no hook is called..) |
| commons-pool POOL-283 | equal resources taken for one | `test_entry` (two entries with the same..) |
| commons-pool POOL-287 | asked for while it was looked at: lost | `test_book_upkeep` (who asks during the look..) |
| commons-pool POOL-396 | a look that raises | `test_pool_upkeep` (a look that raises..) |
| HikariCP #480, #2004, #2203 | all reach the same lifetime together | `test_book_upkeep` (entries born together..) |
| HikariCP #653, #843 | leaks use up the pool | `test_pool_upkeep` (a leak is reported..) |
| HikariCP #906 | somebody waits though there is room | `test_machine` |
| psycopg #503, #509, #1275 | who is cancelled takes a connection along | `test_pool_interrupts` (a gift to..) |
| psycopg #1208, #1214 | cancelled during the check | `test_pool_interrupts` (inside a question..) |
| psycopg #784 | connections left behind by a closed pool | `test_book_owner` (what is opened for a closed..) |
| psycopg #1176 | more connections than allowed after failures | `test_machine` |
| httpcore #502 | who timed out stays in the queue | `test_book` (at the deadline..) |
| amphp http-client #256 | idle ones that suit nobody hold up the others | `test_book_line` (at the largest size..) |
| redis-py #234, #863 | a child uses, or shuts down, its parent's connection | `test_fork` |
| redis-py #412 | given back after a fork | `test_fork` (a lease held across..) |
"""

import inspect
import math
import random
import threading
import time
from typing import Any

import pytest

from worker.pool import Pool, PoolTimeout
from worker.pool.book import Book
from worker.pool.chores import Close, Open
from worker.pool.entry import Reason, State
from worker.pool.policy import Policy

PATIENCE = 10.0


# -- who waits while there is room -------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_size", [1, 2])
def test_all_who_wait_are_served_though_each_return_is_spoiled(make_desk, max_size):
    """commons-pool POOL-240, POOL-424; go-commons-pool #25; reactor-pool #40; psycopg #395."""
    desk = make_desk(min_size=0, max_size=max_size, openers=max_size)
    for ticket in [desk.ask() for _ in range(6)]:
        desk.opened("new")
        assert ticket.entry is not None
        desk.give_back(ticket.entry, keep=False)
    assert desk.figures("waiting", "size", "discarded_not_reusable") == (0, 0, 6)


def test_more_than_there_is_room_for_are_served_though_the_first_opens_fail(make_pool, hooks, in_thread):
    """commons-pool POOL-303, POOL-356, POOL-407: those who wait behind a failed create are never woken."""
    hooks.errors += [OSError() for _ in range(4)]
    pool, served = make_pool(min_size=0, max_size=2), []

    def borrow():
        with pool.lease() as resource:
            served.append(resource)

    for thread in [in_thread(borrow) for _ in range(8)]:
        thread.join(PATIENCE)
    assert len(served) == 8


def test_two_who_ask_at_once_get_one_each(make_desk):
    """HikariCP #452: the second open was left out because the first had just come in."""
    desk = make_desk(min_size=0, max_size=2, openers=2)
    first, second = desk.ask(), desk.ask()
    desk.opened("a")
    assert (first.entry.resource, second.settled, desk.book.stock.opening) == ("a", False, 1)
    desk.opened("b")
    assert second.entry.resource == "b"


@pytest.mark.parametrize("failures", [0, 1, 2, 100])
def test_failed_opens_use_up_no_room(make_desk, clock, failures):
    """SQLAlchemy #223, #2772: the overflow counter drifts. urllib3 #76, #644; httpcore #433: the pool is used up."""
    desk = make_desk(min_size=0, max_size=2, openers=2, backoff_max=1.0)
    tickets = [desk.ask(), desk.ask()]
    for _ in range(failures):
        desk.open_failed(OSError())
        clock.advance(1)
        desk.tend()
    while desk.begin():
        desk.opened("new")
    assert all(ticket.entry for ticket in tickets)
    assert desk.figures("size", "leased", "opening", "open_failures") == (2, 2, 0, failures)


def test_who_gives_up_uses_up_no_room(make_desk):
    """commons-pool POOL-144: capacity leaks when those who wait time out."""
    desk = make_desk(min_size=0, max_size=1)
    for _ in range(3):
        desk.expire(desk.ask())
    ticket = desk.ask()
    assert desk.book.stock.opening == 1
    desk.opened("a")
    assert ticket.entry.resource == "a"


@pytest.mark.parametrize("threat", ["age", "size", "room for another"])
def test_what_was_promised_to_somebody_is_not_closed_before_he_comes_for_it(make_desk, clock, threat):
    """httpcore #1110: assigned to a request that had not woken yet, and closed as an idle one meanwhile."""
    desk = make_desk("a", max_unused=50)
    ticket = desk.ask()
    if threat == "age":
        clock.advance(50)
        desk.tend()
    elif threat == "size":
        desk.resize(0, 1)
    else:
        desk.ask(fresh=True)
    assert (desk.chores, ticket.entry.state) == ([], State.RESERVED)


# -- how long somebody waits -------------------------------------------------------------------------------------------


def test_a_slow_open_makes_nobody_wait_beyond_his_deadline(make_pool, hooks):
    """commons-pool POOL-418, POOL-420; HikariCP #588: the limit was that of the waiting, not of the opening."""
    pool = make_pool(min_size=0)
    hooks.gate.clear()
    began = time.monotonic()
    with pytest.raises(PoolTimeout), pool.lease(0.05):
        pytest.fail("lent what was not opened")
    assert hooks.opening == 1 and time.monotonic() - began < PATIENCE / 2


def test_being_woken_for_nothing_neither_ends_nor_prolongs_the_waiting(make_pool, clock, in_thread, wait_until):
    """commons-pool POOL-418: the remaining time was computed anew from the beginning after each wake-up."""
    pool, errors = make_pool(clock), []

    def borrow():
        try:
            with pool.lease(5.0):
                pytest.fail("lent twice")
        except PoolTimeout as exc:
            errors.append(exc)

    with pool.lease():
        borrower = in_thread(borrow)
        wait_until(pool, lambda: pool.stats()["waiting"] == 1)
        (ticket,) = pool._book.line
        for _ in range(4):
            clock.advance(1)
            ticket.wake()
        assert (errors, pool.stats()["waiting"]) == ([], 1)
        clock.advance(1)
        ticket.wake()
        borrower.join(PATIENCE)
    assert [error.seconds for error in errors] == [5.0]


def test_one_deadline_covers_all_that_is_tried(make_pool, hooks):
    """psycopg #709: the timeout began anew with each connection whose check failed, in a busy loop."""
    pool = make_pool(min_size=3, max_size=3)
    pool.wait(PATIENCE)
    for resource in hooks.made:
        resource.healthy = False
    hooks.gate.clear()
    began = time.monotonic()
    with pytest.raises(PoolTimeout), pool.lease(0.05):
        pytest.fail("lent what was not opened")
    assert time.monotonic() - began < PATIENCE / 2
    assert pool.stats()["discarded_unhealthy"] == 3


def test_who_asks_for_a_second_one_while_he_holds_the_last_gets_an_error_and_no_deadlock(make_pool):
    """urllib3 #1167: a retry asks for another connection before it has let go of the first."""
    pool = make_pool()
    with pool.lease(), pytest.raises(PoolTimeout):
        with pool.lease(0.01):
            pytest.fail("lent twice")


def test_a_thread_stuck_in_a_close_holds_up_neither_borrowers_nor_their_replacements(make_pool, hooks):
    """HikariCP #607: closes that hang fill the queue of the closing thread, then the borrower closes by himself."""
    let_go = threading.Event()

    def close(resource):
        assert let_go.wait(PATIENCE)
        resource.closed += 1

    hooks.close = close
    pool = make_pool()
    for number in range(1, 6):
        with pool.lease() as resource:
            assert resource.number == number
            resource.reusable = False
    assert [resource.closed for resource in hooks.made[:5]] == [0] * 5
    let_go.set()
    pool.close(PATIENCE)
    assert [resource.closed for resource in hooks.made[:5]] == [1] * 5


def test_while_one_is_being_opened_what_is_idle_is_lent_and_given_back(make_pool, hooks):
    """commons-pool POOL-93; HikariCP #1815: everything stands still while one connect hangs."""
    pool = make_pool(min_size=1, max_size=2)
    pool.wait(PATIENCE)
    hooks.gate.clear()
    pool.resize(2, 2)
    hooks.until(lambda: hooks.opening == 1)
    for _ in range(3):
        with pool.lease(0) as resource:
            assert resource.number == 1


# -- time --------------------------------------------------------------------------------------------------------------


def test_the_clock_is_one_that_nobody_sets():
    """HikariCP #559, #746: a change of the system's time empties the pool."""
    assert inspect.signature(Pool).parameters["clock"].default is time.monotonic


def test_after_a_leap_of_the_clock_nothing_old_is_lent(make_desk, clock):
    """HikariCP #668, #679: a process that was suspended wakes up with connections that died long ago."""
    desk = make_desk("a", "b", "c", openers=3)
    kept, idle = desk.lease(), list(desk.book.stock.idle)
    clock.advance(3600)
    assert not desk.ask().settled
    assert [chore.entry for chore in desk.chores if isinstance(chore, Close)] == idle[::-1]
    desk.give_back(kept)
    assert desk.chores == [Close(kept, Reason.MAX_LIFETIME), Open()]


# -- outages -----------------------------------------------------------------------------------------------------------


class Process:
    """A book whose opens take 0.1 s and fail while upstream is down; somebody looks after it when that is due."""

    def __init__(self, seed):
        self.book: Book[str] = Book("thing", Policy(min_size=3, max_size=3), random.Random(seed).random)
        self.ends: list[float] = []  # of the opens under way
        self.attempts: list[float] = []

    def live(self, now, until, up):
        """Go on to that moment."""
        while (now := max(now, min([self.book.due, *self.ends]))) < until:
            if now in self.ends:
                self.ends.remove(now)
                self.note(self.end(now, up), now)
            else:
                self.note(self.book.tend(now), now)
        return until

    def end(self, now, up):
        return self.book.opened("new", 0.1, now) if up(now) else self.book.open_failed(OSError(), now)

    def lose_all(self, now):
        """What was in use until now is found dead, one after the other."""
        for entry in self.book.stock.idle:
            entry.uses, entry.checked = 1, -math.inf
        while (found := self.book.examine(now)[0]) is not None:
            self.note(self.book.doubt(found, now), now)

    def note(self, decision, now):
        for chore in decision[1]:
            if isinstance(chore, Open) and self.book.begin()[0]:
                self.attempts.append(now)
                self.ends.append(now + 0.1)


def busiest_second(moments):
    return max((sum(moment <= other < moment + 1 for other in moments) for moment in moments), default=0)


def test_an_outage_ends_in_no_storm_and_everything_is_warm_again_soon_after():
    """HikariCP #1148, #1193, #1256, #1736, #2374; psycopg #370, #438, #1315: a pool that never comes back, or only with
    its first connection. And what is the opposite: all processes at once, again and again.
    """
    fleet = [Process(seed) for seed in range(20)]
    down, up_again, warm_by = 100.0, 700.0, 700.0 + 31.0  # the longest back-off, and the opens
    for process in fleet:
        process.live(0.0, down, up=lambda now: True)
        assert len(process.book.stock.idle) == 3
        process.attempts.clear()
        process.lose_all(down)
        process.live(down, up_again, up=lambda now: False)
        process.live(up_again, warm_by, up=lambda now: True)
    attempts = [moment for process in fleet for moment in process.attempts]
    assert [len(process.book.stock.idle) for process in fleet] == [3] * 20
    settled = [moment for moment in attempts if down + 60 <= moment]
    assert len([moment for moment in settled if moment < up_again]) < 2 * (up_again - down)
    assert busiest_second(settled) <= len(fleet)


# -- one's own lock ----------------------------------------------------------------------------------------------------


def test_a_lease_that_the_garbage_collector_ends_in_the_midst_of_a_decision_is_given_back(make_pool):
    """redis-py #1578, #2883, #3000: the collector runs in a thread that holds the lock, and waits for it for ever."""
    abandoned: list[Any] = []

    def clock():
        if abandoned and pool._changed._is_owned():
            abandoned.clear()  # the last reference
        return 0.0

    pool = make_pool(clock, min_size=2, max_size=2)
    pool.wait(PATIENCE)
    lease = pool.lease()
    lease.__enter__()
    abandoned.append(lease)
    del lease
    with pool.lease():
        assert (abandoned, pool.stats()["leased"]) == ([], 1)
    assert pool.stats()["idle"] == 2
