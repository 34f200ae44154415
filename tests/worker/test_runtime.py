import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from kombu.utils import functional

from config.settings import Settings
from emulator.background import BackgroundEmulator
from tasks.job.pulse import JobPulse
from tasks.job.record import JobRecord
from worker import lifecycle, runtime
from worker.quota import Wish
from worker.runtime import Runtime
from worker.sizing import with_spare
from worker.stops import Cancelled, LeaseLost, Stop

Given = Callable[..., Settings]


def test_making_a_runtime_opens_nothing(given: Given) -> None:
    house = Runtime(given(), streams=3)
    assert house.accounts.all[0].pool.stats()["size"] == 0
    assert repr(house) == f"<Runtime pid {os.getpid()}, 3 streams, {house.accounts.all[0].pool!r}>"
    house.close(0.1)


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
def test_each_pool_kind_warms_by_its_own_signal(
    fresh: Given, valkey: str, client: redis.Redis, signal: str | None, concurrency: int
) -> None:
    with BackgroundEmulator() as emulator:
        fresh(
            STENOPOOL_REDIS_URL=valkey,
            DASHSCOPE_WEBSOCKET_BASE_URL=emulator.url,
            DASHSCOPE_API_KEY="k",
            STENOPOOL_POOL_WARM_SPREAD="0",
        )
        if signal is None:
            lifecycle.warm_child()
        else:
            kind: Any = type("TaskPool", (), {"__module__": signal})
            lifecycle.begin(SimpleNamespace(pool_cls=kind, concurrency=concurrency))
        runtime.runtime().accounts.all[0].pool.wait(10)
        assert emulator.logbook.wait_until(lambda book: book.connections == with_spare(concurrency))
        lifecycle.cool_child()
        assert emulator.logbook.wait_until(lambda book: book.connections_open == 0)
        lifecycle.cool()


# -- the accounts ------------------------------------------------------------------------------------------------------


@pytest.fixture
def several(given: Given, tmp_path: Path) -> Given:
    """Settings of two accounts: the vendor's own, and one that differs in all."""

    def loaded(**variables: str) -> Settings:
        (tmp_path / "accounts.toml").write_text(
            '[second]\napi_key = "sk-second"\nurl = "wss://second.example/x"\nworkspace_id = "w2"\n'
            "streams = 7\nstarts_per_second = 3.0\nopens_per_second = 4.0\n"
        )
        usual = {
            "STENOPOOL_ACCOUNTS_FILE": "accounts.toml",
            "DASHSCOPE_API_KEY": "sk-own",
            "DASHSCOPE_WORKSPACE_ID": "w1",
            "DASHSCOPE_WEBSOCKET_BASE_URL": "wss://own.example/x",
            "DASHSCOPE_CONNECTION_TIMEOUT": "7",
        }
        return given(**usual | variables)

    return loaded


def test_each_account_has_its_own_address_and_key_and_the_settings_other_limits(several: Given) -> None:
    settings = several()
    own, second = (runtime.endpoint(settings, account) for account in settings.accounts())
    assert (own.url, own.api_key, own.workspace_id) == ("wss://own.example/x", "sk-own", "w1")
    assert (second.url, second.api_key, second.workspace_id) == ("wss://second.example/x", "sk-second", "w2")
    assert own.connect_timeout == second.connect_timeout == 7.0
    assert own.write_timeout == second.write_timeout == settings.upstream.write_timeout


def test_an_account_without_an_address_of_its_own_is_where_the_vendor_s_is(given: Given, tmp_path: Path) -> None:
    (tmp_path / "accounts.toml").write_text('[second]\napi_key = "sk-second"\n')
    settings = given(STENOPOOL_ACCOUNTS_FILE="accounts.toml", DASHSCOPE_WEBSOCKET_BASE_URL="wss://own.example/x")
    (second,) = settings.accounts()
    found = runtime.endpoint(settings, second)
    assert (found.url, found.workspace_id) == ("wss://own.example/x", None)


@pytest.mark.parametrize(
    ("variables", "allowed"),
    [
        ({}, (None, 20.0, 20.0)),
        ({"STENOPOOL_POOL_OPENS_PER_SECOND": "9"}, (None, 20.0, 9.0)),
        ({"STENOPOOL_QUOTA_OPENS_PER_SECOND": "50"}, (None, 20.0, 50.0)),
        ({"STENOPOOL_QUOTA_STREAMS": "200", "STENOPOOL_QUOTA_STARTS_PER_SECOND": "1.5"}, (200, 1.5, 20.0)),
    ],
)
def test_an_account_may_do_what_it_says_itself_and_else_what_the_settings_say(
    several: Given, variables: dict[str, str], allowed: tuple[float | None, ...]
) -> None:
    house = Runtime(several(**variables), streams=3)
    own, second = (account.quota.ledger.allowance for account in house.accounts.all)
    assert (own.streams, own.starts_per_second, own.opens_per_second) == allowed
    assert (second.streams, second.starts_per_second, second.opens_per_second) == (7, 3.0, 4.0)
    assert [account.name for account in house.accounts.all] == ["default", "second"]
    house.close(0.1)


def test_all_accounts_of_a_process_share_its_loop_and_its_figures_and_open_nothing(several: Given) -> None:
    house = Runtime(several(), streams=3)
    assert all(one.hooks.loop is house.loop and one.hooks.load is house.load for one in house.accounts.all)
    assert [one.pool.stats()["size"] for one in house.accounts.all] == [0, 0]
    first, second = (one.pool for one in house.accounts.all)
    assert repr(house) == f"<Runtime pid {os.getpid()}, 3 streams, {first!r}, {second!r}>"
    house.close(0.1)


def test_while_a_job_is_watched_the_slots_of_all_accounts_are_renewed(
    several: Given, valkey: str, client: redis.Redis, eventually: Callable[..., None]
) -> None:
    house, stop = Runtime(several(STENOPOOL_REDIS_URL=valkey), streams=1), Stop()
    record, pulse = running(client, stop)
    slots = "stenopool:quota:{second}:slots:m"
    with (
        house.watch(record.keys.cancel, stop, pulse),
        house.accounts.place(Wish(model="m", account="second"), stop, lambda: None),
    ):
        scores: Any = client.zrange(slots, 0, -1, withscores=True)
        ((who, until),) = scores
        eventually(lambda: (client.zscore(slots, who) or 0) > until, "a beat")
    house.close(10)
    assert not client.exists(slots)


# -- a job -------------------------------------------------------------------------------------------------------------


class FakeFigures:
    """A job that has got somewhere."""

    heard, streams, resumes, ms, sent_ms = 1, 1, 0, 700, 900
    is_streaming = True


def running(client: redis.Redis, stop: Stop, lease: float = 2.0) -> tuple[JobRecord, JobPulse]:
    """A job that this process has, and its pulse."""
    record = JobRecord(client, "j", ttl=100, lease=lease)
    record.claim("a", "w")
    return record, record.following(FakeFigures(), stop, stall=60, deadline=time.monotonic() + 60)


def test_a_runtime_that_was_never_warmed_still_tells_how_far_its_jobs_are(
    given: Given, valkey: str, client: redis.Redis, eventually: Callable[..., None]
) -> None:
    others = set(threading.enumerate())
    house, stop = Runtime(given(STENOPOOL_REDIS_URL=valkey), streams=1), Stop()
    record, pulse = running(client, stop)
    with house.watch(record.keys.cancel, stop, pulse):
        eventually(lambda: client.hget(record.keys.job, "progress_ms") == b"700", "a beat")
    house.close(10)
    assert "beat" not in {thread.name for thread in set(threading.enumerate()) - others}


def test_a_job_that_is_watched_hears_that_it_is_cancelled_and_afterwards_nothing(
    given: Given, valkey: str, client: redis.Redis
) -> None:
    house, stop, later = Runtime(given(STENOPOOL_REDIS_URL=valkey), streams=1), Stop(), Stop()
    record, pulse = running(client, stop)
    with house.watch(record.keys.cancel, later, pulse):
        pass
    with house.watch(record.keys.cancel, stop, pulse):
        client.set(record.keys.cancel, "1")
        with pytest.raises(Cancelled):
            stop.wait(10)
    house.close(10)
    later.check()
    assert repr(house.stops) == "<Stops 0 jobs>"
    assert repr(house.beat) == "<Beat carried 2, followed 0>"  # the stops, and the account's quota


def test_a_job_that_is_watched_hears_that_another_worker_has_it(given: Given, valkey: str, client: redis.Redis) -> None:
    house, stop = Runtime(given(STENOPOOL_REDIS_URL=valkey), streams=1), Stop()
    record, pulse = running(client, stop)
    client.delete(record.keys.lease)
    running(client, Stop())
    with house.watch(record.keys.cancel, stop, pulse), pytest.raises(LeaseLost):
        stop.wait(10)
    house.close(10)


def test_a_job_may_come_to_the_end_of_its_sentence_in_half_of_the_time_for_draining(given: Given) -> None:
    house = Runtime(given(STENOPOOL_DRAIN_SECONDS="20"), streams=1)
    assert (runtime.TO_A_SENTENCE, house.stops._patience) == (0.5, 10.0)
    house.close(0.1)


@pytest.mark.parametrize(
    ("in_all", "per_host", "at_once"), [("", "", 32), ("5", "", 5), ("", "4", 4), ("5", "4", 4), ("", "64", 64)]
)
def test_text_models_are_asked_within_the_vendors_limits(
    given: Given, in_all: str, per_host: str, at_once: int
) -> None:
    limits = runtime.text_limits(
        given(DASHSCOPE_MAXIMUM_ASYNC_REQUESTS=in_all, DASHSCOPE_MAXIMUM_ASYNC_REQUESTS_PER_HOST=per_host)
    )
    assert limits.at_once == at_once
    assert (limits.connect_timeout, limits.timeout, limits.idle_time) == (10.0, 300.0, 50.0)


def test_no_stream_waits_long_for_redis() -> None:
    client = runtime.redis_client("redis://127.0.0.1:1/0")
    options = client.connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (runtime.REDIS_PATIENCE,) * 2
    assert runtime.REDIS_PATIENCE == 2.0 and options["retry"].get_retries() == 1


@pytest.mark.parametrize("kind", ["celery.concurrency.prefork", "celery.concurrency.solo"])
def test_a_main_process_whose_children_run_the_jobs_warms_nothing(fresh: Given, kind: str) -> None:
    fresh()
    pool: Any = type("TaskPool", (), {"__module__": kind})
    lifecycle.begin(SimpleNamespace(pool_cls=pool, concurrency=3))
    assert runtime._made is None


def test_sizes_that_contradict_each_other_stop_the_worker_with_a_sentence(fresh: Given) -> None:
    fresh(STENOPOOL_POOL_OPENS_PER_SECOND="0.1", RECOGNITION_OBJECTPOOL_SIZE="9")
    kind: Any = type("TaskPool", (), {"__module__": "celery.concurrency.prefork"})
    with pytest.raises(SystemExit, match="stenopool cannot start:\nSTENOPOOL_POOL_OPENS_PER_SECOND=0.1 cannot keep 9"):
        lifecycle.begin(SimpleNamespace(pool_cls=kind, concurrency=1))


def test_what_the_sizes_mean_for_jobs_is_said_at_the_start(fresh: Given, caplog: pytest.LogCaptureFixture) -> None:
    fresh(DASHSCOPE_MAXIMUM_ASYNC_REQUESTS="1")
    kind: Any = type("TaskPool", (), {"__module__": "celery.concurrency.prefork"})
    lifecycle.begin(SimpleNamespace(pool_cls=kind, concurrency=21))
    assert "21 jobs can begin at once" in caplog.text


def test_under_gevent_a_wait_for_redis_is_a_cooperative_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def patched(seconds: float) -> None: ...

    monkeypatch.setattr(functional, "sleep", time.sleep)
    monkeypatch.setattr(time, "sleep", patched)
    lifecycle.wait_cooperatively()
    assert functional.sleep is patched  # type: ignore[attr-defined]
