import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from worker import limits, report
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


class FakeReports(Reports):
    """A Redis that answers when it is told to."""

    def __init__(self) -> None:
        self.away = False
        self.posted = 0
        self.tried = 0
        self.removed = False

    def post(self, name: str, report: Report) -> None:
        self.tried += 1
        if self.away:
            raise redis.ConnectionError("at redis://:secret@h/0")
        self.posted += 1

    def remove(self, name: str) -> None:
        self.removed = True

    def close(self) -> None:
        pass


@pytest.fixture
def reports(valkey: str, client: redis.Redis) -> Iterator[Reports]:
    board = Reports.at(valkey)
    yield board
    board.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Reporter]]:
    """Starts a reporter that stops with the test."""
    started: list[Reporter] = []

    def make(reports: Reports, pool: FakePool | None = None, load: FakeLoad | None = None) -> Reporter:
        started.append(Reporter(PROCESS, pool or FakePool(), load or FakeLoad(), reports))
        started[-1].start()
        return started[-1]

    yield make
    for one in started:
        stop(one)


def stop(reporter: Reporter) -> None:
    reporter.stop()
    reporter.join(10)
    assert not reporter._thread.is_alive()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports follow each other at once."""
    assert (report.EAGER_EVERY, report.REPORT_EVERY) == (1.0, 5.0)
    monkeypatch.setattr(report, "EAGER_EVERY", 0.01)
    monkeypatch.setattr(report, "REPORT_EVERY", 0.01)


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.message for record in caplog.records if record.name == "worker.report" and record.levelno == level]


# -- one report --------------------------------------------------------------------------------------------------------


def test_a_report_holds_the_figures_who_reports_and_what_limits_it() -> None:
    pool = FakePool(waiting=1)
    pool.last_error = "ConnectFailed"
    made = Reporter(PROCESS, pool, FakeLoad("quota"), FakeReports()).report()

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


def test_together_each_limit_is_named_once() -> None:
    found = together([{"limits": "quota"}, {"limits": "quota,pool"}, {}])
    assert found["limits"] == "quota,pool"


# -- reporting ---------------------------------------------------------------------------------------------------------


def test_a_process_reports_at_once_and_withdraws_its_report_when_it_stops(
    valkey: str, client: redis.Redis, start: Callable[..., Reporter], eventually: Callable[..., None]
) -> None:
    reporter = start(Reports.at(valkey))
    eventually(lambda: client.exists(KEY), "the first report")
    assert client.hget(KEY, "leased") == b"1" and 0 < client.ttl(KEY) <= 20

    stop(reporter)
    assert not client.exists(KEY)


def test_reports_follow_each_other_with_new_figures(
    valkey: str, client: redis.Redis, start: Callable[..., Reporter], eventually: Callable[..., None], hasty: None
) -> None:
    pool = FakePool()
    start(Reports.at(valkey), pool)
    pool.figures = FIGURES | {"leased": 2}
    eventually(lambda: client.hget(KEY, "leased") == b"2", "the new figure")
    client.delete(KEY)
    eventually(lambda: client.exists(KEY), "the next report")


def test_an_outage_of_redis_is_told_once_and_its_end_once(
    start: Callable[..., Reporter],
    eventually: Callable[..., None],
    hasty: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    reports = FakeReports()
    reports.away = True
    start(reports)
    eventually(lambda: reports.tried > 3, "some tries")
    assert said(caplog, logging.WARNING) == ["the pool's report cannot be written (ConnectionError); trying on"]
    assert said(caplog, logging.INFO) == []

    reports.away = False
    eventually(lambda: reports.posted > 3, "some reports")
    assert said(caplog, logging.INFO) == ["the pool's report is written again"]
    assert len(said(caplog, logging.WARNING)) == 1 and "secret" not in caplog.text


def test_what_has_not_been_heard_for_a_while_is_left_to_expire(
    start: Callable[..., Reporter], eventually: Callable[..., None], hasty: None
) -> None:
    reports = FakeReports()
    reports.away = True
    reporter = start(reports)
    eventually(lambda: reports.tried, "a try")
    stop(reporter)
    assert not reports.removed


def test_a_redis_that_never_answers_holds_no_stop_up(start: Callable[..., Reporter]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        reporter = start(Reports.at(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"))
        began = time.monotonic()
        reporter.stop()
        reporter.join(0.1)
        assert time.monotonic() - began < 0.9
        stop(reporter)


def test_a_limit_is_told_to_the_log_once_with_its_cure_and_when_it_has_gone(
    start: Callable[..., Reporter],
    eventually: Callable[..., None],
    hasty: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert limits.CALM == 60
    monkeypatch.setattr(limits, "CALM", 0.05)
    caplog.set_level(logging.INFO)
    reports, load = FakeReports(), FakeLoad("quota")
    start(reports, load=load)
    eventually(lambda: reports.posted > 3, "some reports")
    (warning,) = said(caplog, logging.WARNING)
    assert warning.startswith("limited by quota: ") and "starts refused in 30 s: 3" in warning

    load.found = ()
    eventually(lambda: said(caplog, logging.INFO) == ["no longer limited by quota"], "its end")
    assert len(said(caplog, logging.WARNING)) == 1


def test_a_pool_that_cannot_be_asked_does_not_end_the_reporting(
    start: Callable[..., Reporter], eventually: Callable[..., None], hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    reports, pool = FakeReports(), FakePool()
    whole, pool.figures = pool.figures, {}
    reporter = start(reports, pool)
    eventually(lambda: "KeyError" in caplog.text, "the fault")
    pool.figures = whole
    eventually(lambda: reports.posted, "a report")
    assert reporter._thread.is_alive()


def test_making_a_reporter_starts_nothing() -> None:
    before = set(threading.enumerate())
    Reporter(PROCESS, FakePool(), FakeLoad(), FakeReports())
    assert set(threading.enumerate()) <= before
