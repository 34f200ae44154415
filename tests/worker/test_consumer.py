"""A real consumer of Celery's with a real connection, whose Redis is then killed. The first tests show what Celery does
by itself: when one of them fails, a fault has been mended there, and what guards against it can go.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery._state import _set_task_join_will_block  # type: ignore[attr-defined]
from celery.worker import WorkController
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.asynchronous import Hub

from emulator.stack import Process, answers, free_port
from worker import runtime
from worker.consumer import Consumer, is_lost_address, while_connected

MENDED = "upstream has fixed it: delete {} from worker/consumer.py, or all of it and the setting"

log = logging.getLogger("tests")


class Worker:
    """A worker that has connected and taken a message, without its event loop."""

    def __init__(self, folder: Path, consumer: type) -> None:
        port = free_port()
        command = [sys.executable, "-m", "emulator.valkey", "--port", str(port)]
        self.valkey = Process("valkey", command, dict(os.environ), folder)
        self.valkey.wait_until(lambda _: answers(port))
        self.url = f"redis://127.0.0.1:{port}/0"
        self.app: Any = Celery("t", broker=self.url, set_as_current=False)
        self.app.conf.update(
            worker_consumer=consumer,
            worker_cancel_long_running_tasks_on_connection_loss=False,
            worker_enable_prefetch_count_reduction=False,
        )
        options: Any = {"without_mingle": True, "without_gossip": True, "use_eventloop": False}
        made: Any = WorkController(app=self.app, hostname="t@h", pool_cls="solo", concurrency=2, **options)
        self.consumer: Any = made.consumer
        self.message = self._taken()

    def _taken(self) -> Any:
        """What Celery's own loop does, until a message has come and the next one is asked for."""
        consumer, found = self.consumer, list[Any]()
        consumer.hub = Hub()
        for step in consumer.steps[:-1]:  # but the loop
            step.start(consumer)
        consumer.task_consumer.on_message = found.append
        consumer.task_consumer.consume()
        self.app.send_task("t.job")
        until = time.monotonic() + 10
        while not (found and found[0].channel._in_poll):
            assert time.monotonic() < until
            consumer.hub.run_once()
        return found[0]

    def lose_redis(self) -> None:
        """It is away when the connection is lost."""
        self.valkey.stop(timeout=0)
        self.lose_connection()

    def lose_connection(self) -> None:
        """What Celery does when it sees that the connection is gone."""
        self.consumer.hub.reset()
        self.consumer.on_connection_error_after_connected(ConnectionError("gone"))

    def end_job(self) -> None:
        """What Celery does when the message's job has ended."""
        self.consumer.call_soon_ack(self.message.ack_log_error, log, self.consumer.connection_errors)
        self.consumer.hub.run_once()

    def close(self) -> None:
        self.valkey.stop(timeout=0)
        _set_task_join_will_block(False)  # who makes a worker is believed to be one for ever
        self.consumer.timer.stop()
        self.consumer.hub.close()
        self.app.close()
        runtime.close(1.0)  # a worker makes one where our app has been imported


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[type], Worker]]:
    made: list[Worker] = []

    def start(consumer: type) -> Worker:
        made.append(Worker(tmp_path, consumer))
        return made[-1]

    yield start
    for one in made:
        one.close()


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(one.levelno, one.message) for one in caplog.records if one.name == "worker"]


# -- Celery's own ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_celery_s_own_consumer_dies_when_redis_is_away(worker: Callable[[type], Worker]) -> None:
    plain = worker(CeleryConsumer)
    try:
        plain.lose_redis()
    except AttributeError as error:
        assert is_lost_address(error)
    else:
        pytest.fail(MENDED.format("on_connection_error_after_connected"))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_celery_s_own_consumer_dies_when_a_job_from_before_the_loss_ends(worker: Callable[[type], Worker]) -> None:
    plain = worker(CeleryConsumer)
    with suppress(AttributeError):
        plain.lose_redis()
    try:
        plain.end_job()
    except AttributeError as error:
        assert is_lost_address(error)
    else:
        pytest.fail(MENDED.format("call_soon_ack"))


# -- ours --------------------------------------------------------------------------------------------------------------


def test_ours_lives_on_and_is_ready_to_connect_anew(
    worker: Callable[[type], Worker], caplog: pytest.LogCaptureFixture
) -> None:
    ours = worker(Consumer)
    ours.lose_redis()
    assert ours.consumer.connection is None
    sentence = "Redis was away when unfinished messages were to be given back; they come again by themselves"
    assert said(caplog) == [(logging.WARNING, sentence)]


def test_ours_outlives_the_end_of_a_job_from_before_the_loss(
    worker: Callable[[type], Worker], caplog: pytest.LogCaptureFixture
) -> None:
    ours = worker(Consumer)
    ours.lose_redis()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        ours.end_job()
    sentence = "a job has ended whose message came over a lost connection; the message will come once more"
    assert said(caplog) == [(logging.INFO, sentence)]


def test_with_redis_there_a_message_is_acknowledged_as_ever(
    worker: Callable[[type], Worker], caplog: pytest.LogCaptureFixture
) -> None:
    ours = worker(Consumer)
    with redis.Redis.from_url(ours.url) as client:
        assert client.hlen("unacked") == 1
        ours.end_job()
        assert ours.message.acknowledged and client.hlen("unacked") == 0
    assert said(caplog) == []


def test_with_redis_there_a_message_of_a_lost_connection_is_given_back_as_ever(
    worker: Callable[[type], Worker], caplog: pytest.LogCaptureFixture
) -> None:
    ours = worker(Consumer)
    ours.lose_connection()
    with redis.Redis.from_url(ours.url) as client:
        assert (client.hlen("unacked"), client.llen("celery")) == (0, 1)
        ours.end_job()
    assert said(caplog) == []


# -- other faults ------------------------------------------------------------------------------------------------------


class Broken(CeleryConsumer):
    """Has another fault."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        raise AttributeError("other", name="hostname", obj=self)


class OnTopOfBroken(Consumer, Broken):
    """Ours, over a Celery that has another fault."""


def test_no_other_fault_is_hidden() -> None:
    broken = object.__new__(OnTopOfBroken)
    with pytest.raises(AttributeError, match="other"):
        broken.on_connection_error_after_connected(ConnectionError())

    def other() -> None:
        raise AttributeError("other", name="port", obj=None)

    with pytest.raises(AttributeError, match="other"):
        while_connected(other)()


def test_only_the_address_of_nothing_is_the_lost_one() -> None:
    for thing in (None, object()):
        for name in ("hostname", "port"):
            with pytest.raises(AttributeError) as caught:
                getattr(thing, name)
            assert is_lost_address(caught.value) is (thing is None and name == "hostname")
