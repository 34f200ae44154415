import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery

from cli.client import Client, Job, name_of, online
from config.queues import QUEUES
from config.settings import settings

Start = Callable[..., Celery]
SIGNED = "https://u:p@host/calls/call.mp3?sig=secret"


@pytest.fixture
def app(start_app: Start) -> Celery:
    return start_app()


@pytest.fixture
def steno(app: Celery, client: redis.Redis) -> Client:
    return Client(app, client, settings())


def sent(app: Celery, queue: str = "transcribe") -> Any:
    """The message on a queue, by default that of our own clients."""
    with app.connection_for_read() as connection:
        return connection.SimpleQueue(queue).get(block=False)


def test_a_job_is_one_message_for_the_task_by_its_name(app: Celery, steno: Client) -> None:
    job = steno.send("https://host/call.mp3", {"live": True})

    message = sent(app)
    assert (message.headers["task"], message.headers["id"]) == ("tasks.transcribe", job.id)
    assert message.payload[:2] == [["https://host/call.mp3"], {"live": True}]
    assert uuid.UUID(job.id).version == 4 and job == Job(job.id, "https://host/call.mp3", "call.mp3")


@pytest.mark.parametrize("queue", QUEUES)
def test_a_job_goes_to_the_queue_that_was_named_and_to_no_other(
    app: Celery, steno: Client, client: redis.Redis, queue: str
) -> None:
    job = steno.send("https://host/call.mp3", {}, queue)
    assert [client.llen(name) for name in QUEUES] == [int(name == queue) for name in QUEUES]
    assert sent(app, queue).headers["id"] == job.id


def test_two_jobs_of_one_recording_are_two(steno: Client) -> None:
    assert steno.send("https://host/a", {}).id != steno.send("https://host/a", {}).id


def test_a_job_can_be_followed_as_soon_as_it_was_sent(steno: Client) -> None:
    fields = steno.view(steno.send("https://host/call.mp3", {}).id).fields()
    assert (fields["state"], fields["audio"]) == ("queued", "https://host/call.mp3") and float(fields["queued_at"])


def test_the_record_lives_as_long_as_the_settings_say(start_app: Start, client: redis.Redis) -> None:
    steno = Client(start_app(STENOPOOL_JOB_TTL="60"), client, settings())
    job = steno.send("https://host/a", {})
    assert 0 < client.ttl(f"stenopool:job:{{{job.id}}}") <= 60


def test_a_job_is_cancelled_by_a_key_that_lives_as_long_as_a_record(start_app: Start, client: redis.Redis) -> None:
    steno = Client(start_app(STENOPOOL_JOB_TTL="60"), client, settings())
    steno.cancel("j")
    assert 0 < client.ttl("stenopool:job:{j}:cancel") <= 60


def test_only_the_message_s_body_holds_what_is_secret_in_a_reference(app: Celery, steno: Client) -> None:
    job = steno.send(SIGNED, {"metadata": {"patient": "hush"}})

    message = sent(app)
    assert message.payload[0] == [SIGNED]
    assert message.headers["argsrepr"] == "('https://host/calls/call.mp3',)"
    assert message.headers["kwargsrepr"] == "{'metadata': '…'}"
    assert "secret" not in str(message.headers) + str(steno.view(job.id).fields()) + job.name


def test_nor_do_a_quote_or_a_space_in_a_name_show_it(app: Celery, steno: Client) -> None:
    for place in ("it's.mp3", "my call.mp3", "a<b>.mp3"):
        job = steno.send(f"https://host/{place}?sig=secret", {})

        assert (steno.view(job.id).fields()["audio"], job.name) == (f"https://host/{place}", place)
        assert "secret" not in str(sent(app).headers)


def test_the_workers_that_answer_are_named(app: Celery, steno: Client, hire: Callable[..., Any]) -> None:
    hire(app)
    assert steno.workers() == online(app) == ["celery@fake"]


def test_no_worker_is_an_empty_list(steno: Client) -> None:
    assert steno.workers() == []


@pytest.mark.parametrize(
    ("audio", "name"),
    [
        (SIGNED, "call.mp3"),
        ("https://host/calls/", "calls"),
        ("https://host", "host"),
        ("https://host/it's%20a%20call.mp3?sig=secret", "it's a call.mp3"),
        ("file:///a/b.wav", "b.wav"),
        ("data:audio/wav;base64,UklG", "data:…"),
        ("/", "audio"),
        ("", "audio"),
    ],
)
def test_a_job_goes_by_the_last_part_of_its_reference(audio: str, name: str) -> None:
    assert name_of(audio) == name
