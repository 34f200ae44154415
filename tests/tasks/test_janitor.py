import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from tasks.errors import JobError
from tasks.janitor import UNACKED, Janitor
from tasks.job.callback import Callback
from tasks.job.keys import JobKeys
from tasks.job.outbox import Due, Outbox
from tasks.job.record import MESSAGE_LOST, Claimed, JobRecord
from tasks.job.view import JobView
from worker.jobs import notice_id

TTL = 100
CALLBACK = Callback(url="https://app.example/told", metadata='{"name":"十 \\u0000"}'.encode(), queue="transcribe.bulk")


class Told:
    """Whom the janitor tells of the jobs that it ended, and of callbacks that have no message."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []
        self.notices: list[tuple[str, str]] = []

    def __call__(self, job_id: str, error: JobError) -> None:
        self.ends.append((job_id, error.code))

    def notify(self, job_id: str, queue: str) -> None:
        self.notices.append((job_id, queue))


@pytest.fixture
def told() -> Told:
    return Told()


def janitor(client: redis.Redis, told: Told, grace: float = 0.0) -> Janitor:
    return Janitor(client, ["transcribe", "celery"], told, told.notify, ttl=TTL, grace=grace)


def begun(
    client: redis.Redis, job_id: str = "j", *, holder: bool = False, callback: Callback | None = None
) -> JobRecord:
    """A job that a worker has begun; without a `holder` the worker is dead and its lease has run out."""
    record = JobRecord(client, job_id, ttl=TTL, lease=30, callback=callback)
    record.claim("a", "w")
    record.final({"text": "it", "end_time": 7})
    if not holder:
        client.delete(JobKeys(job_id).lease)
    return record


@pytest.fixture
def app(valkey: str) -> Iterator[Celery]:
    """A client that sends jobs."""
    with Celery("web", broker=valkey, set_as_current=False) as made:
        yield made


def state(client: redis.Redis, job_id: str = "j") -> str:
    return JobView(client, job_id).fields()["state"]


def test_a_job_without_a_holder_and_without_a_message_is_ended_and_who_waits_is_told(
    client: redis.Redis, told: Told
) -> None:
    begun(client)

    assert janitor(client, told).sweep() == ["j"]

    view = JobView(client, "j")
    fields = view.fields()
    assert (fields["state"], fields["error_code"]) == ("failed", MESSAGE_LOST)
    assert "send the job again" in fields["error"] and float(fields["ended_at"]) > 0
    assert view.events()[-1][1]["state"] == "failed"
    assert [one["text"] for one in view.sentences()] == ["it"]
    assert told.ends == [("j", MESSAGE_LOST)]
    assert janitor(client, told).sweep() == []


def test_sent_again_it_goes_on_where_it_was(client: redis.Redis, told: Told) -> None:
    begun(client)
    janitor(client, told).sweep()
    again = JobRecord(client, "j", ttl=TTL, lease=30)
    claim = again.claim("a", "w2")
    assert isinstance(claim, Claimed) and claim.kept == 1 and again.checkpoint.end_ms() == 7
    assert "ended_at" not in JobView(client, "j").fields()


def test_who_was_not_told_because_a_sweep_was_interrupted_is_told_by_the_next(client: redis.Redis, told: Told) -> None:
    for job_id in ("a", "b", "c"):
        begun(client, job_id)

    def interrupted(job_id: str, error: JobError) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Janitor(client, ["transcribe"], interrupted, told.notify, ttl=TTL, grace=0.0).sweep()
    assert {state(client, job_id) for job_id in ("a", "b", "c")} == {"failed"}

    janitor(client, told).sweep()
    assert sorted(told.ends) == [(job_id, MESSAGE_LOST) for job_id in ("a", "b", "c")]
    assert janitor(client, told).sweep() == []


def test_it_is_ended_only_after_a_second_look(client: redis.Redis, told: Told) -> None:
    begun(client)
    assert janitor(client, told, grace=60).sweep() == [] and state(client) == "running"
    client.hincrbyfloat(JobKeys("j").job, "orphaned_at", -61)  # a minute later
    assert janitor(client, told, grace=60).sweep() == ["j"]


def test_a_job_with_a_holder_is_left_alone(client: redis.Redis, told: Told) -> None:
    begun(client, holder=True)
    assert janitor(client, told).sweep() == [] and state(client) == "running"


def test_one_that_was_only_sent_is_left_alone(client: redis.Redis, told: Told) -> None:
    JobRecord(client, "j", ttl=TTL, lease=30).queued("a")
    assert janitor(client, told).sweep() == [] and state(client) == "queued"


@pytest.mark.parametrize("priority", [0, 6])
@pytest.mark.parametrize("queue", ["transcribe", "celery"])
def test_one_whose_message_waits_in_a_queue_is_left_alone(
    client: redis.Redis, told: Told, app: Celery, queue: str, priority: int
) -> None:
    begun(client)
    app.send_task("tasks.transcribe", args=["a"], task_id="j", queue=queue, priority=priority)
    assert janitor(client, told).sweep() == [] and state(client) == "running"


def test_one_whose_message_a_worker_has_taken_is_left_alone(client: redis.Redis, told: Told, app: Celery) -> None:
    begun(client)
    app.send_task("tasks.transcribe", args=["a"], task_id="j", queue="transcribe")
    raw: Any = client.rpop("transcribe")
    client.hset(UNACKED, "tag", json.dumps([json.loads(raw), "transcribe", "transcribe"]))
    assert janitor(client, told).sweep() == [] and state(client) == "running"


def test_messages_that_nobody_understands_are_no_obstacle(client: redis.Redis, told: Told) -> None:
    begun(client)
    client.lpush("transcribe", "[]", '{"headers": 5}', "{}")
    assert janitor(client, told).sweep() == ["j"]


def test_one_that_was_left_for_another_try_whose_message_is_lost_is_ended_too(client: redis.Redis, told: Told) -> None:
    begun(client, holder=True).waiting("throttled", "Later.")
    assert state(client) == "queued"
    assert janitor(client, told).sweep() == ["j"]


def test_one_that_is_begun_again_between_the_look_and_the_end_is_left_alone(client: redis.Redis, told: Told) -> None:
    begun(client)
    one = janitor(client, told)
    token = JobView(client, "j").fields()["token"]
    JobRecord(client, "j", ttl=TTL, lease=30).claim("a", "w2")
    assert not one._end("j", token) and state(client) == "running"


def test_who_takes_a_job_up_again_takes_the_suspicion_from_it(client: redis.Redis, told: Told) -> None:
    begun(client)
    janitor(client, told, grace=60).sweep()
    assert "orphaned_at" in JobView(client, "j").fields()
    JobRecord(client, "j", ttl=TTL, lease=30).claim("a", "w2")
    assert "orphaned_at" not in JobView(client, "j").fields()


def test_a_key_without_an_end_is_given_one(client: redis.Redis, told: Told) -> None:
    client.set(JobKeys("never").cancel, "1")
    client.set("mine", "1")
    janitor(client, told).sweep()
    assert 0 < int(str(client.ttl(JobKeys("never").cancel))) <= TTL
    assert client.ttl("mine") == -1


def test_thousands_of_jobs_are_looked_through(client: redis.Redis, told: Told) -> None:
    for number in range(1200):
        client.hset(JobKeys(f"{number}").job, mapping={"state": "running", "token": "t"})
    assert len(janitor(client, told).sweep()) == 1200
    assert repr(janitor(client, told)) == "<Janitor of transcribe, celery>"


# -- callbacks ---------------------------------------------------------------------------------------------------------


def ended(client: redis.Redis, job_id: str = "j") -> None:
    """A job that has ended; nobody was sent to deliver its callback."""
    begun(client, job_id, holder=True, callback=CALLBACK).failed("not_audio", "Give audio.")


def test_a_job_that_is_ended_here_calls_back_too(client: redis.Redis, told: Told) -> None:
    begun(client, callback=CALLBACK)

    assert janitor(client, told, grace=0).sweep() == ["j"]

    assert told.notices == [("j", "transcribe.bulk")] and told.ends == [("j", MESSAGE_LOST)]
    fields = JobView(client, "j").fields()
    assert fields["callback"] == "due"
    due = Outbox(client, "j", ttl=TTL).take(1.0)
    assert isinstance(due, Due) and due.url == CALLBACK.url
    assert json.loads(due.body) == {
        "delivery_id": due.delivery,
        "job_id": "j",
        "state": "failed",
        "error_code": MESSAGE_LOST,
        "error": fields["error"],
        "ended_at": pytest.approx(float(fields["ended_at"]), abs=1e-3),
        "result": None,
        "metadata": {"name": "十 \0"},
    }


def test_one_that_is_not_ended_for_good_does_not(client: redis.Redis, told: Told) -> None:
    begun(client, callback=CALLBACK)
    assert janitor(client, told, grace=60).sweep() == [] and told.notices == []
    assert Outbox(client, "j", ttl=TTL).take(1.0) is None


def test_a_callback_whose_message_was_lost_gets_another(client: redis.Redis, told: Told) -> None:
    for job_id in ("a", "b"):
        ended(client, job_id)
    begun(client, "c", holder=True, callback=CALLBACK)
    assert janitor(client, told).sweep() == []
    assert sorted(told.notices) == [("a", "transcribe.bulk"), ("b", "transcribe.bulk")]


def test_but_only_after_some_time(client: redis.Redis, told: Told) -> None:
    ended(client)
    janitor(client, told, grace=60).sweep()
    assert told.notices == []
    client.hset(JobKeys("j").callback, "next_at", time.time() - 61)
    janitor(client, told, grace=60).sweep()
    assert told.notices == [("j", "transcribe.bulk")]


def test_nor_while_it_is_tried_or_waits_for_its_next_try(client: redis.Redis, told: Told) -> None:
    ended(client)
    box = Outbox(client, "j", ttl=TTL)
    box.take(10.0)
    janitor(client, told).sweep()
    box.postponed(50.0, "It hung up.")
    janitor(client, told).sweep()
    assert told.notices == []


@pytest.mark.parametrize("taken", [False, True], ids=["in the queue", "in a worker"])
def test_one_whose_message_is_there_gets_no_other(client: redis.Redis, told: Told, app: Celery, taken: bool) -> None:
    ended(client)
    app.send_task("tasks.notify", args=["j"], task_id=notice_id("j"), queue="transcribe")
    if taken:
        raw: Any = client.rpop("transcribe")
        client.hset(UNACKED, "tag", json.dumps([json.loads(raw), "transcribe", "transcribe"]))
    janitor(client, told).sweep()
    assert told.notices == []


def test_what_was_delivered_or_given_up_needs_none(client: redis.Redis, told: Told) -> None:
    for job_id in ("a", "b"):
        ended(client, job_id)
        box = Outbox(client, job_id, ttl=TTL)
        box.take(1.0)
        box.delivered() if job_id == "a" else box.given_up("It said 404.")
    janitor(client, told).sweep()
    assert told.notices == []
