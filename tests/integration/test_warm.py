"""Warm when the first job comes, warm after a silence, whatever was missing at the start: under every execution pool.

The workers of each test start together, because what they wait for takes seconds.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emulator import BackgroundEmulator, Logbook
from emulator.stack import Stack, answers, free_port
from tests.sites import POOLS, Launch, kept

Site = Any
Counter = Callable[[float], Path]
Eventually = Callable[..., None]

MODEL = "paraformer-realtime-v2"
GENERATIONS = 3
TIMES = {"DASHSCOPE_CONNECTION_IDLE_TIME": "2", "STENOPOOL_POOL_UNUSED_TIME": "2"}
LIMITS = {"idle_seconds": 5.0, "first_task_seconds": 5.0}
"""The service hangs up on an idle connection after so many seconds, one that has served and one that has not."""

UNREADY = Launch(wait=False)
ONE_JOB = Launch(concurrency=1, wait=False)


def test_a_job_after_a_silence_finds_a_warm_connection(
    alone: Callable[..., Site], service: Callable[..., BackgroundEmulator], counter: Counter
) -> None:
    own = {pool: service(**LIMITS) for pool in POOLS}
    made = [(alone(pool, one, ONE_JOB, **TIMES), one.logbook) for pool, one in own.items()]
    recording = counter(0.1).as_uri()

    with ThreadPoolExecutor(len(made)) as together:
        reports = list(together.map(lambda pair: after_silence(pair[0], pair[1], recording), made))

    assert [(report["leases"], report["waits"], report["discarded"]) for report in reports] == [(1, 0, 0)] * len(made)
    assert [book.idle_closed for _, book in made] == [0] * len(made)


def after_silence(site: Site, book: Logbook, recording: str) -> dict[str, Any]:
    """Send a job when all recognisers were replaced a few times, right after one was: at the very moment of the next
    replacement it might have to wait for it.
    """
    enough = (1 + GENERATIONS) * kept(site.pool, 1)
    assert book.wait_until(lambda book: book.connections >= enough, 60)
    assert site.ready().transcribe(recording, pace=0)["attempts"] == 1
    return dict(site.figures())


def test_with_a_warm_up_model_each_connection_has_done_a_task_before_a_job_comes(
    alone: Callable[..., Site], service: Callable[..., BackgroundEmulator], counter: Counter, eventually: Eventually
) -> None:
    own = {pool: service() for pool in POOLS}
    made = [(alone(pool, one, UNREADY, STENOPOOL_POOL_WARM_UP_MODEL=MODEL), one.logbook) for pool, one in own.items()]

    for site, book in made:
        eventually(lambda site=site: site.is_warm(kept(site.pool)), "a warm pool", timeout=60)
        assert sorted(task.connection for task in book.tasks) == list(range(1, kept(site.pool) + 1))
        assert {task.outcome for task in book.tasks} == {"finished"}

        result = site.transcribe(counter(0.1).as_uri(), pace=0)

        assert (result["text"], result["timing"]["reused_connection"]) == ("0-1599", True)
        assert book.connections == kept(site.pool)


URL = "DASHSCOPE_WEBSOCKET_BASE_URL"


def test_without_the_service_a_worker_starts_and_the_job_that_waits_is_served_when_it_comes(
    alone: Callable[..., Site], service: Callable[..., BackgroundEmulator], counter: Counter
) -> None:
    ports = {pool: free_port() for pool in POOLS}
    nowhere = {pool: f"ws://127.0.0.1:{port}/api-ws/v1/inference" for pool, port in ports.items()}
    made = [alone(pool, None, ONE_JOB, **{URL: nowhere[pool]}) for pool in POOLS]
    jobs = {site.pool: site.ready().send(counter(0.1).as_uri(), pace=0) for site in made}

    emulators = {pool: service(port) for pool, port in ports.items()}

    for pool, job in jobs.items():
        assert job.get(timeout=60)["attempts"] == 1
        (task,) = emulators[pool].logbook.tasks
        assert task.connection <= kept(pool, 1)


def test_without_redis_a_worker_warms_and_serves_when_it_comes(
    stack: Stack,
    alone: Callable[..., Site],
    service: Callable[..., BackgroundEmulator],
    counter: Counter,
    eventually: Eventually,
) -> None:
    port = free_port()
    made = [
        alone(pool, service(), Launch(wait=False, redis_url=f"redis://127.0.0.1:{port}/{number}"))
        for number, pool in enumerate(POOLS)
    ]
    for site in made:
        eventually(lambda site=site: opened(site) == kept(site.pool), "a warm pool", timeout=60)
        # Celery's pauses between its tries, which are two seconds longer each time, hold the warming up under no pool.
        assert site.worker.output.count("Cannot connect to redis") <= 2

    valkey = stack.run("late valkey", [sys.executable, "-m", "emulator.valkey", "--port", str(port)])
    valkey.wait_until(lambda _: answers(port))
    jobs = [(site, site.send(counter(0.1).as_uri(), pace=0)) for site in made]

    for site, job in jobs:
        assert job.get(timeout=60)["attempts"] == 1
        (task,) = site.logbook()["tasks"]
        assert task["connection"] <= kept(site.pool)


def opened(site: Site) -> int:
    """How many recognisers the worker says that it has opened."""
    return int(site.worker.output.count("recognizer opened"))
