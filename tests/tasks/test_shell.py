"""What a message of ours shows to those who look on, whoever sends it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery

from tasks.shell import JobTask
from tasks.transcribe import transcribe

SIGNED = "https://u:p@h/a.mp3?sig=secret"


@pytest.fixture
def task(start_app: Callable[..., Celery]) -> JobTask:
    start_app()
    return transcribe


def sent(client: redis.Redis) -> dict[str, Any]:
    """The headers of the message that was put on the queue last."""
    queued: Any = client.lindex("transcribe", 0)
    headers: dict[str, Any] = json.loads(queued)["headers"]
    return headers


def test_a_message_shows_no_secret_of_its_arguments(task: JobTask, client: redis.Redis) -> None:
    task.apply_async((SIGNED,), {"metadata": {"x": "secret"}})

    headers = sent(client)
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("('https://h/a.mp3',)", "{'metadata': '…'}")


def test_nor_where_a_name_holds_a_quote(task: JobTask, client: redis.Redis) -> None:
    task.apply_async(("https://h/it's.mp3?sig=secret",), {})

    assert sent(client)["argsrepr"] == '("https://h/it\'s.mp3",)'


def test_neither_does_that_of_the_next_try(task: JobTask, client: redis.Redis) -> None:
    task.push_request(id="j", args=(SIGNED,), kwargs={}, retries=0, argsrepr=repr(SIGNED), delivery_info={})
    try:
        message = task.signature_from_request(retries=1)
    finally:
        task.pop_request()
    message.apply_async()

    assert message.args == (SIGNED,)
    assert sent(client)["argsrepr"] == "('https://h/a.mp3',)"


def test_neither_does_that_of_a_link_in_a_chain(task: JobTask, client: redis.Redis) -> None:
    task.app.signature("tasks.transcribe", kwargs={"live": True}).apply_async((SIGNED,))

    assert sent(client)["argsrepr"] == "('https://h/a.mp3',)"
