"""Text models from a client that knows nothing of ours, under real workers."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain

from emulator import BackgroundEmulator, Fault
from worker.generation import REQUESTS

Site = Any
Counter = Callable[[float], Path]

PARTS = 60
TEXT = " ".join(
    f"Sentence {number:03} of this long talk has, as all of them, just {'about' * 5} ten words."
    for number in range(PARTS)
)
SECRET = "what-did-alice-say"


def generation(site: Site) -> dict[str, int]:
    """What the emulator has counted of text models."""
    return {name: count for name, count in site.logbook()["summary"].items() if name.startswith("generation")}


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_long_text_is_asked_in_parts_at_the_same_time_over_connections_that_are_kept(
    sites: Callable[..., Site], pool: str
) -> None:
    site = sites(pool)
    site.fault(kind="generation_delay", value=20, times=PARTS)
    before = generation(site)

    result = site.client.send_task("tasks.generate", args=[TEXT], kwargs={"part_chars": 100}).get(timeout=30)

    asked = {name: count - before[name] for name, count in generation(site).items()}
    assert result["parts"] == result["requests"] == asked["generations"] == asked["generations_asked"] >= PARTS
    assert 1 < asked["generation_connections"] <= REQUESTS < PARTS
    said = [int(one.split("Sentence ")[1][:3]) for one in result["text"].split("You said ")[1:] if "Sentence" in one]
    assert said == sorted(said) and set(said) == set(range(PARTS))


def test_a_chain_from_recording_to_summary_shows_nobody_what_was_said(threads: Site, counter: Counter) -> None:
    with captured(threads) as events:
        steps = chain(
            threads.client.signature("tasks.transcribe", args=[counter(2).as_uri()], kwargs={"pace": 0}),
            threads.client.signature("tasks.generate", kwargs={"instruction": SECRET, "metadata": {"call": 7}}),
        )
        answer = steps.apply_async()
        result = answer.get(timeout=30)

    # The transcript is a line for each sentence.
    assert result["text"] == f"You said 3 words: {SECRET} 0-15999 16000-31999"
    assert (result["job_id"], result["parts"], result["metadata"]) == (answer.id, 1, {"call": 7})
    of_it = [event for event in events if event.get("uuid") == answer.id]
    assert [event["type"] for event in of_it] == ["task-sent", "task-received", "task-started", "task-succeeded"]
    assert of_it[0]["args"] == of_it[1]["args"] == "('…',)"
    for place in (json.dumps(events, ensure_ascii=False), threads.worker.output):
        assert SECRET not in place and "0-15999" not in place and "You said" not in place


def test_a_worker_that_is_stopped_while_a_model_thinks_leaves_the_job_to_others(
    alone: Callable[..., Site], service: Callable[..., BackgroundEmulator]
) -> None:
    emulator = service()
    emulator.faults.add(Fault(kind="generation_silent"))
    site = alone("threads", emulator, STENOPOOL_DRAIN_SECONDS="4")
    answer = site.client.send_task("tasks.generate", args=["one two three"])
    assert emulator.logbook.wait_until(lambda book: book.generations_open == 1, timeout=20)

    began = time.monotonic()
    site.worker.stop()

    assert time.monotonic() - began < 5
    assert site.redis.llen("celery") == 1
    assert answer.state == "STARTED"
    assert site.redis.hget(f"stenopool:job:{{{answer.id}}}:answers", "fruitless") == b"0"


@contextlib.contextmanager
def captured(site: Site) -> Iterator[list[dict[str, Any]]]:
    """Every event that workers send meanwhile, as Flower sees them."""
    events: list[dict[str, Any]] = []
    ready, done = threading.Event(), threading.Event()

    def capture() -> None:
        until = time.monotonic() + 60
        with site.client.connection_for_read() as connection:
            receiver = site.client.events.Receiver(connection, handlers={"*": events.append})
            with receiver.consumer_context() as (own, _, _):
                ready.set()
                while time.monotonic() < until and not (done.is_set() and told(events)):
                    with contextlib.suppress(TimeoutError):
                        own.drain_events(timeout=0.1)

    watcher = threading.Thread(target=capture)
    watcher.start()
    assert ready.wait(10)
    try:
        yield events
    finally:
        done.set()
        watcher.join(70)


def told(events: list[dict[str, Any]]) -> bool:
    """Whether both tasks' ends were told."""
    return [event["type"] for event in events].count("task-succeeded") == 2
