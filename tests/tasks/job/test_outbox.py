from collections.abc import Callable
from typing import Any

import pytest
import redis

from tasks.errors import JobError, Unavailable
from tasks.job.callback import Callback
from tasks.job.outbox import MARGIN, SLOWEST, WAITS, Outbox
from tasks.job.record import JobRecord
from tasks.job.view import JobView
from tests.tasks.conftest import FickleRedis
from tests.tasks.job.conftest import KEYS, LEASE, TTL, claimed, due, everything, later, outbox

RESULT = {"duration_ms": 2000, "text": "十 it"}


def end(client: redis.Redis, **more: Any) -> None:
    """The job `j`, which asks for a callback, has succeeded."""
    record = JobRecord(client, "j", ttl=TTL, lease=LEASE, callback=Callback(url="https://app.example/told"))
    claimed(record)
    record.succeeded(RESULT | more)


@pytest.fixture
def ended(client: redis.Redis) -> None:
    """It has."""
    end(client)


@pytest.fixture
def fields(client: redis.Redis) -> Callable[[], dict[str, str]]:
    """What Redis has of the callback."""

    def read() -> dict[str, str]:
        found: Any = client.hgetall(KEYS.callback)
        return {name.decode(): value.decode() for name, value in found.items()}

    return read


def let_time_pass(client: redis.Redis) -> None:
    """Until the next try may be."""
    client.hset(KEYS.callback, "next_at", 1)


def test_while_one_tries_nobody_else_does(ended: None, client: redis.Redis) -> None:
    due(outbox(client))
    assert WAITS + MARGIN - 1 < later(outbox(client)) < WAITS + MARGIN + 1


def test_a_large_body_has_more_time(client: redis.Redis) -> None:
    end(client, text="x" * 10 * SLOWEST)
    due(outbox(client))
    assert later(outbox(client)) > 10 * WAITS


def test_when_his_time_is_up_another_may_and_it_is_the_same_delivery(ended: None, client: redis.Redis) -> None:
    first = due(outbox(client))
    let_time_pass(client)
    second = due(outbox(client))
    assert (second.delivery, second.body, second.tries) == (first.delivery, first.body, 2)


def test_a_try_whose_answer_was_lost_counts_once(ended: None, fickle: FickleRedis) -> None:
    box = outbox(fickle)
    fickle.deaf = 1
    with pytest.raises(Unavailable):
        box.take(1.0)
    assert due(box).tries == 1


def test_one_that_failed_says_why_and_waits(
    ended: None, client: redis.Redis, view: JobView, fields: Callable[[], dict[str, str]]
) -> None:
    box = outbox(client)
    first = due(box)
    box.postponed(50.0, "It hung up.")
    assert (view.fields()["callback"], view.fields()["callback_error"]) == ("due", "It hung up.")
    assert 49 < later(outbox(client)) <= 50 and "holder" not in fields()
    let_time_pass(client)
    again = due(outbox(client))
    assert (again.tries, again.delivery) == (2, first.delivery)


def test_however_long_it_waits_it_lives_longer(ended: None, client: redis.Redis) -> None:
    box = outbox(client)
    due(box)
    box.postponed(1000.0, "It hung up.")
    for key in (KEYS.callback, KEYS.job):
        assert 1000 < int(str(client.ttl(key))) <= 1000 + TTL


@pytest.mark.parametrize("before", [False, True], ids=["at once", "after a failure"])
def test_what_was_delivered_is_gone_and_the_job_says_so(
    ended: None, client: redis.Redis, view: JobView, before: bool
) -> None:
    if before:
        box = outbox(client)
        due(box)
        box.postponed(50.0, "It hung up.")
        let_time_pass(client)
    box = outbox(client)
    due(box)
    box.delivered()
    assert not client.exists(KEYS.callback) and outbox(client).take(1.0) is None
    assert view.fields()["callback"] == "delivered" and "callback_error" not in view.fields()


def test_so_is_what_was_given_up_with_the_reason(ended: None, client: redis.Redis, view: JobView) -> None:
    box = outbox(client)
    due(box)
    box.given_up("It said 404.")
    assert not client.exists(KEYS.callback)
    assert (view.fields()["callback"], view.fields()["callback_error"]) == ("given_up", "It said 404.")


@pytest.mark.parametrize(
    "act",
    [
        lambda box: box.delivered(),
        lambda box: box.given_up("It said 404."),
        lambda box: box.postponed(50.0, "It hung up."),
    ],
)
def test_who_is_late_changes_nothing_of_what_another_does(
    ended: None, client: redis.Redis, act: Callable[[Outbox], None]
) -> None:
    late = outbox(client)
    due(late)
    let_time_pass(client)
    due(outbox(client))
    before = everything(client)
    act(late)
    assert everything(client) == before


@pytest.mark.parametrize("act", ["delivered", "postponed"])
def test_a_job_that_redis_has_forgotten_is_not_made_anew(ended: None, client: redis.Redis, act: str) -> None:
    box = outbox(client)
    due(box)
    client.delete(KEYS.job)
    box.delivered() if act == "delivered" else box.postponed(5.0, "It hung up.")
    assert not client.exists(KEYS.job)


def test_every_key_keeps_an_end(ended: None, client: redis.Redis) -> None:
    box = outbox(client)
    for key in (KEYS.callback, KEYS.job):
        client.persist(key)
    due(box)
    box.postponed(5.0, "It hung up.")
    assert all(int(str(client.ttl(key))) > 0 for key in (KEYS.callback, KEYS.job))


def test_a_redis_that_does_not_answer_is_an_error_that_passes(nowhere: redis.Redis) -> None:
    with pytest.raises(Unavailable):
        outbox(nowhere).take(1.0)


def test_one_that_refuses_is_one_that_does_not(client: redis.Redis) -> None:
    client.set(KEYS.callback, "no hash")
    with pytest.raises(JobError) as error:
        outbox(client).take(1.0)
    assert error.value.code == "redis_refused"


def test_it_outlives_the_try_that_is_made(ended: None, client: redis.Redis) -> None:
    Outbox(client, "j", ttl=1).take(300.0)
    assert int(str(client.ttl(KEYS.callback))) > WAITS * 300
