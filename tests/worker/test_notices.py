import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery

from emulator.stack import free_port
from worker.notices import send_notice

Start = Callable[..., Celery]


def waiting(client: redis.Redis, queue: str) -> list[Any]:
    """The messages of a queue, the next first."""
    raw: Any = client.lrange(queue, 0, -1)
    return [json.loads(one) for one in reversed(raw)]


@pytest.mark.parametrize("queue", ["transcribe.interactive", "transcribe", "celery", "transcribe.bulk"])
def test_a_notice_goes_to_the_head_of_the_queue_that_the_job_came_by(
    start_app: Start, client: redis.Redis, queue: str
) -> None:
    app = start_app()
    app.send_task("tasks.transcribe", ("https://h/a",), queue=queue)
    send_notice(app, "j", queue)

    (first, second) = waiting(client, queue)
    assert (first["headers"]["task"], second["headers"]["task"]) == ("tasks.notify", "tasks.transcribe")
    assert (first["headers"]["id"], first["headers"]["ignore_result"]) == ("j:callback", True)
    assert first["headers"]["argsrepr"] == "('j',)"


@pytest.mark.parametrize("queue", ["", "not.one.of.ours"])
def test_from_a_queue_that_nobody_listens_to_it_goes_to_the_usual_one(
    start_app: Start, client: redis.Redis, queue: str
) -> None:
    send_notice(start_app(), "j", queue)
    assert len(waiting(client, "transcribe")) == 1


def test_a_broker_that_is_away_is_an_error(start_app: Start) -> None:
    app = start_app(STENOPOOL_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(redis.ConnectionError):
        send_notice(app, "j", "transcribe")
