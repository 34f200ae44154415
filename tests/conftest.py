import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, current_app
from hypothesis import settings as hypothesis_settings

from config.settings import GROUPS, Settings, load, settings
from emulator.stack import Process, answers, free_port
from worker import runtime

# Not by the clock: a machine that is busy makes an example slow, and that is no fault.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")

pytest_plugins = ["tests.certificates", "tests.receivers", "tests.recordings", "tests.sites"]


def pytest_configure() -> None:
    """What was compiled is taken instead of its source, and nobody would see that it is an older one."""
    for source in Path(__file__).parents[1].glob("*/*/*.py"):
        for compiled in source.parent.glob(f"{source.stem}.*.so"):
            if compiled.stat().st_mtime < source.stat().st_mtime:
                pytest.exit(f"{compiled.name} is older than {source}: make plain, or make compiled", 4)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Settings]:
    """Loads the settings in an environment that holds just these variables."""
    for name in list(os.environ):
        if any(field.validation_alias == name for group in GROUPS.values() for field in group.model_fields.values()):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def loaded(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load()

    return loaded


@pytest.fixture
def fresh(given: Callable[..., Settings]) -> Iterator[Callable[..., Settings]]:
    """A process that has made no runtime yet, whose settings are those given."""

    def ready(**variables: str) -> Settings:
        found = given(**variables)
        settings.cache_clear()
        return found

    runtime.close(1.0)
    yield ready
    runtime.close(1.0)
    settings.cache_clear()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Valkey of the tests' own."""
    port = free_port()
    command = [sys.executable, "-m", "emulator.valkey", "--port", str(port)]
    server = Process("valkey", command, dict(os.environ), tmp_path_factory.mktemp("valkey"))
    server.wait_until(lambda _: answers(port))
    yield f"redis://127.0.0.1:{port}/0"
    server.stop()


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis]:
    """A client of an empty Valkey."""
    with redis.Redis.from_url(valkey) as connection:
        connection.flushdb()
        yield connection


@pytest.fixture
def start_app(fresh: Callable[..., Settings], valkey: str, client: redis.Redis) -> Iterator[Callable[..., Celery]]:
    """Makes the worker's Celery object anew, for these settings and an empty Valkey."""
    proxy: Any = current_app
    name, before = "worker.app", proxy._get_current_object()
    module = sys.modules.pop(name, None)
    made: list[Celery] = []

    def start(**variables: str) -> Celery:
        fresh(**{"STENOPOOL_REDIS_URL": valkey} | variables)
        sys.modules.pop(name, None)
        made.append(importlib.import_module(name).app)
        return made[-1]

    yield start
    sys.modules.pop(name, None)
    if module is not None:
        sys.modules[name] = module
    before.set_current()
    for app in made:
        app.close()
