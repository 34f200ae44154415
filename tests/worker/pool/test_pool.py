import logging
import threading

import pytest

from worker.pool import OpenFailed, PoolFull, PoolTimeout

PATIENCE = 10.0


class TimeLimit(Exception):
    pass


class Refused(Exception):
    retryable = False


class Interrupt(BaseException):
    """Strikes where it likes, as KeyboardInterrupt does."""


def threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("thing-")}


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


def test_the_error_of_the_last_open_is_known_until_one_succeeds(make_pool, hooks, wait_until):
    open_it, down = hooks.open, threading.Event()

    def open_or_fail():
        if down.is_set():
            raise OSError("secret")
        return open_it()

    hooks.open = open_or_fail
    down.set()
    pool = make_pool(backoff_max=0.01)
    assert pool.last_error == ""
    pool.open()
    wait_until(pool, lambda: pool.stats()["open_failures"] > 0)
    assert pool.last_error == "OSError"
    down.clear()
    pool.wait(PATIENCE)
    assert pool.last_error == ""


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


def test_who_is_turned_away_stops_waiting_at_once_and_nobody_else_does(make_pool, in_thread, wait_until):
    pool, got = make_pool(), []

    def borrow(name):
        try:
            with pool.lease(borrower=name) as resource:
                got.append((name, resource.number))
        except PoolTimeout as error:
            got.append((name, error.seconds < PATIENCE))

    pool.turn_away("job 7")
    with pool.lease(borrower="job 7"):
        away, patient = in_thread(borrow, "job 7"), in_thread(borrow, "job 8")
        wait_until(pool, lambda: pool.stats()["waiting"] == 2)
        pool.turn_away("job 7")
        away.join(PATIENCE)
        assert (got, pool.stats()["waiting"], pool.stats()["leased"]) == ([("job 7", True)], 1, 1)
    patient.join(PATIENCE)
    assert got[1:] == [("job 8", 1)]


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
def test_what_strikes_in_a_question_reaches_the_borrower_and_loses_nothing(make_pool, hooks, question):
    """A soft time limit is an ordinary exception, and comes once: whoever swallows it is killed at the hard one."""

    def struck(resource):
        delattr(hooks, question)
        raise TimeLimit

    pool = make_pool()
    pool.wait(PATIENCE)
    setattr(hooks, question, struck)
    with pytest.raises(TimeLimit), pool.lease():
        pass
    with pool.lease():
        assert (pool.stats()["leased"], pool.stats()["size"]) == (1, 1)


def test_a_close_that_raises_is_logged_by_its_type_only(make_pool, hooks, caplog):
    def close(resource):
        raise OSError("secret")

    hooks.close = close
    pool = make_pool()
    pool.wait(PATIENCE)
    pool.close(PATIENCE)
    assert caplog.messages == ["thing: close raised OSError"]
    assert pool.stats()["size"] == 0


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
