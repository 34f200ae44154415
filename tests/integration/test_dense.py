"""Many jobs in little memory and without a pause between two: what Celery's own ways would cost."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.stack import Stack, is_ready
from tests.sites import KEY, Launch

Site = Any
Counter = Callable[[float], Path]

PEEK = ("-I", "tests.peek")


def peek(site: Site, name: str, *args: Any) -> Any:
    return site.client.send_task(f"peek.{name}", args=args, queue="transcribe")


def test_a_prefork_child_shares_what_its_parent_imported_and_froze(
    alone: Callable[..., Site], counter: Counter
) -> None:
    site = alone("prefork", how=Launch(concurrency=1, options=PEEK))
    site.transcribe(counter(0.1).as_uri(), pace=0)

    seen = peek(site, "process").get(timeout=30)

    assert seen["pid"] != site.worker.pid
    assert seen["frozen"] > 10_000
    assert seen["alone"] == []


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_slot_that_a_job_has_left_is_filled_at_once(alone: Callable[..., Site], pool: str) -> None:
    site = alone(pool, how=Launch(concurrency=2, options=PEEK))
    peek(site, "nap", 0.0).get(timeout=30)

    began = time.monotonic()
    jobs = [peek(site, "nap", 0.1) for _ in range(10)]
    for job in jobs:
        job.get(timeout=30)

    # Ten waits of two seconds, if each slot stayed empty until Celery's loop comes round.
    assert time.monotonic() - began < 6


def test_jobs_that_end_together_under_gevent_are_all_acknowledged(alone: Callable[..., Site]) -> None:
    site = alone("gevent", how=Launch(concurrency=60, options=PEEK))
    jobs = [peek(site, "nap", 0.5) for _ in range(180)]
    for job in jobs:
        job.get(timeout=60)

    until = time.monotonic() + 10
    while site.redis.hlen("unacked"):
        assert time.monotonic() < until, "messages whose jobs have ended are still given out"
        time.sleep(0.02)
    assert "Couldn't ack" not in site.worker.output
    assert site.worker.output.count("Task peek.nap[") == 2 * len(jobs)  # each received once, and done once


def test_a_full_gevent_worker_still_answers(alone: Callable[..., Site]) -> None:
    site = alone("gevent", how=Launch(concurrency=1, options=PEEK))
    job = peek(site, "nap", 3.0)
    waiting = peek(site, "nap", 0.0)

    answers = site.client.control.inspect(timeout=2).ping()

    assert len(answers) == 1 and not job.ready()
    waiting.get(timeout=30)


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_a_worker_that_was_given_no_size_runs_as_many_jobs_as_suit_its_pool(stack: Stack, pool: str) -> None:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "worker.app",
        "worker",
        "-l",
        "INFO",
        "-P",
        pool,
        "-n",
        f"{pool}-no-size@%h",
    ]
    # Sixty is what the settings let stream at once: a hundred connections would crowd the emulator of other tests.
    worker = stack.run(f"{pool}-no-size", command, stack.env(RECOGNITION_OBJECTPOOL_SIZE="60", DASHSCOPE_API_KEY=KEY))
    try:
        assert ".> concurrency: 60 (" in worker.wait_until(is_ready).output
    finally:
        worker.stop(timeout=0.0)
