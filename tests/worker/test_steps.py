"""What a worker answers; Celery's side is played by the few attributes that it gives."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from celery.worker import state as celery_state
from celery.worker.control import Panel
from celery.worker.state import maybe_shutdown

from config.settings import Settings
from emulator.background import BackgroundEmulator
from emulator.stack import free_port
from tasks.job.keys import JobKeys
from worker import drain, lifecycle, runtime, steps
from worker.drain import Drain
from worker.ending import DrainLimit
from worker.report import Report, Reports
from worker.slots import FreeSlots
from worker.visibility import Visibility

Given = Callable[..., Settings]


def state(kind: str, *pids: int) -> Any:
    """What a command is given by a worker whose children have these numbers."""
    pool_cls = type("TaskPool", (), {"__module__": f"celery.concurrency.{kind}"})
    pool = SimpleNamespace(info={"processes": list(pids)})
    worker = SimpleNamespace(pool_cls=pool_cls, pool=pool, hostname="celery@h", concurrency=2)
    return SimpleNamespace(consumer=SimpleNamespace(controller=worker))


@pytest.fixture
def emulator() -> Iterator[BackgroundEmulator]:
    with BackgroundEmulator() as running:
        yield running


@pytest.fixture
def warm(fresh: Given, valkey: str, client: redis.Redis, emulator: BackgroundEmulator) -> runtime.Runtime:
    """The runtime of a threads worker with two jobs at once."""
    fresh(STENOPOOL_REDIS_URL=valkey, DASHSCOPE_WEBSOCKET_BASE_URL=emulator.url, DASHSCOPE_API_KEY="k")
    lifecycle.begin(state("thread").consumer.controller, sender="celery@h")
    return runtime.runtime()


@pytest.fixture
def cold(fresh: Given) -> runtime.Runtime:
    """The runtime of a process with two jobs at once, whose pool has opened nothing."""
    fresh()
    return runtime.runtime(streams=2)


@pytest.fixture
def reports(fresh: Given, valkey: str, client: redis.Redis) -> Iterator[Reports]:
    """Where the children of a prefork worker report."""
    fresh(STENOPOOL_REDIS_URL=valkey)
    board = Reports.at(valkey)
    yield board
    board.close()


def figures(**changed: Any) -> Report:
    names = ("leased", "idle", "opening", "waiting", "created", "reused", "discarded")
    usual: Report = {**dict.fromkeys(names, 0), "max_size": 1, "max_leased": 1, "limits": ""}
    return usual | {"borrow_seconds_p95": 0.0, "connect_seconds_p95": 0.0} | changed


# -- inspect recognizers -----------------------------------------------------------------------------------------------


def test_a_process_that_holds_its_recognisers_itself_is_asked_directly(warm: runtime.Runtime) -> None:
    warm.accounts.all[0].pool.wait(10)
    (name, found), *others = steps.recognizers(state("thread")).items()
    assert warm.reporter is not None and name == warm.reporter.process.name and not others
    assert (found["worker"], found["pool"], found["streams"]) == ("celery@h", "threads", 2)
    assert found["idle"] >= 2 and found["limits"] == ""
    json.dumps(found)


def test_of_prefork_children_the_reports_are_read(reports: Reports) -> None:
    for pid in (1, 2, 3):
        reports.post(f"celery@h:{pid}", figures(leased=pid))
    found = steps.recognizers(state("prefork", 1, 3, 4))
    assert {name: report["leased"] for name, report in found.items()} == {"celery@h:1": 1, "celery@h:3": 3}


@pytest.mark.parametrize("kind", ["prefork", "thread", "gevent", "solo"])
def test_a_worker_that_knows_nothing_yet_says_so_and_makes_nothing(reports: Reports, kind: str) -> None:
    assert steps.recognizers(state(kind, 1)) == {"error": "no process has reported yet; ask again in a second"}
    assert runtime.made() is None


def test_a_redis_that_is_away_is_a_sentence(fresh: Given) -> None:
    fresh(STENOPOOL_REDIS_URL=f"redis://:hush@127.0.0.1:{free_port()}/0")
    answer = steps.recognizers(state("prefork", 1))
    assert "(ConnectionError)" in answer["error"] and "hush" not in answer["error"]


# -- control resize_recognizers ----------------------------------------------------------------------------------------


def test_the_recognisers_of_a_process_can_be_made_more_or_fewer(cold: runtime.Runtime) -> None:
    for size in (7, 1):
        answer = steps.resize_recognizers(state("thread"), size=str(size))
        assert answer == {"ok": f"keeps {size} recognisers, opens at most {size}"}
        sizes = cold.accounts.all[0].pool.stats()
        assert (sizes["min_size"], sizes["max_size"]) == (size, size)


def test_all_accounts_pools_are_resized_alike(fresh: Given, tmp_path: Path) -> None:
    (tmp_path / "accounts.toml").write_text('[second]\napi_key = "sk-second"\n')
    fresh(STENOPOOL_ACCOUNTS_FILE="accounts.toml", DASHSCOPE_API_KEY="sk-own")
    house = runtime.runtime(streams=2)
    assert "ok" in steps.resize_recognizers(state("thread"), size="7")
    assert [account.pool.stats()["min_size"] for account in house.accounts.all] == [7, 7]


def test_more_than_can_be_kept_warm_is_refused(cold: runtime.Runtime) -> None:
    answer = steps.resize_recognizers(state("thread"), size="1000")
    assert answer["error"].startswith("at 20 connections a second 1000 recognisers cannot be kept warm")


@pytest.mark.parametrize("size", [None, "", "0", "-1", "many", "1.5", "10001", "²"])
def test_a_size_that_cannot_be_is_refused(cold: runtime.Runtime, size: object) -> None:
    before = cold.accounts.all[0].pool.stats()["min_size"]
    answer = steps.resize_recognizers(state("thread"), size=size)
    assert answer == {"error": "give the number of recognisers to keep, from 1 to 10000"}
    assert cold.accounts.all[0].pool.stats()["min_size"] == before


def test_children_are_not_resized_but_told_how_to(reports: Reports) -> None:
    answer = steps.resize_recognizers(state("prefork", 1), size="3")
    assert "RECOGNITION_OBJECTPOOL_SIZE" in answer["error"]


def test_a_process_that_has_no_recognisers_yet_is_not_resized(reports: Reports) -> None:
    assert "no recogniser has been made yet" in steps.resize_recognizers(state("thread"), size="3")["error"]
    assert runtime.made() is None


# -- control drain -----------------------------------------------------------------------------------------------------


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of this process may be told to stop, and the process goes on being none that ends."""
    monkeypatch.setattr(drain, "drain", Drain())
    monkeypatch.setattr("celery.worker.state.should_stop", None)


def test_a_worker_that_is_drained_answers_and_then_ends(fresh: Given, stopping: None) -> None:
    fresh(STENOPOOL_DRAIN_SECONDS="12")
    maybe_shutdown()
    answer = steps.end(state("thread"))
    assert answer == {"ok": "takes no more jobs, and has ended within 12 seconds; other workers go on"}
    assert drain.drain.elapsed() is not None
    with pytest.raises(SystemExit) as ended:  # Celery looks after each message
        maybe_shutdown()
    assert ended.value.code == 0


# -- control revoke ----------------------------------------------------------------------------------------------------


@pytest.fixture
def jobs(fresh: Given, valkey: str, client: redis.Redis) -> redis.Redis:
    """Where jobs look whether they are cancelled."""
    fresh(STENOPOOL_REDIS_URL=valkey, STENOPOOL_JOB_TTL="100")
    return client


def noted(client: redis.Redis) -> set[str]:
    keys: Any = client.keys("stenopool:job:{*}:cancel")
    assert all(client.get(key) == b"revoked" and 0 < client.ttl(key) <= 100 for key in keys)
    return {key.decode().split("{")[1].split("}")[0] for key in keys}


@pytest.mark.parametrize("command", [steps.revoke, steps.terminate])
@pytest.mark.parametrize(
    ("ids", "expected"),
    [("a", {"a"}), (["a"], {"a"}), (["a", "b", "b"], {"a", "b"}), (("a-1_x:é", "0"), {"a-1_x:é", "0"})],
)
def test_a_job_that_is_revoked_finds_its_key(
    jobs: redis.Redis, command: Callable[..., Any], ids: Any, expected: set[str]
) -> None:
    number = 1 if isinstance(ids, str) else len(ids)
    assert command(state("prefork"), task_id=ids, signal="KILL") == {"ok": f"jobs cancelled: {number}"}
    assert noted(jobs) == expected


def test_the_key_is_that_which_jobs_look_for(jobs: redis.Redis) -> None:
    steps.revoke(state("gevent"), task_id="a", terminate=True)
    assert jobs.exists(JobKeys("a").cancel)


@pytest.mark.parametrize("bad", ["", "a b", "a}b", "{a", "a\n", "a\x00", "\x7f", "x" * 201, None, 5, ["a"], {"a": 1}])
def test_what_can_be_no_job_s_id_is_left_out_and_told(jobs: redis.Redis, bad: object) -> None:
    assert steps.revoke(state("thread"), task_id=[bad, "x" * 200]) == {
        "ok": "jobs cancelled: 1; ids that no job can have: 1"
    }
    assert noted(jobs) == {"x" * 200}


@pytest.mark.parametrize("ids", [None, [], "", ["a b"], 5, {"a": 1}])
def test_nothing_to_revoke_is_a_sentence(jobs: redis.Redis, ids: object) -> None:
    assert steps.revoke(state("thread"), task_id=ids) == {"error": "give the ids of the jobs to cancel"}
    assert steps.terminate(state("thread"), task_id=ids) == {"error": "give the ids of the jobs to cancel"}
    assert noted(jobs) == set()


def test_a_signal_alone_is_no_job(jobs: redis.Redis) -> None:
    assert steps.terminate(state("thread"), signal="KILL") == {"error": "give the ids of the jobs to cancel"}


def test_thousands_are_revoked_in_one_command(jobs: redis.Redis) -> None:
    ids = [f"job-{number}" for number in range(3000)]
    assert steps.revoke(state("thread"), task_id=ids) == {"ok": "jobs cancelled: 3000"}
    assert len(noted(jobs)) == 3000


def test_jobs_cannot_be_revoked_without_redis(fresh: Given) -> None:
    fresh(STENOPOOL_REDIS_URL=f"redis://:hush@127.0.0.1:{free_port()}/0")
    answer = steps.revoke(state("thread"), task_id="a")
    assert "(ConnectionError)" in answer["error"] and "hush" not in answer["error"]


def test_celery_s_own_list_of_revoked_jobs_is_not_used(jobs: redis.Redis) -> None:
    steps.revoke(state("thread"), task_id="a")
    assert "a" not in celery_state.revoked


# -- inspect stats -----------------------------------------------------------------------------------------------------


def test_the_rows_are_flat_and_named_for_people(reports: Reports) -> None:
    reports.post(
        "celery@h:1", figures(leased=1, created=3, reused=7, borrow_seconds_p95=0.0004, limits="quota", quota_slots=3)
    )
    reports.post(
        "celery@h:2", figures(idle=1, created=1, connect_seconds_p95=0.25, max_size=3, discarded=1, quota_waiting=4)
    )
    assert steps.RecognizerFigures(None).info(state("prefork", 1, 2).consumer.controller) == {
        "recognizers leased": 1,
        "recognizers idle": 1,
        "recognizers opening": 0,
        "recognizers waiting": 0,
        "recognizers max": 2,
        "recognizers created": 4,
        "recognizers reused": 7,
        "recognizers discarded": 1,
        "recognizers borrow p95 ms": 0.4,
        "recognizers connect p95 ms": 250.0,
        "recognizers limits": "quota",
        "quota slots": 3,
        "quota waiting": 4,
    }


def test_what_a_child_of_another_version_does_not_report_is_0(reports: Reports) -> None:
    reports.post("celery@h:1", figures())
    found = steps.RecognizerFigures(None).info(state("prefork", 1).consumer.controller)
    assert (found["quota slots"], found["quota waiting"]) == (0, 0)


def test_without_a_limit_the_row_says_none(warm: runtime.Runtime) -> None:
    assert steps.RecognizerFigures(None).info(state("thread").consumer.controller)["recognizers limits"] == "none"


def test_nothing_to_tell_is_no_row(reports: Reports) -> None:
    assert steps.RecognizerFigures(None).info(state("prefork", 1).consumer.controller) == {}


def test_the_other_statistics_survive_a_redis_that_is_away(fresh: Given) -> None:
    fresh(STENOPOOL_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert steps.RecognizerFigures(None).info(state("prefork", 1).consumer.controller) == {}


# -- in the app --------------------------------------------------------------------------------------------------------


def test_the_app_s_workers_know_the_commands_and_the_rows(start_app: Callable[..., Celery]) -> None:
    app: Any = start_app()
    assert {steps.RecognizerFigures, DrainLimit} <= app.steps["worker"]
    assert {FreeSlots, Visibility} <= app.steps["consumer"]
    assert Panel.meta["recognizers"].type == "inspect" and Panel.meta["resize_recognizers"].type == "control"
    assert Panel.meta["recognizers"].help == "Figures of the recognisers of each process."
    assert Panel.meta["drain"].type == "control" and Panel.data["drain"] is steps.end


@pytest.mark.parametrize("first", ["celery.worker.control", "celery.worker.consumer", "worker.steps", "worker.app"])
def test_celery_s_commands_are_replaced_whoever_imports_what_first(first: str) -> None:
    program = (
        f"import {first}, celery.worker.control, celery.apps.worker, worker.app; from worker import steps;"
        "data, meta = (getattr(celery.worker.control.Panel, name) for name in ('data', 'meta'));"
        "assert (data['revoke'], data['terminate']) == (steps.revoke, steps.terminate);"
        "assert meta['revoke'].variadic == meta['terminate'].variadic == 'task_id';"
        "assert data['revoke_by_stamped_headers'].__module__ == 'celery.worker.control'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
