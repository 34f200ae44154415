"""A process that forks while its pool is at work: the child lets go of what it inherits, and has a pool of its own."""

import json
import os
import select
import signal
import threading
import weakref

import pytest

from worker.pool import Policy, Pool, PoolClosed
from worker.pool import pool as pool_module

PATIENCE = 10.0

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


class Resource:
    def __init__(self, number):
        self.number, self.pid, self.closed, self.aborted = number, os.getpid(), 0, 0


class PlainHooks:
    """Without any lock: none can be held by another thread when the process forks."""

    def __init__(self):
        self.made = []
        self.gate = None  # the event that an open waits for

    def open(self):
        if self.gate is not None:
            assert self.gate.wait(PATIENCE)
        self.made.append(Resource(len(self.made) + 1))
        return self.made[-1]

    def is_healthy(self, resource):
        return resource.pid == os.getpid()

    def is_reusable(self, resource):
        return resource.pid == os.getpid()

    def close(self, resource):
        resource.closed += 1

    def abort(self, resource):
        resource.aborted += 1


@pytest.fixture
def hooks():
    return PlainHooks()


@pytest.fixture
def pool(hooks):
    pool = Pool("thing", hooks, Policy(min_size=2, max_size=2, lease_timeout=PATIENCE))
    yield pool
    pool.close(PATIENCE)


def in_child(work):
    """What `work` answers in a forked child, which ends there and then."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = work()
        except BaseException as exc:
            answer = repr(exc)
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    try:
        assert select.select([reading], [], [], PATIENCE)[0], "the child hangs"
        return json.loads(os.read(reading, 65536))
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def fates(hooks):
    return [(resource.closed, resource.aborted) for resource in hooks.made]


def test_a_child_lets_go_of_all_that_its_parent_holds(pool, hooks):
    pool.wait(PATIENCE)
    with pool.lease():
        assert in_child(lambda: [fates(hooks), repr(pool)]) == [
            [[1, 0], [1, 0]],
            "<Pool 'thing' leased 0, idle 0, opening 0 | waiting 0 | max 2>",
        ]
    assert fates(hooks) == [(0, 0), (0, 0)]


def test_a_child_can_use_the_pool_again_and_gets_only_what_it_opened_itself(pool, hooks):
    pool.wait(PATIENCE)

    def work():
        with pool.lease() as resource:
            own = resource.pid == os.getpid()
        pool.wait(PATIENCE)
        figures = pool.stats()
        pool.close(PATIENCE)
        return [own, figures["created"], figures["leases"], fates(hooks)]

    assert in_child(work) == [True, 2, 1, [[1, 0]] * 4]
    with pool.lease() as resource:
        assert resource.pid == os.getpid()
    assert fates(hooks) == [(0, 0), (0, 0)]
    assert pool.stats()["created"] == 2


def test_a_lease_held_across_the_fork_is_given_back_in_both(pool, hooks):
    pool.wait(PATIENCE)
    lease = pool.lease()
    number = lease.__enter__().number

    def work():
        lease.__exit__(None, None, None)
        with pool.lease() as another:
            return [another.number, hooks.made[number - 1].closed, pool.stats()["leased"]]

    assert in_child(work) == [3, 1, 1]
    lease.__exit__(None, None, None)
    assert (pool.stats()["idle"], hooks.made[number - 1].closed) == (2, 0)


@pytest.mark.parametrize("lock", ["pool", "switch", "crew"])
def test_a_lock_that_another_thread_held_at_the_fork_does_not_stop_the_child(pool, lock):
    pool.wait(PATIENCE)
    locks = {"pool": pool._lock, "switch": pool._switch, "crew": pool._crew._lock}
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with locks[lock]:
            held.set()
            assert let_go.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENCE)

    def work():
        with pool.lease() as resource:
            return resource.pid == os.getpid()

    try:
        assert in_child(work) is True
    finally:
        let_go.set()
        holder.join(PATIENCE)


def test_who_waits_in_the_parent_and_what_it_is_opening_are_not_in_the_child(pool, hooks):
    hooks.gate = threading.Event()
    waiter = threading.Thread(target=lambda: pool.lease().__enter__())
    waiter.start()
    with pool._changed:
        assert pool._changed.wait_for(lambda: pool._book.figures()["waiting"] == 1, PATIENCE)

    def work():
        before = repr(pool)
        hooks.gate = None
        pool.wait(PATIENCE)
        return [before, repr(pool)]

    assert in_child(work) == [
        "<Pool 'thing' leased 0, idle 0, opening 0 | waiting 0 | max 2>",
        "<Pool 'thing' leased 0, idle 2, opening 0 | waiting 0 | max 2>",
    ]
    hooks.gate.set()
    waiter.join(PATIENCE)
    assert not waiter.is_alive()


def test_a_pool_that_was_closed_is_closed_in_the_child_too(pool):
    pool.close(PATIENCE)

    def work():
        try:
            pool.open()
        except PoolClosed:
            return "closed"

    assert in_child(work) == "closed"


def test_a_child_of_a_child_starts_afresh_as_well(pool, hooks):
    pool.wait(PATIENCE)

    def work():
        pool.wait(PATIENCE)
        return in_child(lambda: [fates(hooks), pool.stats()["discarded_forked"]])

    assert in_child(work) == [[[1, 0]] * 4, 2]


def test_all_pools_of_a_process_are_made_anew(hooks, pool, monkeypatch):
    """The child's part, done here: after the crew is gone, as it is in a child."""
    idle = Pool("another", hooks, Policy())
    monkeypatch.setattr(pool_module, "_pools", weakref.WeakSet([pool, idle]))
    pool.wait(PATIENCE)
    pool._crew.stop(PATIENCE)
    pool_module._after_fork_in_child()
    assert fates(hooks) == [(1, 0), (1, 0)]
    pool.wait(PATIENCE)
    assert (len(hooks.made), pool.stats()["discarded_forked"]) == (4, 2)
