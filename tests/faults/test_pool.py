"""What a pool meets in a worker's life: broken jobs, a service that hangs up, children and workers that die."""

import collections
import itertools
import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator import BackgroundEmulator, Fault
from tests.sites import POOLS, Launch, kept
from worker.sizing import with_spare

Site = Any
Sites = Callable[..., Site]
Service = Callable[..., BackgroundEmulator]
Recording = Callable[[float], Path]
Eventually = Callable[..., None]

# What the service does to a job on a bad day, one after the other. The last is done by the recording itself.
BREAKS: tuple[dict[str, Any] | None, ...] = (
    {"kind": "abort"},
    {"kind": "abort", "after_ms": 100},
    {"kind": "binary", "after_ms": 100},
    {"kind": "close", "value": 1011, "after_ms": 100},
    {"kind": "delay_task_started", "value": 50},
    {"kind": "foreign_task_id"},
    {"kind": "garbage", "after_ms": 100},
    {"kind": "late_events"},
    {"kind": "no_task_finished"},
    {"kind": "no_task_started"},
    {"kind": "silent", "after_ms": 100},
    {"kind": "slow_reader", "value": 10},
    {"kind": "task_failed", "value": "InternalError"},
    {"kind": "task_failed", "value": "InternalError", "after_ms": 100},
    {"kind": "task_failed", "value": "ServiceUnavailable", "keep_open": True},
    {"kind": "task_failed", "value": "Throttling.RateQuota"},
    {"kind": "truncated_frame", "after_ms": 100},
    None,
)
LENGTHS = (0.2, 0.3, 0.5)
IN_FLIGHT = 40


# Celery fills the slots of the gevent pool every two seconds only: there must be many for as many jobs.
@pytest.mark.parametrize(
    ("pool", "concurrency", "number"), [("threads", 4, 500), ("prefork", 2, 100), ("gevent", 50, 100), ("solo", 1, 100)]
)
def test_jobs_of_which_every_tenth_is_broken_cost_no_more_connections_than_were_discarded(
    alone: Sites,
    service: Service,
    counter: Recording,
    broken: Recording,
    pool: str,
    concurrency: int,
    number: int,
) -> None:
    emulator = service()
    site = alone(
        pool,
        emulator,
        Launch(concurrency=concurrency),
        STENOPOOL_JOB_BACKOFF="0.1",
        STENOPOOL_STARTED_TIMEOUT="0.5",
        DASHSCOPE_READ_TIMEOUT="0.5",
    )
    good, bad = [counter(seconds).as_uri() for seconds in LENGTHS], broken(4).as_uri()

    answers = list(windowed(site, planned(number, good, bad, emulator)))

    told = {reference: f"0-{round(16_000 * seconds) - 1}" for reference, seconds in zip(good, LENGTHS, strict=True)}
    told[bad] = "truncated_audio"
    assert [answer for answer in answers if answer[1] != told[answer[0]]] == []
    assert len(answers) == number
    assert list(emulator.logbook.errors) == []
    opened = emulator.logbook.connections
    figures: dict[str, Any] = site.figures()
    assert opened <= kept(pool, concurrency) + figures["discarded"] + figures["retired"]
    assert figures["leased"] == figures["waiting"] == 0


def planned(number: int, good: list[str], bad: str, emulator: BackgroundEmulator) -> Iterator[str]:
    """The recordings of so many jobs; every tenth is broken, or the service is told to break the next job."""
    breaks = itertools.cycle(BREAKS)
    for at in range(number):
        fault = next(breaks) if at % 10 == 5 else {}
        if fault:
            emulator.faults.add(Fault(**fault))
        yield bad if fault is None else good[at % len(good)]


def windowed(site: Site, references: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each job's recording and its text, or the code with which it failed. Some are under way at any time."""
    under_way: collections.deque[tuple[str, Any]] = collections.deque()
    for reference in references:
        under_way.append((reference, site.send(reference, pace=0)))
        if len(under_way) >= IN_FLIGHT:
            yield ended(*under_way.popleft())
    while under_way:
        yield ended(*under_way.popleft())


def ended(reference: str, job: Any) -> tuple[str, str]:
    result = job.get(timeout=30, propagate=False)
    return reference, str(result["text"] if job.state == "SUCCESS" else result.args[0])


# -- the service ends connections --------------------------------------------------------------------------------------


def test_idle_connections_that_the_service_closes_are_replaced_before_a_job_comes(
    alone: Sites, service: Service, counter: Recording, eventually: Eventually
) -> None:
    emulator = service()
    made = [alone(pool, emulator, Launch(wait=False)) for pool in POOLS]
    all_kept = sum(kept(pool) for pool in POOLS)
    eventually(lambda: all(site.ready().is_warm(kept(site.pool)) for site in made), "warm pools")

    emulator.faults.add(Fault(kind="close_idle"))

    eventually(lambda: sum(site.figure("discarded_unhealthy") for site in made) == all_kept, "all were noticed")
    assert emulator.logbook.wait_until(lambda book: book.connections_open == all_kept)
    assert emulator.logbook.connections >= 2 * all_kept and emulator.logbook.streams == 0
    before = emulator.logbook.connections
    assert [site.transcribe(counter(0.1).as_uri(), pace=0)["attempts"] for site in made] == [1] * len(POOLS)
    assert max(task.connection for task in emulator.logbook.tasks) <= before


def test_a_reused_connection_that_dies_when_the_job_begins_costs_no_attempt(
    site: Site, counter: Recording, marker: str
) -> None:
    assert site.transcribe(counter(0.1).as_uri(), pace=0)["attempts"] == 1
    site.fault(kind="abort")

    result = site.transcribe(counter(1).as_uri(), pace=0, parameters={"marker": marker})

    assert (result["text"], result["attempts"], result["timing"]["reused_connection"]) == ("0-15999", 1, False)
    dead, good = site.tasks(marker)
    assert (dead["outcome"], good["outcome"]) == ("lost", "finished")
    assert [task for task in site.logbook()["tasks"] if task["connection"] == good["connection"]] == [good]


# -- children and workers come and go ----------------------------------------------------------------------------------

ONE_JOB_EACH = Launch(concurrency=1, options=("--max-tasks-per-child=1",))
UP = "Timed out waiting for UP message"
"""What Celery says before it kills a child whose start took too long."""


def test_a_service_whose_handshake_takes_longer_than_celery_waits_for_a_child_ends_no_child(
    alone: Sites, service: Service, counter: Recording, eventually: Eventually
) -> None:
    emulator = service()
    site = alone("prefork", emulator, ONE_JOB_EACH, DASHSCOPE_CONNECTION_TIMEOUT="4.5")
    eventually(lambda: site.is_warm(with_spare(1)), "a warm child")
    slow = 2 * with_spare(1)  # all that the next two children begin with
    emulator.faults.add(Fault(kind="accept_never", times=slow))

    # One child ends with its job and is replaced, another is added.
    assert site.transcribe(counter(0.1).as_uri(), pace=0)["attempts"] == 1
    site.client.control.pool_grow(1, reply=True, limit=1, timeout=10)
    results = site.run([counter(0.1).as_uri()] * 2, pace=0)

    assert [result["attempts"] for result in results] == [1] * 2
    assert emulator.faults.pending == ()
    assert UP not in site.worker.output and "WorkerLostError" not in site.worker.output
    # Its first child, the one that was added, and those that replaced one that had tried a job.
    tries = site.worker.output.count("celery.app.trace: Task tasks.transcribe[")
    assert len(children(site)) <= 1 + 1 + tries


def children(site: Site) -> set[str]:
    """The processes that have begun to warm."""
    return set(re.findall(r"INFO +(\d+) worker: warming", site.worker.output))


def test_a_child_that_replaces_another_is_warm_when_its_first_job_comes(
    alone: Sites, service: Service, counter: Recording, eventually: Eventually
) -> None:
    emulator = service()
    site = alone("prefork", emulator, ONE_JOB_EACH)
    for number in range(1, 3):
        eventually(lambda number=number: warm_children(site) >= number, f"child {number} is warm")
        before = emulator.logbook.connections
        assert site.transcribe(counter(0.1).as_uri(), pace=0)["attempts"] == 1
        assert emulator.logbook.tasks[-1].connection <= before

    assert len({task.connection for task in emulator.logbook.tasks}) == 2


def warm_children(site: Site) -> int:
    """How many children have opened all that they keep."""
    opened = collections.Counter(re.findall(r"INFO +(\d+) worker.pool: recognizer opened", site.worker.output))
    return sum(count >= with_spare(1) for count in opened.values())


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_the_connections_of_a_killed_worker_end_with_it(
    alone: Sites, service: Service, counter: Recording, pool: str
) -> None:
    emulator = service()
    site = alone(pool, emulator)
    site.send(counter(60).as_uri())
    assert emulator.logbook.wait_until(lambda book: (book.connections_open, book.streams_open) == (kept(pool), 1), 30)

    os.kill(site.worker.pid, signal.SIGKILL)

    assert emulator.logbook.wait_until(lambda book: (book.connections_open, book.streams_open) == (0, 0), 30)
    assert [task.outcome for task in emulator.logbook.tasks] == ["lost"]
