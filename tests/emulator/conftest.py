from collections.abc import Callable, Iterator
from typing import Any

import pytest

from emulator import BackgroundEmulator, Limits
from emulator.engines.script import ScriptEngine
from tests.emulator.client import Client

Start = Callable[..., BackgroundEmulator]
Connect = Callable[..., Client]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start emulators; they end with the test."""
    started: list[BackgroundEmulator] = []

    def start(limits: Limits | None = None, sentence_ms: int = 1000, **options: Any) -> BackgroundEmulator:
        options.setdefault("engine", ScriptEngine(sentence_ms))
        emulator = BackgroundEmulator(limits=limits, **options)
        emulator.start()
        started.append(emulator)
        return emulator

    yield start
    for emulator in started:
        emulator.stop()


@pytest.fixture
def emulator(start: Start) -> BackgroundEmulator:
    return start()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect clients; they close with the test."""
    clients: list[Client] = []

    def connect(emulator: BackgroundEmulator, **options: Any) -> Client:
        clients.append(Client(emulator.url, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.ws.shutdown()


@pytest.fixture
def client(emulator: BackgroundEmulator, connect: Connect) -> Client:
    return connect(emulator)
