"""Whoever has a say in when one more may be opened: it is asked before each open."""

import logging
import threading

import pytest

from tests.fakes import FakeClock
from worker.pool import PoolTimeout

PATIENCE = 10.0


class Closed(Exception):
    """Nobody is let through."""


class FakeGate:
    """Lets through whom it is told to, and keeps what each can ask."""

    def __init__(self, *errors):
        self.way = threading.Event()
        self.way.set()
        self.came = threading.Semaphore(0)
        self.questions = []
        self.errors = list(errors)

    def admit(self, is_wanted):
        self.questions.append(is_wanted)
        self.came.release()
        assert self.way.wait(PATIENCE)
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def gate():
    made = FakeGate()
    yield made
    made.way.set()


def test_each_open_is_admitted_before_it_begins(make_pool, hooks, gate, wait_until):
    gate.way.clear()
    pool = make_pool(admit=gate.admit, min_size=2, max_size=2)
    pool.open()
    for _ in range(2):
        assert gate.came.acquire(timeout=PATIENCE)
    assert (hooks.calls, hooks.opening, pool.stats()["opening"]) == ([], 0, 2)
    gate.way.set()
    pool.wait(PATIENCE)
    assert (len(gate.questions), hooks.calls) == (2, ["open", "open"])
    with pool.lease() as resource:
        resource.reusable = False
    wait_until(pool, lambda: pool.stats()["created"] == 3)
    assert len(gate.questions) == 3


def test_who_waits_at_the_gate_holds_nobody_up(make_pool, gate):
    pool = make_pool(admit=gate.admit, min_size=1, max_size=2)
    pool.wait(PATIENCE)
    assert gate.came.acquire(timeout=PATIENCE)
    gate.way.clear()
    with pool.lease():
        with pytest.raises(PoolTimeout), pool.lease(0):
            pytest.fail("lent twice")
        assert gate.came.acquire(timeout=PATIENCE)
        assert repr(pool) == "<Pool 'thing' leased 1, idle 0, opening 1 | waiting 0 | max 2>"
    with pool.lease(0) as resource:
        assert resource.number == 1


def test_nobody_is_admitted_while_the_lock_is_held(make_pool):
    held = []

    def admit(is_wanted):
        held.append(pool._changed._is_owned())

    pool = make_pool(admit=admit)
    pool.wait(PATIENCE)
    assert held == [False]


def test_the_gate_can_ask_at_any_time_whether_somebody_waits(make_pool, gate, in_thread, wait_until):
    gate.way.clear()
    pool = make_pool(admit=gate.admit)
    pool.open()
    assert gate.came.acquire(timeout=PATIENCE)
    (is_wanted,) = gate.questions
    assert not is_wanted()

    def borrow():
        with pool.lease():
            pass

    borrower = in_thread(borrow)
    wait_until(pool, lambda: pool.stats()["waiting"] == 1)
    assert is_wanted()
    gate.way.set()
    borrower.join(PATIENCE)
    assert not is_wanted()


def test_who_is_not_admitted_has_failed_to_open_and_tries_again(make_pool, hooks, gate, caplog):
    gate.errors += [Closed("secret"), Closed("secret")]
    with caplog.at_level(logging.INFO, logger="worker.pool"):
        pool = make_pool(admit=gate.admit)
        pool.wait(PATIENCE)
    assert (pool.stats()["open_failures"], pool.stats()["created"], len(gate.questions)) == (2, 1, 3)
    assert hooks.calls == ["open"] and pool.last_error == ""
    assert [line for line in caplog.messages if "failed" in line] == ["thing: open failed: Closed"] * 2
    assert "secret" not in caplog.text


def test_the_last_error_tells_of_who_is_not_admitted(make_pool, gate, wait_until):
    gate.errors += [Closed()]
    pool = make_pool(admit=gate.admit, backoff_first=1000.0, backoff_max=1000.0)
    pool.open()
    wait_until(pool, lambda: pool.stats()["open_failures"] == 1)
    assert pool.last_error == "Closed"


def test_the_time_at_the_gate_is_not_time_to_connect(make_pool, hooks):
    clock = FakeClock()

    def slow_open():
        clock.advance(2)
        return open_it()

    open_it, hooks.open = hooks.open, slow_open
    pool = make_pool(clock=clock, admit=lambda is_wanted: clock.advance(100))
    pool.wait(PATIENCE)
    assert pool.stats()["connect_seconds_max"] == 2.0


def test_a_pool_says_that_it_is_cut_off_until_an_open_succeeds(make_pool, wait_until):
    gate = FakeGate()
    pool = make_pool(admit=gate.admit)
    assert not pool.is_cut_off
    gate.way.clear()
    pool.open()
    gate.errors = [Closed() for _ in range(1000)]
    gate.way.set()
    wait_until(pool, lambda: pool.is_cut_off)
    gate.errors.clear()
    pool.wait(PATIENCE)
    assert not pool.is_cut_off
