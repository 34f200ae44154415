import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.fakes import FakeClock
from worker import limits, report
from worker.beat import Beat, impatient
from worker.report import Process, Report, Reporter, Reports, together

KEY = "stenopool:pool:{celery@h:7}"
PROCESS = Process(worker="celery@h", pool="threads", streams=2, pid=7, host="h")
FIGURES = {"leased": 1, "waiting": 0, "max_size": 3, "max_leased": 2, "borrow_seconds_p95": 0.0123456789}


class FakePool:
    def __init__(self, **figures: float) -> None:
        self.figures: dict[str, int | float] = FIGURES | figures
        self.last_error = ""

    def stats(self) -> dict[str, int | float]:
        return self.figures


class FakeLoad:
    def __init__(self, *found: str) -> None:
        self.found = found

    def figures(self) -> dict[str, float]:
        return {"late_share": 0.5, "late_ms_max": 70.0, "throttled": 3}

    def limits(self) -> tuple[str, ...]:
        return self.found


@pytest.fixture
def reports(valkey: str, client: redis.Redis) -> Iterator[Reports]:
    board = Reports.at(valkey)
    yield board
    board.close()


def reporter(pool: FakePool | None = None, load: FakeLoad | None = None, clock: FakeClock | None = None) -> Reporter:
    return Reporter(PROCESS, pool or FakePool(), load or FakeLoad(), clock or FakeClock())


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.message for record in caplog.records if record.name == "worker.report" and record.levelno == level]


# -- one report --------------------------------------------------------------------------------------------------------


def test_a_report_holds_the_figures_who_reports_and_what_limits_it() -> None:
    pool = FakePool(waiting=1)
    pool.last_error = "ConnectFailed"
    made = reporter(pool, FakeLoad("quota")).report()

    assert abs(float(made.pop("reported_at")) - time.time()) < 10
    assert made == FIGURES | FakeLoad().figures() | {
        "waiting": 1,
        "borrow_seconds_p95": 0.012346,
        "worker": "celery@h",
        "pid": 7,
        "host": "h",
        "pool": "threads",
        "streams": 2,
        "limits": "quota,service",
        "last_error": "ConnectFailed",
    }


def test_a_process_is_this_one_of_this_machine_unless_told_otherwise() -> None:
    process = Process(worker="celery@h", pool="solo", streams=1)
    assert (process.pid, process.host) == (os.getpid(), socket.gethostname())
    assert process.name == f"celery@h:{os.getpid()}"


# -- in Redis ----------------------------------------------------------------------------------------------------------


def test_a_posted_report_is_a_hash_that_expires(reports: Reports, client: redis.Redis) -> None:
    reports.post("celery@h:7", {"leased": 1, "worker": "celery@h"})
    assert client.hgetall(KEY) == {b"leased": b"1", b"worker": b"celery@h"}
    assert 0 < client.ttl(KEY) <= 20


def test_a_report_is_read_as_it_was_written_and_with_its_age(reports: Reports, client: redis.Redis) -> None:
    told: Report = {"leased": 1, "late_share": 0.25, "worker": "12", "last_error": "", "pid": 7, "odd": "x"}
    reports.post("celery@h:7", told)
    client.pexpire(KEY, 15_000)

    found = reports.read(["celery@h:7", "celery@h:8"])

    assert 5.0 <= float(found["celery@h:7"].pop("age")) < 10
    assert found == {"celery@h:7": told}


def test_a_report_is_never_from_the_future(reports: Reports, client: redis.Redis) -> None:
    reports.post("celery@h:7", {"leased": 1})
    client.expire(KEY, 1000)
    assert reports.read(["celery@h:7"])["celery@h:7"]["age"] == 0.0


def test_nobody_is_read_as_nothing(reports: Reports) -> None:
    assert reports.read([]) == {} and reports.names() == []


def test_those_who_reported_are_found_among_all_keys(reports: Reports, client: redis.Redis) -> None:
    client.set("stenopool:pool:odd", "no hash")
    client.hset("stenopool:job:{a}", "state", "running")
    for name in ("celery@b:1", "celery@a:22"):
        reports.post(name, {"leased": 0})
    assert reports.names() == ["celery@a:22", "celery@b:1"]

    reports.remove("celery@a:22")
    assert reports.names() == ["celery@b:1"]


# -- several processes -------------------------------------------------------------------------------------------------


def test_together_counts_are_summed_and_of_times_the_worst_is_kept() -> None:
    one: Report = {
        "leased": 1,
        "max_size": 2,
        "max_leased": 1,
        "borrow_seconds_p95": 0.1,
        "limits": "cpu,quota",
        "pid": 7,
    }
    two: Report = {"leased": 2, "max_size": 2, "max_leased": 9, "borrow_seconds_p95": 0.3, "limits": "", "age": 3.0}
    assert together([one, two]) == {
        "leased": 3,
        "max_size": 4,
        "max_leased": 10,
        "most_leased": 3,
        "borrow_seconds_p95": 0.3,
        "limits": "cpu,quota",
    }


def test_together_the_figures_of_the_quota_are_summed() -> None:
    one: Report = {"quota_slots": 2, "quota_waiting": 1, "quota_refused": 3, "quota_wait_seconds_total": 1.5}
    two: Report = {"quota_slots": 1, "quota_waiting": 4, "quota_refused": 0, "quota_wait_seconds_total": 2.0}
    found = together([one, two, {}])  # and one of another version
    assert {name: found[name] for name in one} == {
        "quota_slots": 3,
        "quota_waiting": 5,
        "quota_refused": 3,
        "quota_wait_seconds_total": 3.5,
    }


def test_together_each_limit_is_named_once() -> None:
    found = together([{"limits": "quota"}, {"limits": "quota,pool"}, {}])
    assert found["limits"] == "quota,pool"


# -- reporting ---------------------------------------------------------------------------------------------------------


def test_a_report_is_told_with_every_beat_at_first_and_then_every_five_seconds() -> None:
    assert (report.EAGER, report.REPORT_EVERY) == (5, 5.0)
    clock = FakeClock()
    reporting = reporter(clock=clock)
    told = 0
    for _ in range(20):
        if reporting.tell() is not None:
            reporting.told(None)
            told += 1
        clock.advance(1)
    assert told == 5 + 3


def test_a_report_that_was_not_heard_is_told_again_with_the_next_beat() -> None:
    reporting = reporter()
    for _ in range(report.EAGER):
        reporting.told(None)
    assert reporting.tell() is None
    reporting = reporter()
    assert all(reporting.tell() is not None for _ in range(2 * report.EAGER))


def test_what_is_told_is_the_report_as_it_is_read(reports: Reports, client: redis.Redis) -> None:
    pool = FakePool()
    reporting = reporter(pool)
    for leased in (1, 2):
        pool.figures = FIGURES | {"leased": leased}
        call = reporting.tell()
        assert call is not None
        call.run(client)
        found = reports.read(["celery@h:7"])["celery@h:7"]
        assert (found["leased"], found["worker"], found["pid"]) == (leased, "celery@h", 7)
    assert 0 < client.ttl(KEY) <= 20


def test_a_report_that_is_withdrawn_is_removed_and_told_no_more(client: redis.Redis) -> None:
    reporting = reporter()
    told = reporting.tell()
    reporting.withdraw()
    withdrawn = reporting.tell()
    assert told is not None and withdrawn is not None
    told.run(client)
    withdrawn.run(client)
    assert not client.exists(KEY)


def test_a_process_reports_at_once_and_withdraws_its_report_when_it_stops(
    valkey: str, client: redis.Redis, eventually: Callable[..., None]
) -> None:
    reporting, beating = reporter(), Beat(impatient(valkey))
    beating.carry(reporting)
    eventually(lambda: client.exists(KEY), "the first report")
    assert client.hget(KEY, "leased") == b"1"
    reporting.withdraw()
    beating.stop()
    beating.join(10)
    assert not client.exists(KEY)


def test_a_limit_is_told_to_the_log_once_with_its_cure_and_when_it_has_gone(caplog: pytest.LogCaptureFixture) -> None:
    assert limits.CALM == 60
    caplog.set_level(logging.INFO)
    clock, load = FakeClock(), FakeLoad("quota")
    reporting = reporter(load=load, clock=clock)
    for _ in range(3):
        reporting.tell()
        clock.advance(1)
    (warning,) = said(caplog, logging.WARNING)
    assert warning.startswith("limited by quota: ") and "starts refused in 30 s: 3" in warning

    load.found = ()
    reporting.tell()
    assert said(caplog, logging.INFO) == []
    clock.advance(60)
    reporting.tell()
    assert said(caplog, logging.INFO) == ["no longer limited by quota"]
    assert len(said(caplog, logging.WARNING)) == 1


def test_jobs_that_wait_for_quota_are_a_limit_too(caplog: pytest.LogCaptureFixture) -> None:
    reporting = reporter(FakePool(quota_waiting=4))
    assert reporting.report()["limits"] == "quota"
    reporting.tell()
    (warning,) = said(caplog, logging.WARNING)
    assert warning.startswith("limited by quota: ") and "jobs that wait for it: 4" in warning


def test_making_a_reporter_starts_nothing() -> None:
    before = set(threading.enumerate())
    reporter()
    assert set(threading.enumerate()) <= before
