import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import Ignore, Reject

from emulator.stack import free_port
from tasks.errors import BadInput
from tasks.job.callback import Callback
from tasks.job.keys import JobKeys
from tasks.job.outbox import Outbox
from tasks.job.record import JobRecord
from tasks.job.view import JobView
from tasks.notify import notify
from tests.receivers import SECRET, Receiver
from tests.tasks.test_transcribe import queued, requeues
from worker.runtime import redis_client, runtime

Receive = Callable[..., Receiver]
KEYS = JobKeys("j")
TOKEN = "token-4711"


@pytest.fixture
def worker(start_app: Callable[..., Celery]) -> Callable[..., Celery]:
    """Makes this process one that could deliver callbacks."""
    return lambda **variables: start_app(
        **{"STENOPOOL_CALLBACK_SECRET": SECRET, "STENOPOOL_AUDIO_ALLOW_PRIVATE": "true"} | variables
    )


def ended(client: redis.Redis, url: str, queue: str = "transcribe") -> None:
    """The job `j` has ended, and this address is to be told."""
    callback = Callback(url=url, queue=queue)
    record = JobRecord(client, "j", ttl=100, lease=10, callback=callback)
    record.claim("https://h/a", "w@h")
    record.failed("not_audio", "Give audio.")


def attempt(job_id: str = "j", queue: str = "transcribe") -> Any:
    """One message of the callback of the job `j`, as a worker takes it."""
    notify.push_request(
        id=f"{job_id}:callback",
        args=(job_id,),
        kwargs={},
        retries=0,
        called_directly=False,
        hostname="w@h",
        delivery_info={"exchange": "", "routing_key": queue, "priority": 0},
    )
    try:
        return notify.run(job_id)
    finally:
        notify.pop_request()


def eta(message: Any) -> float:
    return time.mktime(time.strptime(message.headers["eta"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone


def test_a_message_has_the_callback_delivered(
    worker: Any, client: redis.Redis, receive: Receive, view: JobView
) -> None:
    app, receiver = worker(), receive()
    ended(client, receiver.url)
    assert attempt() is None
    (call,) = receiver.calls
    assert call.is_signed and (call.told["state"], call.told["error_code"]) == ("failed", "not_audio")
    assert view.fields()["callback"] == "delivered" and queued(app) == []


def test_a_second_message_does_nothing(worker: Any, client: redis.Redis, receive: Receive) -> None:
    app, receiver = worker(), receive()
    ended(client, receiver.url)
    for _ in range(3):
        attempt()
    assert len(receiver.calls) == 1 and queued(app) == []


def test_neither_does_one_of_a_job_that_nobody_knows(worker: Any) -> None:
    app = worker()
    attempt("unknown")
    assert queued(app) == []


@pytest.mark.parametrize("queue", ["transcribe", "transcribe.interactive"])
def test_after_a_failure_a_message_waits_where_this_one_came_from_with_the_job_s_id_and_no_more(
    worker: Any, client: redis.Redis, receive: Receive, caplog: pytest.LogCaptureFixture, queue: str
) -> None:
    app, receiver = worker(STENOPOOL_CALLBACK_BACKOFF="50"), receive(500)
    ended(client, f"{receiver.url}/{TOKEN}", queue)
    began = time.time()
    with caplog.at_level(logging.INFO), pytest.raises(Ignore) as ignored:
        attempt(queue=queue)

    assert ignored.value.__suppress_context__
    (message,) = queued(app, queue)
    assert (message.headers["task"], message.headers["id"]) == ("tasks.notify", "j:callback")
    assert message.payload[:2] == [["j"], {}] and 0 <= eta(message) + 1 - began <= 52
    assert "is tried again in" in caplog.text and TOKEN not in caplog.text and TOKEN not in str(message.headers)


def test_one_that_comes_too_early_waits_on_and_calls_nobody(worker: Any, client: redis.Redis, receive: Receive) -> None:
    app, receiver = worker(), receive()
    ended(client, receiver.url)
    box = Outbox(client, "j", ttl=100)
    box.take(1.0)
    box.postponed(30.0, "It hung up.")
    began = time.time()
    with pytest.raises(Ignore):
        attempt()
    (message,) = queued(app)
    assert 28 <= eta(message) + 1 - began <= 32 and receiver.calls == []


def test_without_redis_the_message_stays(worker: Any, client: redis.Redis, receive: Receive) -> None:
    worker(STENOPOOL_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Reject) as rejected:
        attempt()
    assert requeues(rejected.value) and rejected.value.__suppress_context__


def test_where_only_the_record_is_out_of_reach_another_waits(worker: Any, client: redis.Redis) -> None:
    app = worker()
    broken: Any = runtime()
    broken.redis = redis_client(f"redis://127.0.0.1:{free_port()}/0")
    began = time.time()
    with pytest.raises(Ignore):
        attempt()
    (message,) = queued(app)
    assert 0 <= eta(message) + 1 - began <= 8


def test_an_id_that_no_job_can_have_is_refused(worker: Any) -> None:
    worker()
    with pytest.raises(BadInput):
        attempt("a b")


def test_what_became_of_it_is_no_result_of_celery_s(worker: Any, client: redis.Redis) -> None:
    app = worker()
    assert app.tasks["tasks.notify"].ignore_result and "tasks.notify" in app.conf.include
