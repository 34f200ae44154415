"""A job's end is told to the address that it named: once, signed, and whatever happens on the way."""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.stack import free_port
from tests.integration.test_privacy import capture
from tests.receivers import SECRET, Receiver, hangs_up, slow, status
from tests.sites import CONCURRENCY, Launch

Site = Any
Counter = Callable[[float], Path]
Receive = Callable[..., Receiver]
Eventually = Callable[..., None]

TOKEN = "token-4711"
SETTINGS = {
    "STENOPOOL_AUDIO_ALLOW_PRIVATE": "true",
    "STENOPOOL_CALLBACK_SECRET": SECRET,
    "STENOPOOL_CALLBACK_TIMEOUT": "0.5",
    "STENOPOOL_CALLBACK_BACKOFF": "0.2",
    "STENOPOOL_CALLBACK_BACKOFF_MAX": "2",
}
UNREADY = Launch(wait=False)


@pytest.fixture
def calling(sites: Callable[..., Site]) -> Site:
    """A worker that calls back."""
    return sites("threads", **SETTINGS)


def callback(site: Site, job_id: str) -> str:
    """What has become of a job's callback."""
    return str(site.record(job_id).get("callback"))


def messages(site: Site) -> int:
    """Those in the queues, and those that the worker has."""
    return int(sum(map(site.redis.llen, ("transcribe", "celery"))) + site.redis.hlen("unacked"))


def test_a_receiver_that_fails_five_times_gets_it_once_in_the_end(
    calling: Site, receive: Receive, counter: Counter, eventually: Eventually
) -> None:
    receiver = receive(hangs_up, 500, status(429, Retry_After="1"), 408, slow(1.5), 200)

    result = calling.transcribe(
        counter(1).as_uri(), pace=0, callback_url=f"{receiver.url}/told?t={TOKEN}", metadata={"case": "十"}
    )

    job_id = result["job_id"]
    eventually(lambda: callback(calling, job_id) == "delivered", "the callback is delivered")
    eventually(lambda: messages(calling) == 0, "no message is left")
    assert len(receiver.calls) == 6
    assert all(call.is_signed for call in receiver.calls)
    assert len({(call.path, call.body, call.headers["X-Stenopool-Delivery"]) for call in receiver.calls}) == 1
    told = receiver.calls[-1].told
    assert told["delivery_id"] == receiver.calls[-1].headers["X-Stenopool-Delivery"]
    assert (told["state"], told["result"], told["metadata"]) == ("succeeded", result, {"case": "十"})
    assert receiver.calls[3].at - receiver.calls[2].at >= 1  # it had asked for that
    assert calling.client.AsyncResult(job_id).children == []  # the message that delivers is no part of the result


def test_an_end_of_any_kind_is_told(calling: Site, receive: Receive, counter: Counter, eventually: Eventually) -> None:
    receiver = receive()
    bad = calling.send("file:///nowhere.wav", callback_url=receiver.url, metadata={"n": 1})
    wrong = calling.send("file:///nowhere.wav", callback_url=receiver.url, metadata={"n": 2}, modle="x")
    long = calling.send(counter(20).as_uri(), callback_url=receiver.url, metadata={"n": 3})
    eventually(lambda: calling.record(long.id).get("state") == "running", "the long job runs")
    calling.redis.set(f"stenopool:job:{{{long.id}}}:cancel", "1", ex=60)

    eventually(lambda: len(receiver.calls) == 3, "three ends are told")
    told = {call.told["metadata"]["n"]: call.told for call in receiver.calls}
    assert [told[n]["job_id"] for n in (1, 2, 3)] == [bad.id, wrong.id, long.id]
    assert [(told[n]["state"], told[n]["error_code"]) for n in (1, 2, 3)] == [
        ("failed", "forbidden_path"),
        ("failed", "bad_request"),
        ("cancelled", None),
    ]
    assert all(call.is_signed and call.told["result"] is None for call in receiver.calls)


def test_a_receiver_that_refuses_is_asked_once_and_its_address_is_seen_nowhere(
    calling: Site, receive: Receive, counter: Counter, eventually: Eventually
) -> None:
    metadata = status(302, Location="http://169.254.169.254/latest/meta-data/")
    receivers = receive(404), receive(metadata), receive(500, 200)
    events: list[dict[str, Any]] = []
    ready, done = threading.Event(), threading.Event()
    watcher = threading.Thread(target=capture, args=(calling, events, ready, done))
    watcher.start()
    assert ready.wait(10)

    jobs = [calling.send(counter(0.1).as_uri(), pace=0, callback_url=f"{one.url}/{TOKEN}?{TOKEN}") for one in receivers]
    wanted = ["given_up", "given_up", "delivered"]
    eventually(lambda: [callback(calling, job.id) for job in jobs] == wanted, "what becomes of three callbacks")
    calling.failure("file:///nowhere.wav")
    done.set()
    watcher.join(20)
    eventually(lambda: messages(calling) == 0, "no message is left")

    assert [len(one.calls) for one in receivers] == [1, 1, 2]
    records = [calling.record(job.id) for job in jobs]
    assert [record.get("callback_error") for record in records] == [
        "Its receiver answered with status 404.",
        "Its receiver redirects (status 302), which is not followed; name the end.",
        None,
    ]
    told = json.dumps(events)
    assert "tasks.notify" in told and all(job.id in told for job in jobs)
    for place in (told, json.dumps(records), calling.worker.output, stored(calling)):
        assert TOKEN not in place


def stored(site: Site) -> str:
    """All that is left in Redis of messages and results."""
    values = [site.redis.get(key) for key in site.redis.scan_iter("celery-task-meta-*")]
    return b"".join(value for value in values if value).decode()


def test_a_worker_that_dies_before_it_is_delivered_leaves_it_to_the_next(
    alone: Callable[..., Site], receive: Receive, counter: Counter, eventually: Eventually
) -> None:
    """The receiver is down when the job ends, and so is soon the worker."""
    site = alone("threads", **SETTINGS | {"STENOPOOL_VISIBILITY_TIMEOUT": "5", "STENOPOOL_CALLBACK_BACKOFF": "1"})
    port = free_port()
    job = site.send(counter(0.1).as_uri(), pace=0, callback_url=f"http://127.0.0.1:{port}/", metadata={"n": 1})
    eventually(lambda: site.record(job.id).get("callback_error"), "a first try has failed")
    os.killpg(site.worker.pid, signal.SIGKILL)
    site.worker.stop(timeout=0.0)
    assert callback(site, job.id) == "due"

    receiver = receive(port=port)
    site.worker = site.stack.start_worker("threads", CONCURRENCY, f"{site.worker.name}b", **site.env)

    eventually(lambda: callback(site, job.id) == "delivered", "the next worker delivers it")
    (call,) = receiver.calls
    assert call.is_signed and (call.told["job_id"], call.told["metadata"]) == (job.id, {"n": 1})


def test_every_execution_pool_calls_back(
    alone: Callable[..., Site], receive: Receive, counter: Counter, eventually: Eventually
) -> None:
    made = [(alone(pool, None, UNREADY, **SETTINGS), receive(500, 200)) for pool in ("prefork", "gevent", "solo")]
    recording = counter(0.1).as_uri()
    jobs = [site.send(recording, pace=0, callback_url=receiver.url) for site, receiver in made]
    for (site, receiver), job in zip(made, jobs, strict=True):
        assert job.get(timeout=60)["text"]
        eventually(lambda site=site, job=job: callback(site, job.id) == "delivered", site.pool)
        assert len(receiver.calls) == 2 and all(call.is_signed for call in receiver.calls)
    assert all("Traceback" not in site.worker.output for site, _ in made)
