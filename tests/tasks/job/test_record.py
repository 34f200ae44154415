import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from emulator.stack import free_port
from tasks.errors import Unavailable
from tasks.job.record import JobRecord
from tasks.job.view import JobView

RESULT = {"duration_ms": 2000, "text": "十 it"}


def test_a_job_s_life_can_be_read_late_and_from_the_first_event(client: redis.Redis) -> None:
    record, view = JobRecord(client, "j", ttl=100), JobView(client, "j")
    record.queued("https://h/a")
    queued_at = record.started("https://h/a", "w@h", attempt=1)
    record.recording(2000)
    record.progress(700)
    record.partial({"text": "i"})
    record.final({"text": "it"})
    record.succeeded(RESULT)

    assert queued_at is not None and queued_at > 1e9
    fields = view.fields()
    assert {
        name: fields[name] for name in ("state", "worker", "attempts", "resumes", "progress_ms", "duration_ms")
    } == {
        "state": "succeeded",
        "worker": "w@h",
        "attempts": "1",
        "resumes": "0",
        "progress_ms": "2000",
        "duration_ms": "2000",
    }
    assert json.loads(fields["result"]) == RESULT
    assert view.sentences() == [{"text": "it"}]
    assert view.events() == [
        ("state", {"state": "queued"}),
        ("state", {"state": "running", "attempt": 1}),
        ("partial", {"text": "i"}),
        ("final", {"text": "it"}),
        ("state", {"state": "succeeded"}),
    ]
    assert view.events() == []


def test_a_record_is_known_by_its_job(client: redis.Redis) -> None:
    assert repr(JobRecord(client, "j", ttl=100)) == "<JobRecord j>"


def test_a_new_attempt_leaves_nothing_of_the_old_one(client: redis.Redis) -> None:
    record, view = JobRecord(client, "j", ttl=100), JobView(client, "j")
    assert record.started("a", "w", attempt=1) is None
    record.final({"text": "it"})
    record.waiting("throttled", "Later.")
    assert (view.fields()["state"], view.fields()["error_code"]) == ("queued", "throttled")
    record.started("a", "w", attempt=2)
    assert view.sentences() == []
    assert view.fields()["attempts"] == "2" and "error" not in view.fields()


def test_a_failed_job_says_why(client: redis.Redis) -> None:
    JobRecord(client, "j", ttl=100).failed("not_audio", "Give audio.")
    view = JobView(client, "j")
    assert (view.fields()["state"], view.fields()["error"]) == ("failed", "Give audio.")
    assert view.events() == [("state", {"state": "failed", "error_code": "not_audio", "error": "Give audio."})]


def test_every_key_has_a_time_to_live_and_the_job_s_hash_tag(client: redis.Redis) -> None:
    record = JobRecord(client, "j", ttl=100)
    record.started("a", "w", attempt=1)
    record.recording(None)
    record.final({"text": "it"})
    keys: Any = client.keys("*")
    assert sorted(keys) == [b"stenopool:job:{j}", b"stenopool:job:{j}:events", b"stenopool:job:{j}:sentences"]
    assert all(0 < int(str(client.ttl(key))) <= 100 for key in keys)


def test_an_unknown_job_has_no_fields(client: redis.Redis) -> None:
    view = JobView(client, "none")
    assert (view.fields(), view.sentences(), view.events()) == ({}, [], [])


def test_a_sentence_that_is_sent_twice_is_kept_once(client: redis.Redis) -> None:
    record, view = JobRecord(client, "j", ttl=100), JobView(client, "j")
    record.started("a", "w", attempt=1)
    record.final({"text": "one"})
    record._kept = 0  # as if the answer had been lost, and the command is sent again
    record.final({"text": "one"})
    record.final({"text": "two"})
    assert [one["text"] for one in view.sentences()] == ["one", "two"]
    assert [data["text"] for kind, data in view.events() if kind == "final"] == ["one", "two"]


def test_half_a_surrogate_pair_costs_a_character_and_not_the_job(client: redis.Redis) -> None:
    record, view = JobRecord(client, "j", ttl=100), JobView(client, "j")
    record.final({"text": "so \ud83d"})
    record.succeeded({"duration_ms": 1, "text": "so \ud83d"})
    assert view.sentences() == [{"text": "so ?"}]


def test_every_method_is_one_round_trip(client: redis.Redis) -> None:
    record = JobRecord(client, "j", ttl=100)
    record.started("a", "w", attempt=1)
    record.recording(2000)
    acts: dict[str, Callable[[], object]] = {
        "started": lambda: record.started("a", "w", attempt=2),
        "recording": lambda: record.recording(2000),
        "partial": lambda: record.partial({"text": "i"}),
        "final": lambda: record.final({"text": "it"}),
        "succeeded": lambda: record.succeeded({"duration_ms": 1}),
        "failed": lambda: record.failed("c", "s"),
    }
    for name, act in acts.items():
        act()  # whose script may be new to this Redis
        before = reads(client)
        act()
        assert reads(client) - before == 2, name  # and one for asking


def reads(client: redis.Redis) -> int:
    figures: Any = client.info("stats")
    return int(figures["total_reads_processed"])


def test_a_redis_that_forgot_its_scripts_is_taught_them_again(client: redis.Redis) -> None:
    record = JobRecord(client, "j", ttl=100)
    client.script_flush()
    assert record.started("a", "w", attempt=1) is None
    record.final({"text": "one"})
    client.script_flush()
    record.final({"text": "two"})
    assert [one["text"] for one in JobView(client, "j").sentences()] == ["one", "two"]


def test_a_redis_that_does_not_answer_is_an_error_that_passes() -> None:
    record = JobRecord(redis.Redis(port=free_port()), "j", ttl=100)
    for write in (lambda: record.final({}), lambda: record.progress(1), lambda: record.failed("c", "s")):
        with pytest.raises(Unavailable) as error:
            write()
        assert error.value.code == "redis_unavailable"
