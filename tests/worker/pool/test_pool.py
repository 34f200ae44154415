import contextlib
import logging
import threading
from typing import Any

import pytest

from worker.pool import OpenFailed, PoolClosed, PoolFull, PoolTimeout

PATIENCE = 10.0


class Refused(Exception):
    retryable = False


class Interrupt(BaseException):
    """Strikes where it likes, as KeyboardInterrupt does."""


def threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("thing-")}


def look_at_the_clock(pool):
    """A fake clock that jumps wakes nobody."""
    with pool._crew._ready:
        pool._crew._ready.notify_all()


# -- opening -----------------------------------------------------------------------------------------------------------


def test_making_a_pool_starts_nothing(make_pool, hooks):
    pool = make_pool()
    assert repr(pool) == "<Pool 'thing' leased 0, idle 0, opening 0 | waiting 0 | max 1>"
    assert (threads(), hooks.calls) == (set(), [])


def test_opening_returns_at_once_and_warms_in_the_background(make_pool, hooks):
    pool = make_pool(min_size=2, max_size=2)
    hooks.gate.clear()
    pool.open()
    assert repr(pool) == "<Pool 'thing' leased 0, idle 0, opening 2 | waiting 0 | max 2>"
    hooks.gate.set()
    pool.wait(PATIENCE)
    assert repr(pool) == "<Pool 'thing' leased 0, idle 2, opening 0 | waiting 0 | max 2>"


def test_opening_twice_is_opening_once(make_pool, hooks):
    pool = make_pool()
    pool.open()
    pool.open()
    pool.wait(PATIENCE)
    assert (threads(), len(hooks.made)) == ({"thing-opener-1", "thing-closer-1", "thing-keeper"}, 1)


def test_pools_opened_from_two_threads_at_once_open_once(make_pool, in_thread):
    pool = make_pool()
    with pool._switch:
        opener = in_thread(pool.open)
        pool.open()
    opener.join(PATIENCE)
    assert pool.stats()["opening"] + pool.stats()["idle"] == 1


def test_a_warm_pool_is_waited_for_no_longer_than_allowed(make_pool, hooks):
    pool = make_pool()
    hooks.gate.clear()
    with pytest.raises(
        PoolTimeout, match=r"thing not warm after 0.0 s \(leased 0, idle 0, opening 1, waiting 0, max 1\)"
    ):
        pool.wait(0)


def test_a_pool_without_a_smallest_size_is_warm_at_once(make_pool):
    pool = make_pool(min_size=0)
    pool.wait(0)
    assert pool.stats()["size"] == 0


def test_a_failed_warm_up_is_tried_again_until_it_works(make_pool, hooks, caplog):
    hooks.errors += [OSError("secret"), OSError("secret"), Interrupt("secret")]
    with caplog.at_level(logging.INFO, logger="worker.pool"):
        pool = make_pool()
        pool.wait(PATIENCE)
        pool.close(PATIENCE)
    assert pool.stats()["open_failures"] == 3
    assert [line for line in caplog.messages if "failed" in line] == [
        "thing: open failed: OSError",
        "thing: open failed: OSError",
        "thing: open failed: Interrupt",
    ]
    assert "secret" not in caplog.text


# -- lending -----------------------------------------------------------------------------------------------------------


def test_a_lease_opens_the_pool_if_nobody_did(make_pool, hooks):
    with make_pool(min_size=0).lease() as resource:
        assert resource is hooks.made[0]


def test_one_resource_serves_one_lease_after_the_other(make_pool, hooks):
    pool = make_pool()
    for _ in range(3):
        with pool.lease() as resource:
            assert resource.number == 1
            assert repr(pool) == "<Pool 'thing' leased 1, idle 0, opening 0 | waiting 0 | max 1>"
    stats = pool.stats()
    assert (stats["created"], stats["leases"], stats["reused"], stats["idle"]) == (1, 3, 2, 1)


def test_who_waits_is_served_by_the_next_return(make_pool, in_thread, wait_until):
    pool, got = make_pool(), []

    def borrow():
        with pool.lease() as resource:
            got.append(resource.number)

    with pool.lease():
        borrower = in_thread(borrow)
        wait_until(pool, lambda: pool.stats()["waiting"] == 1)
    borrower.join(PATIENCE)
    assert got == [1]
    assert pool.stats()["waits"] >= 1


@pytest.mark.parametrize("timeout", [0, 0.01, 0.02])
def test_nobody_waits_longer_than_the_timeout(make_pool, timeout):
    pool = make_pool()
    with pool.lease(), pytest.raises(PoolTimeout, match=r"leased 1, idle 0, opening 0, waiting 1, max 1"):
        with pool.lease(timeout):
            pytest.fail("lent twice")
    assert (pool.stats()["timeouts"], pool.stats()["waiting"]) == (1, 0)


def test_the_default_timeout_is_the_policy_s(make_pool):
    pool = make_pool(lease_timeout=0)
    pool.wait(PATIENCE)
    with pool.lease(), pytest.raises(PoolTimeout):
        with pool.lease():
            pytest.fail("lent twice")


def test_a_lease_without_patience_still_gets_what_is_idle(make_pool):
    pool = make_pool()
    pool.wait(PATIENCE)
    with pool.lease(0) as resource:
        assert resource.number == 1


def test_a_full_queue_turns_away_at_once(make_pool):
    pool = make_pool(max_waiting=0)
    pool.wait(PATIENCE)
    with pool.lease(), pytest.raises(PoolFull):
        with pool.lease():
            pytest.fail("lent twice")


def test_an_unhealthy_resource_is_replaced_before_anybody_sees_it(make_pool, hooks):
    pool = make_pool()
    pool.wait(PATIENCE)
    hooks.made[0].healthy = False
    with pool.lease() as resource:
        assert resource.number == 2
    hooks.until(lambda: hooks.made[0].closed == 1)
    assert pool.stats()["discarded_unhealthy"] == 1


def test_an_open_that_nobody_needs_any_more_when_it_is_due_is_dropped(make_pool, hooks, clock, in_thread, wait_until):
    pool = make_pool(clock, min_size=0, max_size=2, backoff_first=10.0)

    def borrow():
        with pool.lease():
            pass

    with pool.lease():
        hooks.errors += [OSError()]
        borrower = in_thread(borrow)
        wait_until(pool, lambda: pool.stats()["open_failures"] == 1)
    borrower.join(PATIENCE)
    assert pool.stats()["opening"] == 1
    clock.advance(10.0)
    look_at_the_clock(pool)
    wait_until(pool, lambda: pool.stats()["opening"] == 0)
    assert (pool.stats()["idle"], len(hooks.made)) == (1, 1)


# -- giving back -------------------------------------------------------------------------------------------------------


def test_an_error_of_the_borrower_does_not_cost_a_reusable_resource(make_pool):
    pool = make_pool()
    with pytest.raises(KeyError), pool.lease():
        raise KeyError
    with pool.lease() as resource:
        assert resource.number == 1


def test_what_is_not_reusable_is_closed_and_replaced(make_pool, hooks):
    pool = make_pool()
    with pool.lease() as resource:
        resource.reusable = False
    with pool.lease() as another:
        assert another.number == 2
    hooks.until(lambda: hooks.made[0].closed == 1)


@pytest.mark.parametrize("question", ["is_healthy", "is_reusable"])
def test_a_hook_that_raises_costs_the_resource_but_not_the_job(make_pool, hooks, caplog, question):
    def raising(resource):
        if resource.number == 1:
            raise OSError("secret")
        return True

    setattr(hooks, question, raising)
    pool = make_pool()
    pool.wait(PATIENCE)
    with pool.lease():
        pass
    with pool.lease() as resource:
        assert resource.number == 2
    assert pool.stats()["discarded"] == 1
    assert "thing: raising raised OSError" in caplog.messages
    assert "secret" not in caplog.text


def test_a_close_that_raises_is_logged_by_its_type_only(make_pool, hooks, caplog):
    def raising(resource):
        raise OSError("secret")

    hooks.close = raising
    pool = make_pool()
    pool.wait(PATIENCE)
    pool.close(PATIENCE)
    assert caplog.messages == ["thing: close raised OSError"]
    assert pool.stats()["size"] == 0


# -- interrupts --------------------------------------------------------------------------------------------------------


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
    assert pool.stats()["discarded"] == 1


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
        if threading.current_thread() in struck and pool._book._waiting:
            struck.clear()
            return strike_after_sleeping(pool._book._waiting[0])
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


# -- failing for good --------------------------------------------------------------------------------------------------


def test_a_hopeless_error_reaches_the_borrower_with_its_cause(make_pool, hooks):
    error = Refused("secret")
    hooks.errors += [error]
    pool = make_pool(min_size=0, backoff_first=30.0)
    hooks.gate.clear()
    threading.Timer(0, hooks.gate.set).start()
    with pytest.raises(OpenFailed) as caught:
        with pool.lease():
            pytest.fail("lent what could not be opened")
    assert caught.value.error is caught.value.__cause__ is error


# -- tending and closing -----------------------------------------------------------------------------------------------


def test_what_idles_too_long_is_replaced_in_the_background(make_pool, hooks, clock, caplog):
    with caplog.at_level(logging.INFO, logger="worker.pool"):
        pool = make_pool(clock, max_idle=50, jitter=0)
        pool.wait(PATIENCE)
        clock.advance(50)
        look_at_the_clock(pool)
        hooks.until(lambda: len(hooks.made) == 2 and hooks.made[0].closed == 1)
        pool.close(PATIENCE)
    assert "thing opened in 0.000 s" in caplog.messages
    assert "thing retired (max_idle): 50.0 s old, uses 0" in caplog.messages
    assert "thing retired (closed): 0.0 s old, uses 0" in caplog.messages


def test_a_leak_is_reported_with_the_borrower_s_name_and_made_good(make_pool, hooks, clock, caplog):
    pool = make_pool(clock, max_lease=100)
    with pool.lease(borrower="job 7") as kept:
        clock.advance(100)
        look_at_the_clock(pool)
        with pool.lease() as another:
            assert another is not kept
        assert kept.closed == 0
    hooks.until(lambda: kept.closed == 1)
    pool.close(PATIENCE)
    assert caplog.messages == ["thing reclaimed: lent to 'job 7' for 100.0 s"]
    assert (pool.stats()["discarded_max_lease"], pool.stats()["returned_late"]) == (1, 1)


def test_closing_ends_threads_and_resources(make_pool, hooks):
    pool = make_pool(min_size=2, max_size=2)
    pool.wait(PATIENCE)
    pool.close(PATIENCE)
    assert [resource.closed for resource in hooks.made] == [1, 1]
    assert (threads(), pool.stats()["retired_closed"]) == (set(), 2)
    assert repr(pool) == "<Pool 'thing' closed, leased 0, idle 0, opening 0 | waiting 0 | max 2>"


@pytest.mark.parametrize("use", ["open", "wait", "lease"])
def test_a_closed_pool_stays_closed(make_pool, use):
    pool = make_pool()
    pool.close()
    pool.close()
    with pytest.raises(PoolClosed):
        if use == "lease":
            with pool.lease():
                pytest.fail("a closed pool lent something")
        elif use == "wait":
            pool.wait(0)
        else:
            pool.open()


def test_closing_ends_the_waiting(make_pool, hooks, in_thread, wait_until):
    pool, outcome = make_pool(), []

    def attempt(use):
        with contextlib.suppress(PoolClosed):
            use()
            return
        outcome.append(use)

    hooks.gate.clear()
    waits = [lambda: pool.wait(PATIENCE), lambda: pool.lease().__enter__()]
    started = [in_thread(attempt, use) for use in waits]
    wait_until(pool, lambda: pool.stats()["waiting"] == 1)
    hooks.until(lambda: hooks.opening == 1)
    closer = in_thread(pool.close, PATIENCE)
    for thread in started:
        thread.join(PATIENCE)
    hooks.gate.set()
    closer.join(PATIENCE)
    assert len(outcome) == 2
    assert [resource.closed for resource in hooks.made] == [1]


def test_what_is_lent_is_closed_when_it_comes_back_to_a_closed_pool(make_pool, hooks):
    pool = make_pool()
    with pool.lease() as resource:
        pool.close(PATIENCE)
        assert resource.closed == 0
    assert (resource.closed, threads()) == (1, set())


def test_an_open_delayed_by_back_off_does_not_delay_closing(make_pool, hooks, wait_until):
    hooks.errors += [OSError()]
    pool = make_pool(backoff_first=30.0)
    pool.open()
    wait_until(pool, lambda: pool.stats()["open_failures"] == 1)
    pool.close(PATIENCE)
    assert (threads(), pool.stats()["opening"]) == (set(), 0)


# -- the lock ----------------------------------------------------------------------------------------------------------


def test_no_hook_is_called_while_the_lock_is_held(make_pool, hooks):
    pool, held = make_pool(), []

    def watched(hook):
        def call(*args):
            held.append(pool._changed._is_owned())
            return hook(*args)

        return call

    for name in ("open", "is_healthy", "is_reusable", "close"):
        setattr(hooks, name, watched(getattr(hooks, name)))
    pool.wait(PATIENCE)
    with pool.lease() as resource:
        resource.reusable = False
    pool.close(PATIENCE)
    assert len(held) >= 4
    assert not any(held)


def test_many_borrowers_share_few_resources_and_never_the_same(make_pool, hooks, in_thread):
    pool, busy, clashes, served = make_pool(min_size=0, max_size=3), set(), [], []

    def borrow(seed):
        for turn in range(30):
            with pool.lease() as resource:
                if resource in busy:
                    clashes.append(resource)
                busy.add(resource)
                resource.reusable = (seed + turn) % 7 > 0
                served.append(resource.number)
                busy.discard(resource)

    for thread in [in_thread(borrow, seed) for seed in range(12)]:
        thread.join(60)
    pool.close(PATIENCE)
    assert (clashes, len(served)) == ([], 360)
    assert all(resource.closed == 1 for resource in hooks.made)
    assert pool.stats()["size"] == 0
