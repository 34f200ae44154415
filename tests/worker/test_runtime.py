import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from config.settings import Settings
from emulator.background import BackgroundEmulator
from worker import lifecycle, runtime
from worker.runtime import Runtime

Given = Callable[..., Settings]


def test_making_a_runtime_opens_nothing(given: Given) -> None:
    house = Runtime(given(), streams=3)
    assert house.pool.stats()["size"] == 0
    assert repr(house) == f"<Runtime pid {os.getpid()}, 3 streams, {house.pool!r}>"
    house.close(0.1)


@pytest.mark.parametrize(
    ("variables", "streams", "sizes"),
    [
        ({}, 1, (1, 1)),
        ({}, 200, (200, 200)),
        ({"RECOGNITION_OBJECTPOOL_SIZE": "5"}, 1, (5, 5)),
        ({"DASHSCOPE_CONNECTION_POOL_SIZE": "4"}, 8, (4, 4)),
        ({"RECOGNITION_OBJECTPOOL_SIZE": "2", "DASHSCOPE_CONNECTION_POOL_SIZE": "6"}, 8, (2, 6)),
    ],
)
def test_the_pool_is_as_large_as_the_process_unless_told_otherwise(
    given: Given, variables: dict[str, str], streams: int, sizes: tuple[int, int]
) -> None:
    policy = Runtime(given(**variables), streams).pool.policy
    assert (policy.min_size, policy.max_size) == sizes


def test_no_job_waits_for_a_recogniser_beyond_its_own_deadline(given: Given) -> None:
    assert Runtime(given(STENOPOOL_JOB_DEADLINE="9"), streams=1).pool.policy.lease_timeout == 9


def test_a_process_has_one_runtime_made_on_the_first_call(fresh: Given) -> None:
    fresh()
    house = runtime.runtime(streams=2)
    assert runtime.runtime(streams=9) is house and house.streams == 2
    runtime.close(0.1)
    assert runtime.runtime() is not house


def test_a_forked_child_makes_its_own_and_leaves_its_parent_s_alone(fresh: Given) -> None:
    fresh()
    house = runtime.runtime()
    child = os.fork()
    if child == 0:
        os._exit(0 if runtime.runtime() is not house else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert runtime.runtime() is house


@pytest.mark.parametrize(
    ("signal", "concurrency"), [("celery.concurrency.thread", 3), ("celery.concurrency.gevent", 3), (None, 1)]
)
def test_each_pool_kind_warms_by_its_own_signal(fresh: Given, signal: str | None, concurrency: int) -> None:
    with BackgroundEmulator() as emulator:
        fresh(DASHSCOPE_WEBSOCKET_BASE_URL=emulator.url, DASHSCOPE_API_KEY="k")
        if signal is None:
            lifecycle.warm_child()
        else:
            kind: Any = type("TaskPool", (), {"__module__": signal})
            lifecycle.begin(SimpleNamespace(pool_cls=kind, concurrency=concurrency))
        runtime.runtime().pool.wait(10)
        assert emulator.logbook.wait_until(lambda book: book.connections == concurrency)
        lifecycle.cool_child()
        assert emulator.logbook.wait_until(lambda book: book.connections_open == 0)
        lifecycle.cool()


@pytest.mark.parametrize("kind", ["celery.concurrency.prefork", "celery.concurrency.solo"])
def test_a_main_process_whose_children_run_the_jobs_warms_nothing(fresh: Given, kind: str) -> None:
    fresh()
    pool: Any = type("TaskPool", (), {"__module__": kind})
    lifecycle.begin(SimpleNamespace(pool_cls=pool, concurrency=3))
    assert runtime._made is None
