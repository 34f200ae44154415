import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from config.settings import GROUPS, Settings, load
from emulator.stack import Process, answers, free_port

pytest_plugins = ["tests.sites"]


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
