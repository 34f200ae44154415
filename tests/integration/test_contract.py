"""What a web app gets that knows nothing but Celery, under each execution pool."""

import json
from array import array
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.sites import kept

Site = Any
Counter = Callable[[float], Path]


def test_a_bare_celery_client_gets_the_result_of_the_interface(site: Site, counter: Counter, marker: str) -> None:
    recording = counter(2.5)

    result = site.transcribe(recording.as_uri(), pace=0, parameters={"marker": marker}, metadata={"call": 7})

    job_id = result.pop("job_id")
    timing = result.pop("timing")
    sentences = result.pop("sentences")
    assert result == {
        "audio": recording.as_uri(),
        "model": "paraformer-realtime-v2",
        "duration_ms": 2500,
        "text": "0-15999 16000-31999 32000-39999",
        "captions": {},
        "usage": {"audio_ms": 2500, "sent_ms": 2500, "streams": 1},
        "attempts": 1,
        "resumes": 0,
        "metadata": {"call": 7},
    }
    assert [(one["begin_time"], one["end_time"], one["channel"]) for one in sentences] == [
        (0, 1000, 0),
        (1000, 2000, 0),
        (2000, 2500, 0),
    ]
    assert sentences[0]["words"][0] == {"begin_time": 0, "end_time": 500, "text": "0", "punctuation": ""}
    assert set(timing) == {"queued_ms", "borrow_ms", "first_result_ms", "wall_ms", "reused_connection"}
    assert timing["wall_ms"] >= timing["first_result_ms"] >= 0
    record = site.record(job_id)
    assert (record["state"], record["progress_ms"], record["duration_ms"]) == ("succeeded", "2500", "2500")
    assert json.loads(record["result"])["text"] == result["text"]


def test_a_recording_arrives_complete_once_in_order_and_in_real_time(site: Site, counter: Counter, marker: str) -> None:
    site.transcribe(counter(3.05).as_uri(), parameters={"marker": marker})

    (task,) = site.tasks(marker)
    assert task["counter_ok"] and (task["audio_bytes"], task["first_sample"], task["last_sample"]) == (
        97_600,
        0,
        48_799,
    )
    times, sizes = zip(*task["chunks"], strict=True)
    assert sizes == (3200,) * 30 + (1600,)
    assert 0.09 <= median(late - early for early, late in zip(times, times[1:], strict=False)) <= 0.11


def test_at_pace_0_a_recording_arrives_as_fast_as_it_is_taken(site: Site, counter: Counter, marker: str) -> None:
    site.transcribe(counter(60).as_uri(), pace=0, parameters={"marker": marker})

    (task,) = site.tasks(marker)
    assert task["counter_ok"] and task["audio_bytes"] == 60 * 32_000
    assert task["chunks"][-1][0] - task["chunks"][0][0] < 30


def test_jobs_share_the_connections_of_their_pool(site: Site, counter: Counter, marker: str) -> None:
    jobs = [site.send(counter(0.5).as_uri(), pace=0, parameters={"marker": marker}) for _ in range(8)]
    results = [job.get(timeout=30) for job in jobs]

    assert len({result["job_id"] for result in results}) == 8
    tasks = site.tasks(marker)
    assert len(tasks) == 8
    assert len({task["connection"] for task in tasks}) <= kept(site.pool)
    assert any(result["timing"]["reused_connection"] for result in results)


@pytest.mark.parametrize("queue", ["celery", "transcribe"])
def test_a_job_is_done_once_whichever_queue_it_was_sent_to(
    site: Site, counter: Counter, marker: str, queue: str, eventually: Callable[..., None]
) -> None:
    options = {"pace": 0, "parameters": {"marker": marker}}
    site.client.send_task("tasks.transcribe", args=[counter(1).as_uri()], kwargs=options, queue=queue).get(timeout=30)

    eventually(lambda: not site.redis.exists("celery", "transcribe", "unacked"), "the queues are empty")
    assert len(site.tasks(marker)) == 1


def test_a_silent_recording_is_a_success_without_sentences(site: Site, wav: Callable[..., Path]) -> None:
    result = site.transcribe(wav(array("h", bytes(2 * 16_000 * 2))).as_uri(), pace=0)

    assert (result["sentences"], result["text"], result["duration_ms"]) == ([], "", 2000)


def test_who_follows_a_job_reads_its_events_from_the_first(site: Site, counter: Counter) -> None:
    result = site.transcribe(counter(2).as_uri(), pace=0, live=True)

    key = f"stenopool:job:{{{result['job_id']}}}"
    events = [(entry[b"type"].decode(), json.loads(entry[b"data"])) for _, entry in site.redis.xrange(f"{key}:events")]
    assert [kind for kind, _ in events] == ["state", "partial", "final", "partial", "final", "state"]
    assert [data["text"] for kind, data in events if kind == "final"] == ["0-15999", "16000-31999"]
    assert events[-1][1] == {"state": "succeeded"}
    assert [json.loads(one)["text"] for one in site.redis.lrange(f"{key}:sentences", 0, -1)] == [
        "0-15999",
        "16000-31999",
    ]
    assert all(0 < site.redis.ttl(name) <= 86_400 for name in site.redis.keys(f"{key}*"))


def test_a_worker_tests_itself(site: Site) -> None:
    found = site.client.send_task("tasks.diagnose").get(timeout=30)

    assert site.pool in found["worker"]
    assert found["recognition_ms"] > 0 and found["pool"]["leased"] == 0


def test_a_worker_keeps_as_many_recognisers_warm_as_it_runs_jobs_and_a_spare(
    site: Site, eventually: Callable[..., None]
) -> None:
    eventually(lambda: site.is_warm(kept(site.pool)), "a warm pool")
