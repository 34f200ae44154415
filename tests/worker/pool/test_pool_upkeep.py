"""What the keeper does in the background, with a clock that is moved by hand."""

import logging
import threading

import pytest

PATIENCE = 10.0


class Enough(BaseException):
    """Not caught by the pool: ends what would go on for ever."""


def pass_time(pool, clock, seconds):
    """A clock that jumps wakes nobody."""
    clock.advance(seconds)
    pool._crew.hurry()


# -- idle ones ---------------------------------------------------------------------------------------------------------


def test_what_idles_too_long_is_replaced_in_the_background(make_pool, hooks, clock, caplog):
    with caplog.at_level(logging.INFO, logger="worker.pool"):
        pool = make_pool(clock, max_unused=50, jitter=0)
        pool.wait(PATIENCE)
        pass_time(pool, clock, 50)
        hooks.until(lambda: len(hooks.made) == 2 and hooks.made[0].closed == 1)
        pool.close(PATIENCE)
    assert "thing opened in 0.000 s" in caplog.messages
    assert "thing retired (max_idle): 50.0 s old, uses 0" in caplog.messages
    assert "thing retired (closed): 0.0 s old, uses 0" in caplog.messages


def test_what_dies_while_it_is_idle_is_replaced_before_anybody_asks(make_pool, hooks, clock):
    pool = make_pool(clock, check_every=5)
    with pool.lease():
        pass
    hooks.made[0].healthy = False
    pass_time(pool, clock, 5)
    hooks.until(lambda: len(hooks.made) == 2 and hooks.made[0].closed == 1)
    assert pool.stats()["discarded_unhealthy"] == 1


def test_one_look_does_not_make_another_wait(make_pool, hooks, clock, wait_until):
    """One is looked at at a time, so that the others can be lent meanwhile."""
    pool = make_pool(clock, min_size=2, max_size=2, check_every=5)
    pool.wait(PATIENCE)
    looking, go_on = threading.Event(), threading.Event()

    def is_healthy(resource):
        if threading.current_thread().name == "thing-keeper":
            looking.set()
            assert go_on.wait(PATIENCE)
        return True

    hooks.is_healthy = is_healthy
    pass_time(pool, clock, 5)
    assert looking.wait(PATIENCE)
    assert repr(pool) == "<Pool 'thing' leased 0, reserved 1, idle 1, opening 0 | waiting 0 | max 2>"
    with pool.lease(0):
        pass
    go_on.set()
    wait_until(pool, lambda: pool.stats()["idle"] == 2)


def test_each_is_looked_at_once_however_long_that_takes(make_pool, hooks, clock):
    pool = make_pool(clock, min_size=2, max_size=2, check_every=5)
    pool.wait(PATIENCE)
    pool._crew.stop(PATIENCE)
    looked_at = []

    def is_healthy(resource):
        looked_at.append(resource)
        clock.advance(5)
        if len(looked_at) > 5:
            raise Enough
        return True

    hooks.is_healthy = is_healthy
    clock.advance(5)
    pool._look()
    assert sorted(resource.number for resource in looked_at) == [1, 2]


@pytest.mark.parametrize("error", [OSError("secret"), Enough("secret")], ids=["ordinary", "of the base class"])
def test_a_look_that_raises_costs_the_entry_and_not_the_keeper(make_pool, hooks, clock, error):
    pool = make_pool(clock, check_every=5)
    pool.wait(PATIENCE)

    def is_healthy(resource):
        del hooks.is_healthy
        raise error

    hooks.is_healthy = is_healthy
    pass_time(pool, clock, 5)
    hooks.until(lambda: hooks.made[0].closed == 1)
    pass_time(pool, clock, 5)  # past the back-off after what died unused
    hooks.until(lambda: len(hooks.made) == 2)


# -- opens that are due later ------------------------------------------------------------------------------------------


def test_the_keeper_is_there_when_the_next_open_is_due(make_pool, hooks):
    """Nobody asks and nothing comes back: each open but the first waits for its time."""
    pool = make_pool(min_size=3, max_size=3, openers=3, opens_per_second=100.0)
    pool.wait(PATIENCE)
    assert len(hooks.made) == 3


def test_the_keeper_is_called_when_something_comes_due_earlier_than_it_was_told(make_pool, hooks):
    pool, called = make_pool(min_size=0, backoff_first=0.01), threading.Event()
    pool.open()
    pool._crew.hurry = called.set
    hooks.errors += [OSError()]
    with pool.lease():
        assert called.is_set()


def test_warming_begins_by_itself_at_its_moment(make_pool, hooks):
    pool = make_pool(spread=0.05)
    pool.wait(PATIENCE)
    assert len(hooks.made) == 1


def test_who_needs_one_does_not_wait_for_that_moment(make_pool, hooks, clock):
    pool = make_pool(clock, spread=1e9)
    pool.open()
    with pool.lease() as resource:
        assert resource.number == 1


# -- leases that are lost ----------------------------------------------------------------------------------------------


def test_a_leak_is_reported_with_the_borrower_s_name_cut_off_and_made_good(make_pool, hooks, clock, caplog):
    pool = make_pool(clock, max_lease=100)
    with pool.lease(borrower="job 7") as kept:
        pass_time(pool, clock, 100)
        with pool.lease() as another:
            assert another is not kept
        hooks.until(lambda: kept.aborted == 1)
        assert kept.closed == 0
    hooks.until(lambda: kept.closed == 1)
    pool.close(PATIENCE)
    assert caplog.messages == ["thing reclaimed: lent to 'job 7' for 100.0 s"]
    assert (pool.stats()["discarded_max_lease"], pool.stats()["returned_late"]) == (1, 1)


def test_a_cut_that_raises_is_logged_by_its_type_only(make_pool, hooks, clock, caplog):
    def abort(resource):
        hooks.calls.append("abort")
        raise OSError("secret")

    hooks.abort = abort
    pool = make_pool(clock, max_lease=100)
    with pool.lease():
        pass_time(pool, clock, 100)
        hooks.until(lambda: len(hooks.made) == 2)
    pool.close(PATIENCE)
    assert caplog.messages[1:] == ["thing: abort raised OSError"]


# -- another size ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2])
def test_a_larger_pool_warms_more_with_more_threads(make_pool, hooks, size):
    pool = make_pool(openers=2)
    pool.wait(PATIENCE)
    hooks.gate.clear()
    pool.resize(1 + size, 1 + size)
    hooks.until(lambda: hooks.opening == min(2, size))
    hooks.gate.set()
    pool.wait(PATIENCE)
    assert repr(pool) == f"<Pool 'thing' leased 0, idle {1 + size}, opening 0 | waiting 0 | max {1 + size}>"


def test_a_smaller_pool_closes_what_is_idle_now_and_what_is_lent_when_it_comes_back(make_pool, hooks):
    pool = make_pool(min_size=3, max_size=3)
    pool.wait(PATIENCE)
    with pool.lease(), pool.lease():
        pool.resize(1, 1)
        hooks.until(lambda: sum(resource.closed for resource in hooks.made) == 1)
        assert pool.stats()["leased"] == 2
    hooks.until(lambda: sum(resource.closed for resource in hooks.made) == 2)
    assert repr(pool) == "<Pool 'thing' leased 0, idle 1, opening 0 | waiting 0 | max 1>"


def test_a_size_that_cannot_be_is_refused(make_pool):
    with pytest.raises(ValueError, match="max_size=0 must be at least 1"):
        make_pool().resize(0, 0)


def test_resizing_a_pool_that_is_not_open_starts_nothing(make_pool, hooks):
    pool = make_pool()
    pool.resize(2, 2)
    assert (hooks.calls, pool.stats()["opening"]) == ([], 0)
    pool.wait(PATIENCE)
    assert len(hooks.made) == 2
