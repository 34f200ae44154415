from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from emulator.stack import free_port
from worker.ear import Ear

Eventually = Callable[..., None]


@pytest.fixture
def cancelled() -> list[Any]:
    """What was cancelled, as it was named."""
    return []


@pytest.fixture
def listening(valkey: str, cancelled: list[Any]) -> Iterator[Callable[..., Celery]]:
    """Starts an ear of the worker `w@h`; returns a client of its broker."""
    ends: list[Callable[[], None]] = []

    def start(broker: str = valkey) -> Celery:
        app = Celery("web", broker=broker, set_as_current=False)
        ear = Ear(app, "w@h", cancelled.append)
        ear.start()
        ends.extend([ear.stop, app.close])
        return app

    yield start
    for end in ends:
        end()


@pytest.mark.parametrize(
    ("told", "ids"),
    [
        ({"method": "revoke", "arguments": {"task_id": "j"}}, ["j"]),
        ({"method": "revoke", "arguments": {"task_id": ["a", "b"]}, "destination": ["w@h"]}, [["a", "b"]]),
        ({"method": "terminate", "arguments": {"signal": "KILL", "task_id": "j"}}, ["j"]),
        ({"method": "revoke", "arguments": {"task_id": "j"}, "destination": ["other@h"]}, []),
        ({"method": "shutdown", "arguments": {}}, []),
        ({"method": "revoke"}, [None]),
        (["revoke"], []),
    ],
)
def test_only_a_revoke_that_is_meant_for_this_worker_is_carried_out(
    valkey: str, cancelled: list[Any], told: Any, ids: list[Any]
) -> None:
    Ear(Celery("web", broker=valkey, set_as_current=False), "w@h", cancelled.append).hear(told)
    assert cancelled == ids


def test_what_any_client_broadcasts_is_heard(
    listening: Callable[..., Celery], cancelled: list[Any], eventually: Eventually
) -> None:
    app = listening()

    def heard() -> bool:
        app.control.revoke("j", terminate=True)
        return cancelled[-1:] == ["j"]

    eventually(heard, "the command")


def test_an_ear_that_cannot_connect_tries_again(
    listening: Callable[..., Celery], eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "worker"):
        listening(f"redis://127.0.0.1:{free_port()}/0")
        eventually(lambda: "revoke is not heard at the moment" in caplog.text, "a failed try")
