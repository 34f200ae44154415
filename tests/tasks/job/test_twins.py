from typing import Any

import pytest
import redis

from tasks.errors import JobError, Unavailable, UnderWay
from tasks.job.twins import LOOKS, Twins, same
from worker.jobs import job_key

KEY = same("key", "", "k")
TTL = 100


@pytest.fixture
def twins(client: redis.Redis) -> Twins:
    return Twins(client, ttl=TTL)


def ended(client: redis.Redis, job_id: str, state: str, **fields: Any) -> None:
    client.hset(job_key(job_id), mapping={"state": state} | fields)


def test_the_first_does_the_work_however_often_it_asks(twins: Twins, client: redis.Redis) -> None:
    assert twins.result(KEY, "a") is None and twins.result(KEY, "a") is None
    assert 0 < int(client.ttl(KEY)) <= TTL


@pytest.mark.parametrize("state", ["running", "queued"])
def test_the_next_waits_for_the_first(twins: Twins, client: redis.Redis, state: str) -> None:
    twins.result(KEY, "a")
    ended(client, "a", state)
    with pytest.raises(UnderWay):
        twins.result(KEY, "b")


def test_the_next_has_the_result_of_the_first(twins: Twins, client: redis.Redis) -> None:
    twins.result(KEY, "a")
    ended(client, "a", "succeeded", result='{"text": "One."}')
    assert twins.result(KEY, "b") == {"text": "One."} == twins.result(KEY, "c")


@pytest.mark.parametrize("state", ["failed", "cancelled", None])
def test_who_comes_to_nothing_leaves_its_place_to_the_next(
    twins: Twins, client: redis.Redis, state: str | None
) -> None:
    twins.result(KEY, "a")
    if state is not None:
        ended(client, "a", state)
    assert twins.result(KEY, "b") is None
    ended(client, "b", "running")
    with pytest.raises(UnderWay):
        twins.result(KEY, "c")


def test_other_words_are_another_key(twins: Twins) -> None:
    words = [("key", "", "k"), ("key", "k", ""), ("content", "", "k"), ("key", "", "k ")]
    assert [twins.result(same(*some), f"job {n}") for n, some in enumerate(words)] == [None] * 4
    assert "secret" not in same("key", "", "secret")


def test_a_job_is_known_for_as_long_as_its_result_is_kept(twins: Twins, client: redis.Redis) -> None:
    twins.result(KEY, "a")
    client.expire(KEY, 10)
    twins.keep(KEY, "a")
    assert int(client.ttl(KEY)) > 10
    twins.keep(KEY, "b")
    assert client.get(KEY) == b"a"


def test_a_place_that_others_take_all_the_time_is_not_fought_for(twins: Twins, client: redis.Redis) -> None:
    class Fought(Twins):
        looks = 0

        def _first(self, key: str, job_id: str, in_vain: str) -> str:
            self.looks += 1
            return f"other {self.looks}"

    fought = Fought(client, ttl=TTL)
    with pytest.raises(UnderWay):
        fought.result(KEY, "a")
    assert fought.looks == LOOKS


def test_a_redis_that_is_away_is_a_fault_that_passes(nowhere: redis.Redis, client: redis.Redis) -> None:
    with pytest.raises(Unavailable):
        Twins(nowhere, ttl=TTL).result(KEY, "a")
    client.rpush(KEY, "no string")
    with pytest.raises(JobError) as refused:
        Twins(client, ttl=TTL).result(KEY, "a")
    assert refused.value.code == "redis_refused"
