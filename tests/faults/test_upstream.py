"""What the service can do to a stream, and what becomes of the job: tried again or said, never lost, never dirty."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Site = Any
Counter = Callable[[float], Path]

# A fault that passes, after a sentence has come: the same attempt goes on from there, over another connection.
PASSING: dict[str, dict[str, Any]] = {
    "the task fails in mid-stream": {"kind": "task_failed", "value": "InternalError", "after_ms": 1500},
    "the connection is closed in mid-stream": {"kind": "close", "value": 1011, "after_ms": 1500},
    "the connection is cut in mid-stream": {"kind": "abort", "after_ms": 1500},
    "a frame is cut in half": {"kind": "truncated_frame", "after_ms": 1500},
    "a message is not JSON": {"kind": "garbage", "after_ms": 1500},
    "a message is binary": {"kind": "binary", "after_ms": 1500},
    "the service falls silent": {"kind": "silent", "after_ms": 1500},
}

# A fault that passes, before a sentence has come: the job is tried again, and whether that is counted.
BEFORE_A_SENTENCE: dict[str, tuple[dict[str, Any], int]] = {
    "the task fails for throttling": ({"kind": "task_failed", "value": "Throttling.RateQuota"}, 1),
    "the task fails for a fault of the service": ({"kind": "task_failed", "value": "InternalError"}, 2),
    "the connection is cut after half a second": ({"kind": "abort", "after_ms": 500}, 1),
}

# A fault that shows before any audio was sent: the same attempt goes on, on another connection.
EARLY: dict[str, dict[str, Any]] = {
    "the task never starts": {"kind": "no_task_started"},
    "the connection is closed at once": {"kind": "close", "value": 1011},
    "the connection is cut at once": {"kind": "abort"},
}


@pytest.fixture
def site(sites: Callable[..., Site]) -> Site:
    """A worker that waits and backs off only briefly."""
    return sites(
        "threads",
        STENOPOOL_JOB_BACKOFF="0.1",
        STENOPOOL_STARTED_TIMEOUT="1",
        DASHSCOPE_READ_TIMEOUT="1",
    )


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_costs_a_connection_and_what_was_said_of_a_sentence(
    site: Site, counter: Counter, marker: str, name: str
) -> None:
    site.fault(**PASSING[name])

    # A little faster than speech: the sentence before the fault has come when the fault does.
    result = site.transcribe(counter(3).as_uri(), pace=4, parameters={"marker": marker})

    assert (result["text"], result["attempts"], result["resumes"]) == ("0-15999 16000-31999 32000-47999", 1, 1)
    broken, good = site.tasks(marker)
    assert broken["connection"] != good["connection"]
    assert (good["outcome"], good["counter_ok"], good["audio_bytes"]) == ("finished", True, 64_000)
    assert len(site.redis.lrange(f"stenopool:job:{{{result['job_id']}}}:sentences", 0, -1)) == 3


@pytest.mark.parametrize("name", BEFORE_A_SENTENCE)
def test_a_fault_that_passes_before_a_sentence_costs_an_attempt_if_it_may_be_the_job_s(
    site: Site, counter: Counter, marker: str, name: str
) -> None:
    fault, attempts = BEFORE_A_SENTENCE[name]
    site.fault(**fault)

    result = site.transcribe(counter(2).as_uri(), pace=4, parameters={"marker": marker})

    assert (result["text"], result["attempts"], result["resumes"]) == ("0-15999 16000-31999", attempts, 0)
    broken, good = site.tasks(marker)
    assert broken["connection"] != good["connection"]
    assert (good["outcome"], good["counter_ok"], good["audio_bytes"]) == ("finished", True, 64_000)


def test_a_task_that_never_finishes_costs_a_connection_and_no_audio(site: Site, counter: Counter, marker: str) -> None:
    site.fault(kind="no_task_finished", at="finish")

    result = site.transcribe(counter(3).as_uri(), pace=0, parameters={"marker": marker})

    assert (result["text"], result["attempts"]) == ("0-15999 16000-31999 32000-47999", 1)
    assert sum(task["audio_bytes"] for task in site.tasks(marker)) == 96_000


@pytest.mark.parametrize("name", EARLY)
def test_a_fault_before_any_audio_costs_a_connection_and_no_attempt(
    site: Site, counter: Counter, marker: str, name: str
) -> None:
    site.fault(**EARLY[name])

    result = site.transcribe(counter(2).as_uri(), pace=0, parameters={"marker": marker})

    assert (result["text"], result["attempts"]) == ("0-15999 16000-31999", 1)
    broken, good = site.tasks(marker)
    assert broken["connection"] != good["connection"]
    assert (broken["outcome"], broken["audio_bytes"], good["audio_bytes"]) == ("lost", 0, 64_000)


@pytest.mark.parametrize(("cuts", "attempts"), [(2, 1), (4, 2)])
def test_the_first_cut_of_an_attempt_is_forgiven_and_not_the_second(
    site: Site, counter: Counter, marker: str, cuts: int, attempts: int
) -> None:
    # A recogniser that proves dead before it took any audio is exchanged: so each stream takes two of them.
    site.fault(kind="abort", times=cuts)

    result = site.transcribe(counter(1).as_uri(), pace=0, parameters={"marker": marker})

    assert (result["text"], result["attempts"], len(site.tasks(marker))) == ("0-15999", attempts, cuts + 1)


def test_events_of_another_task_and_late_ones_reach_no_transcript(site: Site, counter: Counter, marker: str) -> None:
    site.fault(kind="foreign_task_id", after_ms=500)
    assert site.transcribe(counter(2).as_uri(), pace=0)["text"] == "0-15999 16000-31999"
    site.fault(kind="late_events")
    for _ in range(4):
        assert site.transcribe(counter(2).as_uri(), pace=0)["text"] == "0-15999 16000-31999"


def test_a_refusal_for_good_is_said_at_once(site: Site, counter: Counter, marker: str) -> None:
    site.fault(kind="task_failed", value="Arrearage", message="Your account is overdue.")

    code, sentence = site.failure(counter(1).as_uri(), parameters={"marker": marker})

    assert code == "account_blocked" and "overdue" in sentence
    assert len(site.tasks(marker)) == 1


def test_a_fault_that_stays_ends_the_job_after_its_tries(
    sites: Callable[..., Site], counter: Counter, marker: str
) -> None:
    site = sites("threads", STENOPOOL_JOB_BACKOFF="0.1", STENOPOOL_JOB_RETRIES="2")
    site.fault(kind="task_failed", value="InternalError", times=3)

    code, _ = site.failure(counter(1).as_uri(), pace=0, parameters={"marker": marker})

    assert code == "server_fault"
    assert len(site.tasks(marker)) == 3


def test_a_service_that_refuses_connections_for_a_while_costs_no_job(
    site: Site, counter: Counter, eventually: Callable[..., None]
) -> None:
    before = site.logbook()["summary"]["rejected"].get("503", 0)
    site.fault(kind="http_status", value=503, times=3)
    site.fault(kind="close_idle")

    results = [job.get(timeout=30) for job in [site.send(counter(1).as_uri(), pace=0) for _ in range(6)]]

    assert [result["text"] for result in results] == ["0-15999"] * 6
    eventually(lambda: site.logbook()["summary"]["rejected"].get("503", 0) >= before + 3, "three refusals were met")


def test_the_service_never_calls_our_commands_out_of_order(site: Site, counter: Counter) -> None:
    for number in range(6):
        site.fault(kind=("abort", "task_failed", "garbage")[number % 3], after_ms=500)
        site.transcribe(counter(1).as_uri(), pace=0)

    assert [error for error in site.logbook()["summary"]["errors"] if "Invalid action" in error] == []
