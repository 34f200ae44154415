import contextlib
import threading

import pytest

from worker.pool import PoolClosed

PATIENCE = 10.0


def threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("thing-")}


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


@pytest.mark.parametrize("how", ["given back", "opened"])
def test_a_pool_may_be_closed_from_inside_a_hook(make_pool, hooks, how):
    pool = make_pool()

    def close_it(*args):
        delattr(hooks, name)
        pool.close(PATIENCE)
        return getattr(hooks, name)(*args)

    name = "is_reusable" if how == "given back" else "open"
    setattr(hooks, name, close_it)
    with contextlib.suppress(PoolClosed), pool.lease():
        pass
    hooks.until(lambda: [resource.closed for resource in hooks.made] == [1])
    pool.close(PATIENCE)
    assert threads() == set()
