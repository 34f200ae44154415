import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency import get_implementation

from config.settings import Settings
from worker import descriptors, lifecycle
from worker.sizing import JOBS_A_CORE, JOBS_A_PROCESS

Given = Callable[..., Settings]
PREFORK: Any = type("TaskPool", (), {"__module__": "celery.concurrency.prefork"})
USUAL = {"concurrency": None, "autoscale": None, "pool": None, "pool_cls": None}


def sized(conf: dict[str, Any], **options: Any) -> Any:
    """The concurrency in Celery's configuration, after the signal."""
    found = SimpleNamespace(**{"worker_concurrency": None, "worker_pool": "prefork"} | conf)
    lifecycle.size(conf=found, options=USUAL | options)
    return found.worker_concurrency


@pytest.mark.parametrize("kind", ["threads", "gevent"])
def test_a_worker_that_was_given_no_size_gets_one_for_its_pool(fresh: Given, kind: str) -> None:
    fresh()
    for found in (sized({}, pool=get_implementation(kind)), sized({}, pool_cls=kind), sized({"worker_pool": kind})):
        assert found == JOBS_A_PROCESS


def test_a_prefork_worker_that_was_given_no_size_gets_some_children_for_each_core(fresh: Given) -> None:
    fresh()
    found = sized({}, pool=get_implementation("prefork"))
    assert found >= JOBS_A_CORE and found % JOBS_A_CORE == 0


@pytest.mark.parametrize("given_size", [{"concurrency": 3}, {"concurrency": "auto"}, {"autoscale": (4, 1)}])
def test_a_size_that_was_given_counts(given_size: dict[str, Any]) -> None:
    assert sized({}, **given_size) is None
    assert sized({"worker_concurrency": 5}) == 5


def test_settings_that_are_wrong_stop_a_worker_without_a_size_too(
    fresh: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh()
    monkeypatch.setenv("STENOPOOL_POOL_WAITING", "-1")
    with pytest.raises(SystemExit, match="stenopool cannot start:\nSTENOPOOL_POOL_WAITING"):
        sized({})


def test_too_few_descriptors_are_told_at_the_start(
    fresh: Given, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh()
    monkeypatch.setattr(descriptors, "system", lambda: Low())
    with caplog.at_level(logging.WARNING):
        lifecycle.begin(SimpleNamespace(pool_cls=PREFORK, concurrency=2))
    assert "needs up to 272 open files and sockets in a process, and the system allows 200" in caplog.text


def test_each_account_has_a_pool_in_each_process(
    fresh: Given, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text("".join(f'[{name}]\napi_key = "k"\n' for name in "abcdef"))
    fresh(STENOPOOL_ACCOUNTS_FILE=str(path))
    monkeypatch.setattr(descriptors, "system", lambda: Low())
    with caplog.at_level(logging.INFO):
        lifecycle.begin(SimpleNamespace(pool_cls=PREFORK, concurrency=2))
    assert "up to 24 connections to the service: processes 2, accounts 6, connections each 2" in caplog.text
    assert "needs up to 280 open files and sockets" in caplog.text


class Low:
    """A system that allows few open files."""

    RLIMIT_NOFILE, RLIM_INFINITY = 7, -1

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        return 200, 200

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None: ...
