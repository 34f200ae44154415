"""An interrupt may strike anywhere in a borrower's thread: nothing is lost, lent twice or given back twice."""

import threading
from typing import Any

import pytest

PATIENCE = 10.0


class Interrupt(BaseException):
    """Strikes where it likes, as KeyboardInterrupt does."""


def test_an_interrupt_while_waiting_takes_nothing_along(make_pool):
    readings: list[None] = []

    class StrikingClock:
        """Time stands still; the third reading inside the wait is struck."""

        armed = False
        countdown = 0

        def __call__(self):
            readings.append(None)
            if self.armed and threading.current_thread() is threading.main_thread():
                self.countdown -= 1
                if self.countdown == 0:
                    raise Interrupt
            return 0.0

    clock = StrikingClock()
    pool = make_pool(clock)
    pool.wait(PATIENCE)
    for strike in (1, 2, 3):  # at the deadline, in the question, in the wait
        with pool.lease():
            clock.countdown, clock.armed = strike, True
            with pytest.raises(Interrupt), pool.lease():
                pytest.fail("lent twice")
            clock.armed = False
            assert pool.stats()["waiting"] == 0
    assert repr(pool) == "<Pool 'thing' leased 0, idle 1, opening 0 | waiting 0 | max 1>"


def test_an_interrupt_in_the_very_return_loses_no_entry(make_pool):
    class Clock:
        strike = False

        def __call__(self):
            if self.strike and threading.current_thread() is threading.main_thread():
                self.strike = False
                raise Interrupt
            return 0.0

    clock = Clock()
    pool = make_pool(clock)
    with pytest.raises(Interrupt), pool.lease():
        clock.strike = True
    assert repr(pool) == "<Pool 'thing' leased 0, idle 1, opening 0 | waiting 0 | max 1>"


def test_an_interrupt_right_after_the_return_gives_nothing_back_twice(make_pool):
    pool = make_pool()
    with pytest.raises(Interrupt), pool.lease() as resource:
        resource.reusable = False
        do = pool._do

        def struck(chore):
            raise Interrupt

        pool._crew.take = lambda chore: False
        pool._do = struck
    pool._do = do
    del pool._crew.take
    assert (pool.stats()["discarded"], pool.stats()["returned_late"]) == (1, 0)


@pytest.mark.parametrize(
    ("question", "kept"), [("is_healthy", True), ("is_reusable", False)], ids=["before lending", "after lending"]
)
def test_an_interrupt_inside_a_question_loses_no_entry(make_pool, hooks, question, kept):
    def struck(resource):
        delattr(hooks, question)
        raise Interrupt

    pool = make_pool()
    pool.wait(PATIENCE)
    setattr(hooks, question, struck)
    with pytest.raises(Interrupt), pool.lease():
        pass
    pool.wait(PATIENCE)
    assert pool.stats()["created"] == (1 if kept else 2)
    assert repr(pool) == "<Pool 'thing' leased 0, idle 1, opening 0 | waiting 0 | max 1>"


def test_a_gift_to_a_borrower_who_is_interrupted_goes_to_the_next(make_pool, in_thread, wait_until):
    got: list[Any] = []
    struck: list[threading.Thread] = []

    def clock():
        if threading.current_thread() in struck and len(pool._book.line):
            struck.clear()
            return strike_after_sleeping(next(iter(pool._book.line)))
        return 0.0

    def strike_after_sleeping(ticket):
        """It looks at the clock before it sleeps: sleep here, and be struck when woken."""
        ticket.sleep(PATIENCE)
        assert ticket.settled
        raise Interrupt

    def unlucky():
        struck.append(threading.current_thread())
        with pytest.raises(Interrupt), pool.lease():
            got.append("unlucky")

    def patient():
        with pool.lease():
            got.append("patient")

    pool = make_pool(clock)
    with pool.lease():
        first = in_thread(unlucky)
        wait_until(pool, lambda: pool.stats()["waiting"] == 1)
        second = in_thread(patient)
        wait_until(pool, lambda: pool.stats()["waiting"] == 2)
    first.join(PATIENCE)
    second.join(PATIENCE)
    assert (got, pool.stats()["idle"], pool.stats()["leases"]) == (["patient"], 1, 3)


def test_a_waker_that_was_interrupted_delays_nobody_for_long(make_pool, in_thread, wait_until):
    """The return was decided, its waker died before the waking: the one who waits looks up by itself."""
    pool, got = make_pool(), []

    def borrow():
        with pool.lease() as resource:
            got.append(resource.number)

    with pool.lease():
        borrower = in_thread(borrow)
        wait_until(pool, lambda: pool.stats()["waiting"] == 1)
        do, pool._do = pool._do, lambda chore: None
    pool._do = do
    borrower.join(PATIENCE)
    assert got == [1]
