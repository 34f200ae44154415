import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from billiard.exceptions import TimeLimitExceeded
from celery import Celery

from config.settings import settings
from emulator.stack import free_port
from worker.upkeep import LOCK, Upkeep, look

Start = Callable[..., Celery]
Eventually = Callable[..., None]

# Celery writes results in a way that redis-py would like to see changed.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


class Parent:
    """Of a worker, what its steps look at."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.steps: list[Any] = []


@pytest.fixture
def started() -> Iterator[Callable[[Celery], None]]:
    """Starts the thread of a worker, which stops with the test."""
    ends: list[Callable[[], None]] = []

    def start(app: Celery) -> None:
        worker: Any = Parent(app)
        step = Upkeep(worker)
        step.start(worker)
        ends.append(lambda: step.stop(worker))

    yield start
    for end in ends:
        end()


def orphan(client: redis.Redis) -> None:
    """A job whose worker and message were lost, which somebody has seen before."""
    client.hset("stenopool:job:{j}", mapping={"state": "running", "token": "t", "orphaned_at": 1})


def test_a_lost_job_is_ended_and_who_waits_for_it_is_told(
    start_app: Start, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    app = start_app()
    orphan(client)
    with caplog.at_level(logging.WARNING, "worker"):
        assert look(app, settings(), 60) == ["j"]
    answer = app.AsyncResult("j")
    assert answer.state == "FAILURE" and answer.result.args[0] == "message_lost"
    assert "job j was ended" in caplog.text


def test_an_end_that_celery_knows_stays_as_it_is(start_app: Start, client: redis.Redis) -> None:
    app = start_app()
    orphan(client)
    app.backend.mark_as_failure("j", TimeLimitExceeded(5))
    assert look(app, settings(), 60) == ["j"]
    assert "TimeLimitExceeded" in repr(app.AsyncResult("j").result)


def test_a_callback_whose_message_was_lost_gets_another(start_app: Start, client: redis.Redis) -> None:
    app = start_app()
    client.hset("stenopool:job:{j}:callback", mapping={"url": "https://h/", "queue": "transcribe.bulk", "next_at": 1})
    assert look(app, settings(), 60) == []
    waiting: Any = client.lrange("transcribe.bulk", 0, -1)
    assert [json.loads(message)["headers"]["id"] for message in waiting] == ["j:callback"]
    client.delete(LOCK)
    look(app, settings(), 60)
    assert client.llen("transcribe.bulk") == 1


def test_one_worker_looks_at_a_time(start_app: Start, client: redis.Redis) -> None:
    app = start_app()
    orphan(client)
    client.set(LOCK, "taken")
    assert look(app, settings(), 60) == []
    client.delete(LOCK)
    assert look(app, settings(), 60) == ["j"]
    assert 0 < int(str(client.pttl(LOCK))) <= 60_000


def test_the_thread_looks_again_and_again(
    start_app: Start, client: redis.Redis, started: Callable[[Celery], None], eventually: Eventually
) -> None:
    started(start_app(STENOPOOL_UPKEEP_SECONDS="1"))
    for _ in range(2):
        orphan(client)
        eventually(lambda: client.hget("stenopool:job:{j}", "state") == b"failed", "the end of the lost job")


def test_a_redis_that_is_away_does_not_end_the_thread(
    start_app: Start, started: Callable[[Celery], None], eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "worker"):
        started(start_app(STENOPOOL_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", STENOPOOL_UPKEEP_SECONDS="1"))
        eventually(lambda: caplog.text.count("nobody looks after lost jobs") >= 2, "two tries")
