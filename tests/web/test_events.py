"""A job's events on their way to a browser, over a real Valkey; what a worker would write there, the tests write."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from emulator.stack import Process, answers, free_port
from tests.web.serving import SENTENCE, Web, Worker


def test_events_come_as_they_happen_under_their_ids(web: Web, client: redis.Redis) -> None:
    job_id = web.send()
    worker = Worker(client, job_id)
    events = web.follow(job_id)
    assert events.answer.headers["content-type"].startswith("text/event-stream")
    assert json.loads(events.next()["data"])["state"] == "queued"

    worker.runs(progress_ms=100)
    partial = worker.tell("partial", SENTENCE | {"text": "Hel"})
    told = [event for event in events.until("partial") if event["event"] != "job"]
    assert [(event["event"], event["id"]) for event in told] == [("partial", partial)]
    assert json.loads(told[0]["data"])["text"] == "Hel"

    worker.says("Hello.")
    worker.succeeds()
    kinds = [event["event"] for event in events.rest()]
    assert [kind for kind in kinds if kind != "job"] == ["final", "state"]
    assert kinds[-1] == "job"
    events.close()


@pytest.mark.parametrize("by_header", [True, False])
def test_who_comes_back_gets_what_was_missed_and_nothing_twice(web: Web, client: redis.Redis, by_header: bool) -> None:
    job_id = web.send()
    worker = Worker(client, job_id)
    worker.runs()
    _, seen, _ = [worker.says(text) for text in ("One.", "Two.", "Three.")]
    worker.succeeds()

    events = web.follow(job_id, Last_Event_ID=seen) if by_header else web.follow(job_id, f"?after={seen}")
    told = events.rest()
    events.close()

    assert [json.loads(event["data"])["text"] for event in told if event["event"] == "final"] == ["Three."]
    assert json.loads(told[-1]["data"])["state"] == "succeeded"


def test_who_follows_from_the_snapshot_misses_nothing(web: Web, client: redis.Redis) -> None:
    job_id = web.send()
    worker = Worker(client, job_id)
    worker.runs()
    worker.says("One.")
    job = web.get(f"/api/jobs/{job_id}").json
    worker.says("Two.")
    worker.succeeds()

    events = web.follow(job_id, f"?after={job['last']}")
    finals = [json.loads(event["data"])["text"] for event in events.rest() if event["event"] == "final"]
    events.close()

    assert [one["text"] for one in job["sentences"]] + finals == ["One.", "Two."]


def test_more_events_than_one_answer_holds_all_come(web: Web, client: redis.Redis) -> None:
    job_id = web.send()
    worker = Worker(client, job_id)
    for number in range(450):
        worker.says(str(number))
    worker.succeeds()
    events = web.follow(job_id)
    finals = [json.loads(event["data"])["text"] for event in events.rest() if event["event"] == "final"]
    events.close()
    assert finals == [str(number) for number in range(450)]


def test_a_silent_job_is_kept_alive_by_comments(start: Callable[..., Web], client: redis.Redis) -> None:
    web = start(heartbeat=0.0)
    job_id = web.send()
    events = web.follow(job_id)
    assert events.comment() == "still here"
    Worker(client, job_id).succeeds()
    assert json.loads(events.rest()[-1]["data"])["state"] == "succeeded"
    events.close()


@pytest.mark.parametrize("after", ["$", "1-2-3", "x", "9" * 21])
def test_an_id_that_is_none_is_refused(web: Web, after: str) -> None:
    assert web.get(f"/api/jobs/{web.send()}/events", Last_Event_ID=after).status == 400


def test_a_browser_that_leaves_is_noticed(
    start: Callable[..., Web], client: redis.Redis, eventually: Callable[..., None]
) -> None:
    web = start(most_watchers=1)
    job_id = web.send()
    events = web.follow(job_id)
    events.next()
    assert web.get(f"/api/jobs/{job_id}/events").status == 503
    before = len(client.client_list())

    events.close()

    def has_room() -> bool:
        again = web.follow(job_id)
        free = again.answer.status == 200
        again.close()
        return free

    eventually(has_room, "there is room for another")
    eventually(lambda: len(client.client_list()) <= before, "its connection to Redis is given back")


def test_a_redis_that_goes_away_ends_the_events_so_that_the_browser_comes_back(
    start: Callable[..., Web], tmp_path: Path
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "emulator.valkey", "--port", str(port)]
    server = Process("own-valkey", command, dict(os.environ), tmp_path).wait_until(lambda _: answers(port))
    try:
        web = start(redis_url=f"redis://127.0.0.1:{port}/0")
        job_id = web.send()
        events = web.follow(job_id)
        assert events.next()["event"] == "job"
    finally:
        server.stop()
    assert events.rest() == []
    events.close()
    assert web.get(f"/api/jobs/{job_id}/events").status == 503
