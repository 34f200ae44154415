import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from tasks.job.record import Claimed, JobRecord

PATIENCE = 10.0
"""Seconds for what another thread does; never reached unless something is broken."""

Act = Callable[[JobRecord, str], None]


def result(text: str) -> dict[str, Any]:
    sentence = {"begin_time": 0, "end_time": 2000, "text": text, "channel": 0, "words": []}
    return {"text": text, "duration_ms": 2000, "sentences": [sentence]}


def record_of(client: redis.Redis, job_id: str = "j") -> JobRecord:
    """The record of a job, as its client or a worker writes it."""
    return JobRecord(client, job_id, ttl=100, lease=10)


def taken(record: JobRecord, audio: str = "https://host/call.mp3") -> JobRecord:
    """A worker takes the job."""
    assert isinstance(record.claim(audio, "w@h"), Claimed)
    return record


def transcribed(record: JobRecord, audio: str) -> None:
    """What a worker writes of a job that goes well; the text is the recording's name."""
    name = audio.split("?")[0].rsplit("/", 1)[-1]
    taken(record, audio)
    record.note(duration_ms=2000)
    record.partial({"text": name[:1], "begin_time": 0})
    record.note(progress_ms=1000)
    record.final({"text": name, "begin_time": 0, "end_time": 2000})
    record.succeeded(result(name))


class FakeWorker:
    """Speaks a worker's three interfaces, without its work: takes messages, writes records, answers pings."""

    def __init__(self, app: Celery, act: Act = transcribed) -> None:
        self.messages: list[Any] = []
        self._app, self._act = app, act
        self._client = redis.Redis.from_url(app.conf.broker_url)
        self._ready, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake worker", daemon=True)

    def __enter__(self) -> "FakeWorker":
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._client.close()

    def _run(self) -> None:
        with self._app.connection_for_read() as connection:
            control: Any = self._app.control
            mailbox = control.mailbox(connection)
            handlers = {"ping": lambda state: {"ok": "pong"}}
            node = mailbox.Node("celery@fake", handlers=handlers, channel=connection.default_channel)
            queues = list(self._app.amqp.queues.values())
            with node.listen(), connection.Consumer(queues, on_message=self._take, accept=["json"]):
                while not self._stopped.is_set():
                    self._drain(connection)
                    # Listening begins with the first look; a ping sent before is lost.
                    if self._client.pubsub_numpat():
                        self._ready.set()

    def _drain(self, connection: Any) -> None:
        try:
            connection.drain_events(timeout=0.05)
        except TimeoutError:
            return

    def _take(self, message: Any) -> None:
        self.messages.append(message)
        (audio,) = message.payload[0]
        self._act(record_of(self._client, message.headers["id"]), audio)
        message.ack()


@pytest.fixture
def hire() -> Iterator[Callable[..., FakeWorker]]:
    """Sets a fake worker to work until the end of the test."""
    hired: list[FakeWorker] = []

    def start(app: Celery, act: Act = transcribed) -> FakeWorker:
        hired.append(FakeWorker(app, act).__enter__())
        return hired[-1]

    yield start
    for worker in hired:
        worker.__exit__()
