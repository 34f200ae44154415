import json
from typing import Any

import pytest
import redis

from tasks.errors import Unavailable
from tasks.job.keys import JobKeys
from tasks.text.answers import Answers, Cancelled, Claimed, Held, digest_of
from worker.generation import Answer
from worker.stops import LeaseLost, Stop

SAID = Answer(text="Zoë said so.", input_tokens=3, output_tokens=4, is_cut=True)
KEY = "stenopool:job:{j}:answers"
LEASE = "stenopool:job:{j}:lease"


def attempt(client: redis.Redis, token: str = "a") -> Answers:
    return Answers(client, JobKeys("j"), token, ttl=60, lease=15)


def test_the_first_try_finds_nothing(client: redis.Redis) -> None:
    answers = attempt(client)
    assert answers.claim() == Claimed(elapsed=0.0, fruitless=1)
    assert answers.find("d") is None and not answers.is_new


def test_the_next_finds_the_answers_of_those_before(client: redis.Redis) -> None:
    first = attempt(client)
    first.claim()
    first.keep("d", SAID)
    first.leave("counted")

    second = attempt(client, "b")
    assert second.claim() == Claimed(elapsed=0.0, fruitless=1)
    assert second.find("d") == SAID and first.is_new and not second.is_new


def test_tries_are_counted_until_an_answer_comes(client: redis.Redis) -> None:
    for number in range(1, 4):
        answers = attempt(client, str(number))
        assert answers.claim() == Claimed(elapsed=0.0, fruitless=number)
        answers.leave("counted")
    last = attempt(client)
    last.claim()
    last.keep("d", SAID)
    last.leave("counted")
    assert attempt(client).claim() == Claimed(elapsed=0.0, fruitless=1)


def test_one_that_was_nobodys_fault_is_not_counted(client: redis.Redis) -> None:
    for number in range(3):
        answers = attempt(client, str(number))
        assert answers.claim() == Claimed(elapsed=0.0, fruitless=1)
        answers.leave("spared")


def test_a_job_that_is_sent_again_after_its_end_has_its_tries_anew(client: redis.Redis) -> None:
    for how in ("counted", "ended"):
        answers = attempt(client, how)
        answers.claim()
        answers.leave(how)
    assert attempt(client).claim() == Claimed(elapsed=0.0, fruitless=1)


def test_the_time_since_the_first_try_is_told(client: redis.Redis) -> None:
    attempt(client).claim()
    begun: Any = client.hget(KEY, "begun_at")
    client.hset(KEY, "begun_at", int(begun) - 100)
    client.delete(LEASE)
    claim = attempt(client).claim()
    assert isinstance(claim, Claimed) and 100 <= claim.elapsed < 110


def test_two_cannot_hold_it(client: redis.Redis) -> None:
    attempt(client).claim()
    held = attempt(client, "b").claim()
    assert isinstance(held, Held) and 14 < held.seconds <= 15


def test_a_claim_that_is_sent_twice_is_one(client: redis.Redis) -> None:
    answers = attempt(client)
    assert answers.claim() == answers.claim() == Claimed(elapsed=0.0, fruitless=1)


def test_one_that_was_cancelled_is_not_begun(client: redis.Redis) -> None:
    client.set(JobKeys("j").cancel, "revoked")
    assert attempt(client).claim() == Cancelled()
    assert not client.exists(KEY, LEASE)


def test_every_key_ends(client: redis.Redis) -> None:
    answers = attempt(client)
    answers.claim()
    answers.keep("d", SAID)
    assert 0 < int(str(client.ttl(KEY))) <= 60 and 0 < int(str(client.pttl(LEASE))) <= 15_000


def test_an_answer_is_kept_as_json_that_can_be_read(client: redis.Redis) -> None:
    attempt(client).keep("d", SAID)
    kept: Any = client.hget(KEY, "d")
    assert json.loads(kept) == {"text": "Zoë said so.", "input_tokens": 3, "output_tokens": 4, "is_cut": True}


@pytest.mark.parametrize("half", ["\ud83d", "\ude00", "\ude00\ud83d"])
def test_of_half_a_character_in_an_answer_everybody_gets_a_replacement(client: redis.Redis, half: str) -> None:
    first = attempt(client)
    first.keep("d", Answer(text=f"Fine {half} 😀", output_tokens=4))
    second = attempt(client, "b")
    second.claim()

    wanted = Answer(text="Fine " + "\ufffd" * len(half) + " 😀", output_tokens=4)
    assert first.find("d") == second.find("d") == wanted


def test_a_lease_is_left_only_by_its_holder(client: redis.Redis) -> None:
    attempt(client).claim()
    attempt(client, "b").leave("counted")
    assert client.get(LEASE) == b"a"


def test_a_heartbeat_renews_the_lease_and_never_makes_one(client: redis.Redis) -> None:
    answers, stop = attempt(client), Stop()
    answers.claim()
    pulse = answers.pulse(stop)
    client.pexpire(LEASE, 1000)

    pulse.told(heard(pulse.tell(), client))
    assert int(str(client.pttl(LEASE))) > 14_000
    answers.leave("counted")
    pulse.told(heard(pulse.tell(), client))
    assert not client.exists(LEASE)
    stop.check()


def test_who_was_overtaken_is_told_to_stop(client: redis.Redis) -> None:
    answers, stop = attempt(client), Stop()
    answers.claim()
    pulse = answers.pulse(stop)
    client.set(LEASE, "b")

    pulse.told(heard(pulse.tell(), client))

    with pytest.raises(LeaseLost):
        stop.check()
    assert client.get(LEASE) == b"b"


def heard(call: Any, client: redis.Redis) -> Any:
    return call.run(client)


def test_without_redis_a_claim_is_tried_again_and_an_answer_is_still_had(nowhere: redis.Redis) -> None:
    answers = attempt(nowhere)
    with pytest.raises(Unavailable):
        answers.claim()
    answers.keep("d", SAID)
    answers.leave("counted")
    assert answers.find("d") == SAID


def test_one_request_is_told_from_another() -> None:
    assert digest_of(b"a") == digest_of(b"a") != digest_of(b"b")


def test_a_repr_shows_no_text(client: redis.Redis) -> None:
    answers = attempt(client)
    answers.keep("d", SAID)
    assert repr(answers) == "<Answers 1>"
