import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Connection, Consumer, Message, Queue

from worker.drain import Drain
from worker.handback import ahead, first_in_line, until_drained


@pytest.fixture
def broker(valkey: str, client: redis.Redis) -> Iterator[Connection]:
    with Connection(valkey) as connection:
        yield connection


def sent(valkey: str, *ids: str) -> None:
    with Celery("web", broker=valkey, set_as_current=False) as app:
        for one in ids:
            app.send_task("t", task_id=one, queue="q")


def waiting(client: redis.Redis) -> list[str]:
    """The ids of the messages of the queue, the next first."""
    raw: Any = client.lrange("q", 0, -1)
    return [json.loads(one)["headers"]["id"] for one in reversed(raw)]


def taken(broker: Connection) -> tuple[Any, Message]:
    """A channel and the message that it has got."""
    channel: Any = broker.channel()
    got: list[Message] = []
    channel.basic_qos(0, 1, False)
    with Consumer(channel, [Queue("q")], on_message=got.append):
        broker.drain_events(timeout=5)
    return channel, got[0]


def test_a_message_that_is_given_back_is_the_next_to_be_taken(
    valkey: str, client: redis.Redis, broker: Connection
) -> None:
    sent(valkey, "first", "second")
    channel, message = taken(broker)
    assert message.headers["id"] == "first" and waiting(client) == ["second"]

    channel.qos.reject = ahead(channel.qos)
    message.reject(requeue=True)

    assert waiting(client) == ["first", "second"]
    assert not client.exists("unacked", "unacked_index")
    assert channel.qos.can_consume()  # it does not count as taken any more


def test_one_that_is_rejected_for_good_is_gone(valkey: str, client: redis.Redis, broker: Connection) -> None:
    sent(valkey, "first")
    channel, message = taken(broker)
    channel.qos.reject = ahead(channel.qos)
    message.reject()
    assert not client.exists("q", "unacked")


@pytest.mark.parametrize("priority", [None, 6])
def test_the_message_of_a_next_try_is_the_first_in_line(valkey: str, client: redis.Redis, priority: int | None) -> None:
    sent(valkey, "others")
    with Celery("worker", broker=valkey, set_as_current=False) as app:
        with first_in_line(app) as producer:
            app.send_task("t", task_id="again", queue="q", producer=producer, priority=priority)
        app.send_task("t", task_id="after", queue="q", priority=priority)
    if priority is None:
        assert waiting(client) == ["again", "others", "after"]
    else:
        assert waiting(client) == ["others"] and client.llen(f"q\x06\x16{priority}") == 2


def test_who_is_ending_takes_no_more() -> None:
    draining, open_ = Drain(), True
    can_consume = until_drained(lambda: open_, draining)
    assert can_consume()
    open_ = False
    assert not can_consume()
    open_ = True
    draining.begin()
    assert not can_consume()
