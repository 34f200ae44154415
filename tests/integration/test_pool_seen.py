"""What an operator sees of the recognisers in all execution pools: Redis, `inspect`, `control`, Flower, `stenopool`."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.sites
from emulator.stack import Stack, free_port
from tests.sites import CONCURRENCY, POOLS

Site = Any
Counter = Callable[[float], Path]
Eventually = Callable[..., None]

ROWS = {
    "recognizers leased",
    "recognizers idle",
    "recognizers opening",
    "recognizers waiting",
    "recognizers max",
    "recognizers created",
    "recognizers reused",
    "recognizers discarded",
    "recognizers borrow p95 ms",
    "recognizers connect p95 ms",
    "recognizers limits",
    "quota slots",
    "quota waiting",
}


@pytest.fixture
def own(stack: Stack, valkey: str) -> Iterator[Callable[..., Site]]:
    """Starts a worker of a test's own, on a Valkey where no other worker is, until the end of the test."""
    elsewhere = copy.copy(stack)
    elsewhere.redis_url = valkey
    started: list[Site] = []

    def start(pool: str, **env: str) -> Site:
        started.append(tests.sites.Site(elsewhere, pool, 15, **env))
        return started[-1]

    yield start
    for site in started:
        site.worker.stop()
        site.redis.flushdb()
        site.close()


def reported(site: Site) -> dict[str, dict[str, str]]:
    """The reports of a worker's processes, by key."""
    found = {}
    for key in site.redis.scan_iter("stenopool:pool:*"):
        fields = {name.decode(): value.decode() for name, value in site.redis.hgetall(key).items()}
        if fields:
            found[key.decode()] = fields
    return found


def processes(pool: str) -> int:
    return CONCURRENCY if pool == "prefork" else 1


def leases(site: Site) -> int:
    return sum(int(fields["leases"]) for fields in reported(site).values())


def celery(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "celery", "-A", "worker.app", *words]
    return subprocess.run(command, env=site.env, capture_output=True, text=True, timeout=60)


def stenopool(site: Site, *words: str, command: str = "pool", **env: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-m", "cli", command, *words)
    return subprocess.run(words, env=site.env | env, capture_output=True, text=True, timeout=60)


def cancel(site: Site, jobs: list[Any], eventually: Eventually) -> None:
    for job in jobs:
        site.redis.set(f"stenopool:job:{{{job.id}}}:cancel", "1", ex=60)
    eventually(lambda: all(site.record(job.id)["state"] == "cancelled" for job in jobs), "their end")


# -- Redis -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", POOLS)
def test_each_process_reports_until_it_stops(
    own: Callable[..., Site], counter: Counter, eventually: Eventually, pool: str
) -> None:
    site = own(pool)
    eventually(lambda: len(reported(site)) == processes(pool), "a report of each process")
    for key, fields in reported(site).items():
        assert key == f"stenopool:pool:{{{fields['worker']}:{fields['pid']}}}"
        assert fields["worker"].startswith(f"{pool}") and fields["pool"] == pool
        assert 0 < site.redis.ttl(key) <= 20
        os.kill(int(fields["pid"]), 0)
        assert (int(fields["pid"]) == site.worker.pid) == (pool != "prefork")

    for _ in range(3):
        site.transcribe(counter(0.5).as_uri(), pace=0)
    eventually(lambda: leases(site) == 3, "the leases of three jobs")
    assert sum(int(fields["leased"]) for fields in reported(site).values()) == 0

    began = time.monotonic()
    assert site.worker.stop() in (0, -15)
    assert time.monotonic() - began < 10 and reported(site) == {}


def test_a_process_that_died_without_a_word_expires(own: Callable[..., Site], eventually: Eventually) -> None:
    site = own("threads")
    eventually(lambda: reported(site), "a report")
    os.killpg(site.worker.pid, signal.SIGKILL)
    site.worker.stop()
    (key,) = reported(site)
    assert 0 < site.redis.ttl(key) <= 20


def test_a_throttled_process_says_that_the_quota_is_its_limit(
    own: Callable[..., Site], counter: Counter, eventually: Eventually
) -> None:
    site = own("threads", STENOPOOL_JOB_BACKOFF="0.1")
    site.fault(kind="task_failed", value="Throttling.RateQuota")
    assert (
        site.transcribe(counter(0.5).as_uri(), pace=0)["attempts"] == 1
    )  # the try that was refused counts for nothing

    eventually(lambda: [one["limits"] for one in reported(site).values()] == ["quota"], "the limit")
    eventually(lambda: "limited by quota" in site.worker.output, "the warning")
    (line,) = [line for line in site.worker.output.splitlines() if "limited by" in line]
    assert "WARNING" in line and "starts refused in 30 s: 1" in line
    assert "quota" in stenopool(site).stdout


def test_a_process_whose_jobs_wait_says_which_setting_binds(
    own: Callable[..., Site], counter: Counter, eventually: Eventually
) -> None:
    site = own("threads", DASHSCOPE_MAXIMUM_ASYNC_REQUESTS="1")
    jobs = [site.send(counter(60).as_uri())]
    eventually(lambda: site.record(jobs[0].id).get("progress_ms"), "the first one streams")
    jobs.append(site.send(counter(0.1).as_uri()))

    eventually(lambda: [one["limits"] for one in reported(site).values()] == ["pool"], "the limit")
    eventually(lambda: "limited by pool" in site.worker.output, "the warning")
    assert "raise DASHSCOPE_MAXIMUM_ASYNC_REQUESTS, or" in site.worker.output
    cancel(site, jobs, eventually)


def test_a_process_whose_jobs_wait_for_quota_says_so_and_all_of_it_can_be_seen(
    own: Callable[..., Site], counter: Counter, eventually: Eventually
) -> None:
    site = own("threads", STENOPOOL_QUOTA_STREAMS="1", STENOPOOL_QUOTA_PATIENCE="60")
    jobs = [site.send(counter(60).as_uri())]
    eventually(lambda: site.record(jobs[0].id).get("progress_ms"), "the first one streams")
    jobs.append(site.send(counter(0.1).as_uri()))

    eventually(lambda: [one["limits"] for one in reported(site).values()] == ["quota"], "the limit")
    (report,) = reported(site).values()
    assert (report["quota_slots"], report["quota_waiting"]) == ("1", "1")
    eventually(lambda: "limited by quota" in site.worker.output, "the warning")
    assert "jobs that wait for it: 1" in site.worker.output
    (row,) = [line.split() for line in stenopool(site).stdout.splitlines() if line.startswith("threads")]
    assert row[6] == "1"

    (lane,) = json.loads(stenopool(site, "--json", command="quota").stdout)["lanes"]
    assert (lane["account"], lane["slots"], lane["most_slots"]) == ("default", 1, 1)
    assert lane["waiting"]["transcribe"] == 1 and lane["wait"] > 0
    assert "1/1" in stenopool(site, command="quota").stdout
    cancel(site, jobs, eventually)


# -- inspect and control -----------------------------------------------------------------------------------------------


def test_inspect_recognizers_gives_the_figures_of_each_process(
    site: Site, counter: Counter, eventually: Eventually
) -> None:
    eventually(lambda: len(reported(site)) == processes(site.pool), "a report of each process")
    site.transcribe(counter(0.5).as_uri(), pace=0)
    eventually(lambda: leases(site), "a lease in the reports")

    done = celery(site, "inspect", "recognizers", "-j")

    assert done.returncode == 0, done.stderr
    ((node, found),) = json.loads(done.stdout).items()
    assert {f"stenopool:pool:{{{name}}}" for name in found} == set(reported(site))
    assert {report["worker"] for report in found.values()} == {node}
    assert sum(report["leases"] for report in found.values()) >= 1


def test_inspect_recognizers_is_readable_as_text(threads: Site) -> None:
    done = celery(threads, "--no-color", "inspect", "recognizers")
    assert done.returncode == 0 and "1 node online" in done.stdout
    assert '"leased": 0,' in [line.strip() for line in done.stdout.splitlines()]


def test_inspect_stats_has_rows_of_the_recognisers(site: Site, eventually: Eventually) -> None:
    def stats() -> dict[str, Any]:
        (found,) = site.client.control.inspect(timeout=10, limit=1).stats().values()
        return {name: value for name, value in found.items() if name in ROWS}

    eventually(lambda: len(reported(site)) == processes(site.pool), "a report of each process")
    assert stats().keys() == ROWS
    assert stats()["recognizers max"] >= (1 if site.pool == "solo" else CONCURRENCY)
    assert stats()["recognizers limits"] in ("none", "quota")
    eventually(lambda: (stats()["quota slots"], stats()["quota waiting"]) == (0, 0), "all slots given back")
    # Of prefork's children it is their last reports, which are up to five seconds old: an earlier test may be in them.
    eventually(lambda: stats()["recognizers leased"] == 0, "all recognisers given back")


@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_control_resizes_the_recognisers_of_a_process(
    own: Callable[..., Site], eventually: Eventually, pool: str
) -> None:
    site = own(pool)
    done = celery(site, "--no-color", "control", "resize_recognizers", "5")
    assert done.returncode == 0 and "keeps 5 recognisers" in done.stdout
    eventually(lambda: [one["idle"] for one in reported(site).values()] == ["5"], "five recognisers")


@pytest.mark.parametrize(
    ("pool", "size", "words"), [("prefork", "5", "OBJECTPOOL_SIZE"), ("threads", "x", "from 1 to")]
)
def test_control_says_why_it_does_not_resize(sites: Callable[..., Site], pool: str, size: str, words: str) -> None:
    done = celery(sites(pool), "--no-color", "control", "resize_recognizers", size)
    assert "ERROR" in done.stdout and words in done.stdout and "Traceback" not in done.stderr


# -- Flower ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_flower_shows_the_rows_on_the_worker_s_page(
    sites: Callable[..., Site], eventually: Eventually, pool: str
) -> None:
    site = sites(pool)
    eventually(lambda: len(reported(site)) == processes(pool), "a report of each process")
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", "--conf=docker/flowerconfig.py"]
    env = site.env | {"FLOWER_UNAUTHENTICATED_API": "true"}
    flower = site.stack.run(f"flower {pool}", [*command, f"--port={port}"], env)
    address = f"http://127.0.0.1:{port}"

    eventually(lambda: "stats" in worker(address), "Flower sees the worker", timeout=60)

    assert ROWS <= worker(address)["stats"].keys()
    (name,) = json.loads(read(f"{address}/api/workers"))
    page = read(f"{address}/worker/{name}")
    assert "tab-other" in page and "recognizers borrow p95 ms" in page
    assert flower.stop() in (0, -15)


def worker(address: str) -> Any:
    """What Flower knows of its only worker."""
    found = json.loads(read(f"{address}/api/workers?refresh=true") or "{}")
    return next(iter(found.values()), {})


def read(address: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, ConnectionError):
        return ""


# -- stenopool pool ----------------------------------------------------------------------------------------------------


def test_stenopool_pool_shows_a_row_for_each_process_and_their_sum(
    sites: Callable[..., Site], eventually: Eventually
) -> None:
    site = sites("prefork")
    eventually(lambda: len(reported(site)) == CONCURRENCY, "a report of each process")

    done = stenopool(site)

    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    first = [row[0] for row in rows].index("process") + 1
    assert [f"stenopool:pool:{{{row[0]}}}" for row in rows[first:-1]] == sorted(reported(site))
    assert rows[-1][:2] == [str(CONCURRENCY), "processes"]


def test_stenopool_pool_as_json_is_a_list(threads: Site, eventually: Eventually) -> None:
    eventually(lambda: reported(threads), "a report")
    (found,) = json.loads(stenopool(threads, "--json").stdout)
    assert found["process"] == f"{found['worker']}:{found['pid']}" and found["leased"] == 0


def test_stenopool_pool_without_a_worker_is_a_sentence(threads: Site, valkey: str) -> None:
    nowhere = valkey.rsplit("/", 1)[0] + "/14"
    done = stenopool(threads, STENOPOOL_REDIS_URL=nowhere)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No worker has reported" in done.stderr and "celery -A worker.app worker" in done.stderr


# -- stenopool quota ---------------------------------------------------------------------------------------------------


def test_stenopool_quota_shows_the_account_that_a_worker_uses(threads: Site, counter: Counter) -> None:
    threads.transcribe(counter(0.5).as_uri(), pace=0)
    done = stenopool(threads, command="quota")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["default", "paraformer-realtime-v2", "0/-"] in [row[:3] for row in rows]
    assert rows[-1] == ["jobs", "0", "0", "0", "0"]


def test_stenopool_quota_without_a_worker_is_a_sentence(threads: Site, valkey: str) -> None:
    done = stenopool(threads, command="quota", STENOPOOL_REDIS_URL=valkey.rsplit("/", 1)[0] + "/14")
    assert (done.returncode, done.stdout) == (1, "") and "celery -A worker.app worker" in done.stderr


# Whoever runs the tests in the background has Ctrl-C ignored, and so have all processes below.
INTERRUPTIBLE = """
import signal
from cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.mark.parametrize(("command", "word"), [("pool", "threads"), ("quota", "opens/s")])
def test_a_watched_table_ends_well_with_ctrl_c(threads: Site, eventually: Eventually, command: str, word: str) -> None:
    eventually(lambda: reported(threads), "a report")
    env = threads.env | {"TTY_COMPATIBLE": "1", "PYTHONUNBUFFERED": "1"}
    watch = threads.stack.run("watch", [sys.executable, "-c", INTERRUPTIBLE, command, "--watch"], env)
    eventually(lambda: watch.output.count(word) > 1, "the table, drawn again", timeout=60)
    os.kill(watch.pid, signal.SIGINT)
    eventually(lambda: not watch.running, "its end")
    assert watch.stop() == 0 and "Traceback" not in watch.output
