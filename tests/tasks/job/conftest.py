from collections.abc import Callable
from typing import Any

import pytest
import redis

from tasks.job.keys import JobKeys
from tasks.job.outbox import Due, Later, Outbox
from tasks.job.record import Claimed, Held, JobRecord, Over

KEYS = JobKeys("j")
TTL, LEASE = 100, 10.0

Make = Callable[..., JobRecord]


def said(number: int) -> dict[str, Any]:
    """The sentence of this number, counted from 0."""
    return {"begin_time": 100 * number, "end_time": 100 * number + 80, "text": f"s{number}"}


def claimed(record: JobRecord) -> Claimed:
    """Take the job, which is to be had."""
    claim = record.claim("https://h/a", "w@h")
    assert isinstance(claim, Claimed)
    return claim


def held(record: JobRecord) -> Held:
    """Try to take the job, which somebody has."""
    claim = record.claim("https://h/a", "w@h")
    assert isinstance(claim, Held)
    return claim


def over(record: JobRecord) -> Over:
    """Try to take the job, which has ended."""
    claim = record.claim("https://h/a", "w@h")
    assert isinstance(claim, Over)
    return claim


def lapse(client: redis.Redis) -> None:
    """Let the lease's time be up."""
    assert client.delete(KEYS.lease) == 1


def everything(client: redis.Redis) -> dict[bytes, Any]:
    """What Redis holds, but for the times to live."""
    names: Any = client.keys("*")
    return {name: client.dump(name) for name in names}


def outbox(client: redis.Redis) -> Outbox:
    """As one more who tries has it."""
    return Outbox(client, "j", ttl=TTL)


def due(box: Outbox) -> Due:
    """Take the callback, which is to be had."""
    found = box.take(1.0)
    assert isinstance(found, Due)
    return found


def later(box: Outbox) -> float:
    """Ask for the callback, which is not to be had yet."""
    found = box.take(1.0)
    assert isinstance(found, Later)
    return found.seconds


@pytest.fixture
def make(client: redis.Redis) -> Make:
    """Makes the record of the job `j` as one more worker has it."""
    return lambda connection=client: JobRecord(connection, "j", ttl=TTL, lease=LEASE)


@pytest.fixture
def record(make: Make) -> JobRecord:
    """The record of a job that runs."""
    running = make()
    claimed(running)
    return running
