"""The six "common exceptions" of the vendor's guide to high concurrency, which its Java recipe meets and this must not.

Nothing here is measured by the clock: what the emulator noted is compared, in numbers and in order.
"""

import os
import signal
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from emulator import BackgroundEmulator, Fault
from tests.sites import POOLS, Launch, kept
from worker.pool import Policy, Pool
from worker.recognition import Endpoint, Recognizer, RecognizerHooks

Site = Any
Sites = Callable[..., Site]
Service = Callable[..., BackgroundEmulator]
Recording = Callable[[float], Path]
Eventually = Callable[..., None]

AGELESS = {"STENOPOOL_POOL_UNUSED_TIME": "59", "DASHSCOPE_CONNECTION_IDLE_TIME": "59"}
"""No recogniser is retired as long as a test lasts."""

ONLY_ONE = {"RECOGNITION_OBJECTPOOL_SIZE": "1", "DASHSCOPE_CONNECTION_POOL_SIZE": "1"}
"""A recogniser that is held back for nothing would hold up all that follows."""

OUT_OF_ORDER = "Invalid action('run-task')! Please follow the protocol!"


# -- 1: the service traffic is stable, but the number of TCP connections continues to increase -------------------------


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_1_steady_traffic_of_short_jobs_opens_no_connection_beyond_those_that_are_kept(
    alone: Sites, service: Service, counter: Recording, pool: str
) -> None:
    emulator = service()
    site = alone(pool, emulator, **AGELESS)

    results = site.run([counter(0.1).as_uri()] * 150, pace=0)

    assert {result["text"] for result in results} == {"0-1599"}
    assert emulator.logbook.wait_until(lambda book: book.connections == kept(pool))
    assert (emulator.logbook.tcp, emulator.logbook.connections_max) == (kept(pool), kept(pool))


# -- 2: the task takes 60 seconds longer than a normal call ------------------------------------------------------------


@pytest.mark.parametrize("pool", POOLS)
def test_2_a_job_that_broke_off_holds_no_connection_back_from_those_that_follow(
    sites: Sites, counter: Recording, broken: Recording, marker: str, pool: str
) -> None:
    site = sites(pool, **ONLY_ONE)

    for _ in range(3):
        assert site.failure(broken(6).as_uri(), pace=0, parameters={"marker": marker})[0] == "truncated_audio"
        assert site.transcribe(counter(1).as_uri(), pace=0, parameters={"marker": marker})["attempts"] == 1

    # Lost: the client hung up. The service's own limits would have failed the task, after 23 s or more.
    outcomes = [task["outcome"] for task in site.tasks(marker)]
    assert sorted(outcomes) == ["finished"] * 3 + ["lost"] * 3
    assert never_used_again(site.tasks(marker)) and out_of_order(site) == []


def never_used_again(tasks: list[dict[str, Any]]) -> bool:
    """Whether every connection on which a task did not finish has done no other after it."""
    unfinished = {task["connection"]: task["began"] for task in tasks if task["outcome"] != "finished"}
    return all(task["began"] <= unfinished.get(task["connection"], task["began"]) for task in tasks)


# -- 3: tasks are slow when the service starts and then gradually return to normal -------------------------------------


def test_3_the_first_jobs_after_the_start_need_no_handshake(
    alone: Sites, service: Service, counter: Recording, eventually: Eventually
) -> None:
    emulators = {pool: service() for pool in POOLS}
    made = [alone(pool, emulator, Launch(wait=False), **AGELESS) for pool, emulator in emulators.items()]
    for site in made:
        eventually(lambda site=site: site.ready().is_warm(kept(site.pool)), f"a warm pool under {site.pool}")
        emulators[site.pool].faults.add(Fault(kind="http_status", value=503, times=1000))

        results = site.run([counter(0.1).as_uri()] * 2, pace=0)

        assert [result["attempts"] for result in results] == [1, 1]
        assert emulators[site.pool].logbook.tcp == kept(site.pool)


# -- 4: the server reports the "Invalid action('run-task')! Please follow the protocol!" error -------------------------


def test_4_no_end_of_a_job_leaves_a_connection_on_which_the_service_still_sees_a_task(
    sites: Sites, counter: Recording, marker: str, eventually: Eventually
) -> None:
    site = sites("prefork", **ONLY_ONE)
    long, marked = counter(60).as_uri(), {"parameters": {"marker": marker}}

    killed = site.send(counter(3).as_uri(), **marked)
    eventually(lambda: streams(site, marker, 1), "the first stream")
    kill_child(site, killed.id)
    revoked = site.send(long, **marked)
    eventually(lambda: streams(site, marker, 2), "the second stream")
    site.client.control.revoke(revoked.id, terminate=True)
    eventually(lambda: not streams(site, marker, 2), "its end")
    timed = [site.send(long, celery={limit: 2}, **marked) for limit in ("soft_time_limit", "time_limit")]
    assert [job.get(timeout=30, propagate=False) and job.state for job in timed] == ["FAILURE"] * 2
    good = site.run([counter(0.1).as_uri()] * 8, pace=0, **marked)

    assert [result["attempts"] for result in good] == [1] * 8
    assert killed.get(timeout=30)["attempts"] == 2
    tasks = site.tasks(marker)
    assert sorted(task["outcome"] for task in tasks) == ["finished"] * 9 + ["lost"] * 4
    assert never_used_again(tasks) and out_of_order(site) == []


def streams(site: Site, marker: str, number: int) -> bool:
    """Whether the task of this number is running and has got audio."""
    tasks = site.tasks(marker)
    return len(tasks) >= number and tasks[number - 1]["outcome"] == "running" and tasks[number - 1]["audio_bytes"] > 0


def kill_child(site: Site, job_id: str) -> None:
    """Kill the child in which a job runs."""
    (found,) = site.client.control.inspect(timeout=10, limit=1).active().values()
    os.kill(next(job["worker_pid"] for job in found if job["id"] == job_id), signal.SIGKILL)


def out_of_order(site: Site) -> list[str]:
    """What the emulator said against the order of commands, by whichever test."""
    return [error for error in site.logbook()["summary"]["errors"] if "Invalid action" in error]


def test_4_a_greenlet_that_is_ended_in_mid_stream_leaves_no_such_connection(
    sites: Sites, counter: Recording, marker: str, eventually: Eventually
) -> None:
    site = sites("gevent", **ONLY_ONE)
    revoked = site.send(counter(60).as_uri(), parameters={"marker": marker})
    eventually(lambda: streams(site, marker, 1), "the stream")

    site.client.control.revoke(revoked.id, terminate=True)

    assert site.transcribe(counter(0.1).as_uri(), pace=0, parameters={"marker": marker})["attempts"] == 1
    tasks = site.tasks(marker)
    assert [task["outcome"] for task in tasks] == ["lost", "finished"]
    assert never_used_again(tasks) and out_of_order(site) == []


def test_4_if_the_service_says_it_all_the_same_the_job_goes_on_over_another_connection(
    site: Site, counter: Recording, marker: str, eventually: Eventually
) -> None:
    eventually(lambda: site.is_warm(kept(site.pool)), "a warm pool")
    site.fault(kind="task_failed", value="InvalidParameter", message=OUT_OF_ORDER)

    result = site.transcribe(counter(1).as_uri(), pace=0, parameters={"marker": marker})

    assert (result["text"], result["attempts"]) == ("0-15999", 1)
    refused, good = site.tasks(marker)
    assert (refused["code"], good["outcome"], good["counter_ok"]) == ("InvalidParameter", "finished", True)
    assert refused["connection"] != good["connection"]


# -- 5: the service traffic is stable, but the call volume has abnormal spikes -----------------------------------------

KEPT, AT_ONCE, OPENS_PER_SECOND = 40, 10, 16

# Two opens are at least half a regular interval apart, so a second may see twice the rate. All at once would be more.
MOST_UPGRADES = 2 * OPENS_PER_SECOND
assert MOST_UPGRADES < KEPT


def test_5_the_loss_of_all_connections_becomes_no_burst_of_opens_and_starts(
    alone: Sites, service: Service, counter: Recording
) -> None:
    emulator = service()
    book = emulator.logbook
    env = {
        "RECOGNITION_OBJECTPOOL_SIZE": str(KEPT),
        "STENOPOOL_POOL_OPENS_PER_SECOND": str(OPENS_PER_SECOND),
        "STENOPOOL_JOB_BACKOFF": "0.2",
    }
    site = alone("threads", emulator, Launch(concurrency=AT_ONCE), **AGELESS | env)
    assert book.wait_until(lambda book: book.connections_open == KEPT, 30)
    assert book.upgrades.most <= MOST_UPGRADES
    jobs = [site.send(counter(2).as_uri()) for _ in range(AT_ONCE + 4)]
    assert book.wait_until(lambda book: book.streams_open == AT_ONCE, 30)

    book.clear()
    emulator.faults.add(Fault(kind="abort_all"))  # those on which jobs run, and the idle ones
    results = [job.get(timeout=30) for job in jobs]

    assert {result["text"] for result in results} == {"0-15999 16000-31999"}
    assert {result["attempts"] for result in results} <= {1, 2}
    assert book.wait_until(lambda book: book.connections == book.connections_open == KEPT, 30)
    assert book.upgrades.most <= MOST_UPGRADES
    assert book.starts.most <= AT_ONCE  # a stream lasts longer than a second
    assert book.streams <= len(jobs) + AT_ONCE  # each begins once more for what it lost


def test_5_processes_that_start_together_do_not_connect_together(service: Service) -> None:
    emulator = service()
    policy = Policy(min_size=1, max_size=1, openers=1, spread=3.0)

    with pools(40, emulator.url, policy):
        assert emulator.logbook.wait_until(lambda book: book.connections_open == 40, 30)

    # A third of them on average. That it is three quarters by chance happens in none of a million cases.
    assert emulator.logbook.upgrades.most <= 30


@contextmanager
def pools(number: int, url: str, policy: Policy) -> Iterator[None]:
    """As many open pools as there would be in as many processes."""
    hooks = RecognizerHooks(Endpoint(url=url, api_key="k"))
    made: list[Pool[Recognizer]] = [Pool("recognizer", hooks, policy) for _ in range(number)]
    try:
        for pool in made:
            pool.open()
        yield
    finally:
        for pool in made:
            pool.close()


# -- 6: all tasks slow down as the concurrency increases ---------------------------------------------------------------


def limits(site: Site) -> set[str]:
    """What the worker's process says limits it."""
    return {name for report in site.reports() for name in str(report["limits"]).split(",")}


def test_6_the_account_s_rate_is_named_as_the_limit(
    alone: Sites, service: Service, counter: Recording, eventually: Eventually
) -> None:
    emulator = service(starts_per_second=1)
    patient = {"STENOPOOL_JOB_RETRIES": "100", "STENOPOOL_JOB_BACKOFF": "0.2", "STENOPOOL_JOB_BACKOFF_MAX": "0.5"}
    site = alone("threads", emulator, **patient)

    results = site.run([counter(0.1).as_uri()] * 3, pace=0)

    assert {result["text"] for result in results} == {"0-1599"}
    eventually(lambda: "quota" in limits(site), "the limit")
    assert "limited by quota" in site.worker.output


def test_6_the_network_is_named_as_the_limit(
    alone: Sites, service: Service, wav: Callable[..., Path], eventually: Eventually
) -> None:
    emulator = service()
    site = alone("threads", emulator)
    # Fifty times as fast as speech, and twenty milliseconds for each piece: two thirds of it too much to take.
    emulator.faults.add(Fault(kind="slow_reader", value=20, times=2))
    long = wav(array("h", bytes(range(256)) * 75_000)).as_uri()

    for _ in range(2):
        site.send(long, pace=50)

    eventually(lambda: "bandwidth" in limits(site), "the limit", timeout=60)


def test_6_the_processor_is_named_as_the_limit(
    alone: Sites, service: Service, counter: Recording, eventually: Eventually
) -> None:
    site = alone("threads", service())
    jobs = [site.send(counter(8).as_uri(), pace=2) for _ in range(2)]
    eventually(lambda: site.record(jobs[1].id).get("state") == "running", "the streams")

    with starved(site.worker.pid):
        eventually(lambda: "cpu" in limits(site), "the limit")

    assert "bandwidth" not in limits(site)
    assert all(job.get(timeout=30)["attempts"] == 1 for job in jobs)


@contextmanager
def starved(pid: int) -> Iterator[None]:
    """Let a process run for a tenth of a second, then stand for two, again and again."""
    done = threading.Event()

    def stop_and_go() -> None:
        while not done.is_set():
            os.kill(pid, signal.SIGSTOP)
            done.wait(0.2)
            os.kill(pid, signal.SIGCONT)
            done.wait(0.1)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
