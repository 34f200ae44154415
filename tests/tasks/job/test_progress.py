from typing import Any

import pytest
import redis

from tasks.job.keys import JobKeys
from tasks.job.progress import Progress
from tasks.job.record import JobRecord
from tasks.job.view import JobView

KEYS = tuple(JobKeys("j"))


def told(client: redis.Redis, ms: int, attempt: int = 1) -> Any:
    """What Redis answers when an attempt tells how far it is."""
    call = Progress(KEYS, attempt, 100, lambda: ms).tell()
    assert call is not None
    return call.run(client)


@pytest.fixture
def record(client: redis.Redis) -> JobRecord:
    """The record of a job that runs."""
    made = JobRecord(client, "j", ttl=100)
    made.started("a", "w", attempt=1)
    return made


def figure(client: redis.Redis) -> int:
    return int(JobView(client, "j").fields()["progress_ms"])


def test_a_figure_is_told_until_redis_has_it_and_again_when_it_has_changed() -> None:
    sent = 0
    progress = Progress(KEYS, 1, 100, lambda: sent)
    assert progress.tell() is None
    sent = 700
    first, again = progress.tell(), progress.tell()
    assert first is not None and first == again and first.given == (3, *KEYS, 1, 700, 100)
    progress.told(1)
    assert progress.tell() is None
    sent = 800
    assert progress.tell() is not None


def test_a_running_job_s_figure_grows_and_every_key_lives_on(client: redis.Redis, record: JobRecord) -> None:
    record.final({"text": "it"})
    for key in KEYS:
        client.expire(key, 5)
    assert told(client, 700) == 1 and figure(client) == 700
    assert all(int(str(client.ttl(key))) > 50 for key in KEYS)


def test_a_late_beat_takes_nothing_back(client: redis.Redis, record: JobRecord) -> None:
    told(client, 700)
    assert told(client, 600) == 1 and figure(client) == 700


def test_what_has_ended_stays_as_it_is(client: redis.Redis, record: JobRecord) -> None:
    record.succeeded({"duration_ms": 900})
    before = JobView(client, "j").fields()
    assert told(client, 1000) == 0 and JobView(client, "j").fields() == before


def test_a_job_that_waits_for_its_next_attempt_hears_nothing_of_the_last(
    client: redis.Redis, record: JobRecord
) -> None:
    record.waiting("throttled", "Later.")
    assert told(client, 700) == 0
    record.started("a", "w", attempt=2)
    assert told(client, 700) == 0 and figure(client) == 0
    assert told(client, 300, attempt=2) == 1 and figure(client) == 300


def test_a_job_that_redis_does_not_know_is_not_made(client: redis.Redis) -> None:
    assert told(client, 700) == 0 and not client.exists(*KEYS)
