import json
from typing import Any

import redis

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
