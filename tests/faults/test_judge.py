"""The judge finds what is wrong: each test takes a job of which all is well and spoils one thing."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.judge import Evidence, judge, told
from tests.faults.table import BEGIN, END, filled, summed

Sentences = list[dict[str, Any]]
Spoil = Callable[[Sentences], Sentences]


def sentences(seconds: float = 3) -> Sentences:
    return [{"begin_time": begin, "end_time": end, "text": text} for begin, end, text in told(seconds)]


def stream(began: float = 100.0, ended: float | None = 103.0, seconds: float = 3, **changes: Any) -> dict[str, Any]:
    task = {"task_id": f"t{began:g}", "began": began, "ended": ended, "outcome": "finished"}
    chunks = [(began + number / 10, 3200) for number in range(round(10 * seconds))]
    return task | {"audio_bytes": round(32_000 * seconds), "chunks": chunks} | changes


def evidence(given: Sentences | None = None, **changes: Any) -> Evidence:
    """Of a job of three seconds that nothing happened to; all places hold the given sentences."""
    heard = sentences() if given is None else given
    result = {"sentences": heard, "text": " ".join(one["text"] for one in heard)}
    finals = [(101.0 + number, "final", one) for number, one in enumerate(heard)]
    good: dict[str, Any] = {
        "job_id": "j",
        "seconds": 3,
        "celery": {"status": "SUCCESS", "result": result},
        "record": {"state": "succeeded", "result": json.dumps(result)},
        "sentences": heard,
        "events": [(100.0, "state", {"state": "running"}), *finals, (104.0, "state", {"state": "succeeded"})],
        "tasks": [stream()],
    }
    return Evidence(**good | changes)


def test_a_recording_is_told_second_by_second_and_the_counter_wraps() -> None:
    assert told(1.5) == [(0, 1000, "0-15999"), (1000, 1500, "16000-23999")]
    assert told(5)[4] == (4000, 5000, "64000-14463")


def test_a_job_of_which_all_is_well_has_nothing_against_it() -> None:
    verdict = judge(evidence())
    assert (verdict.lost, verdict.doubled) == ((), ())
    assert (verdict.again, verdict.streams, verdict.takeover) == (0.0, 0, None)


def shifted(heard: Sentences) -> Sentences:
    return [{**one, "begin_time": one["begin_time"] + 20, "end_time": one["end_time"] + 20} for one in heard]


def stretched(heard: Sentences) -> Sentences:
    return [{**heard[0], "end_time": 1500}, *heard[1:]]


# What is done to the sentences, everywhere alike, and whether the job is lost, doubled.
SPOILT: dict[str, tuple[Spoil, bool, bool]] = {
    "the first is missing": (lambda heard: heard[1:], True, False),
    "one is missing": (lambda heard: heard[:1] + heard[2:], True, False),
    "the last is missing": (lambda heard: heard[:-1], True, False),
    "all are missing": (lambda heard: [], True, False),
    "one comes twice": (lambda heard: heard[:2] + heard[1:], True, True),
    "the last comes twice": (lambda heard: heard + heard[-1:], True, True),
    "all are shifted": (shifted, True, False),
    "two are exchanged": (lambda heard: [heard[1], heard[0], heard[2]], True, False),
    "two overlap": (stretched, True, True),
    "one is of elsewhere": (lambda heard: [*heard[:2], {**heard[2], "text": "32000-47998"}], True, False),
}


@pytest.mark.parametrize("name", SPOILT)
def test_sentences_that_are_not_exact_are_found(name: str) -> None:
    spoil, lost, doubled = SPOILT[name]
    verdict = judge(evidence(spoil(sentences())))
    assert (bool(verdict.lost), bool(verdict.doubled)) == (lost, doubled), verdict


@pytest.mark.parametrize("where", ["sentences", "events", "celery"])
def test_a_sentence_twice_is_found_in_each_place_alone(where: str) -> None:
    twice = [*sentences(), sentences()[1]]
    verdict = judge(dataclasses.replace(evidence(), **{where: getattr(evidence(twice), where)}))
    assert len(verdict.doubled) >= 1 and "comes twice" in verdict.doubled[0]


@pytest.mark.parametrize("where", ["sentences", "events", "celery"])
def test_a_missing_sentence_is_found_in_each_place_alone(where: str) -> None:
    verdict = judge(dataclasses.replace(evidence(), **{where: getattr(evidence(sentences()[:2]), where)}))
    assert "(2000, 3000, '32000-47999') is missing" in verdict.lost[0]


def test_a_job_without_an_end_is_lost() -> None:
    verdict = judge(evidence(celery=None, record={"state": "running"}))
    assert verdict.lost[0].startswith("ended running instead of succeeded")
    assert judge(Evidence(job_id="j", seconds=3)).lost[0].startswith("ended missing")


def test_a_job_that_failed_is_lost_and_says_why() -> None:
    record = {"state": "failed", "error_code": "internal_error"}
    assert "internal_error" in judge(evidence(celery={"status": "FAILURE", "result": {}}, record=record)).lost[0]


def test_a_job_that_told_two_ends_is_doubled() -> None:
    events = [*evidence().events, (105.0, "state", {"state": "failed"})]
    assert judge(evidence(events=events)).doubled == ("told its end 2 times: succeeded, failed",)


def test_two_different_results_are_found_even_if_both_hold_the_transcript() -> None:
    good = evidence()
    other = json.dumps({**json.loads(good.record["result"]), "attempts": 2})
    verdict = judge(evidence(record={"state": "succeeded", "result": other}))
    assert verdict.lost == () and "two different results" in verdict.doubled[0]


def test_two_streams_at_once_are_found_and_one_that_never_ends() -> None:
    assert "took 1.9 s of audio after t101" in judge(evidence(tasks=[stream(), stream(101.0, 104.0)])).doubled[0]
    assert judge(evidence(tasks=[stream(), stream(102.8, 104.0)])).doubled == ()
    deaf = stream(ended=109.0, seconds=1.5)  # noticed late that its client had gone
    assert judge(evidence(tasks=[deaf, stream(101.6, 104.0, 2)])).doubled == ()
    assert judge(evidence(tasks=[stream(ended=None, outcome="running")])).doubled == ("stream t100 still runs",)


def test_a_job_that_has_to_end_otherwise_keeps_the_beginning() -> None:
    record = {"state": "cancelled"}
    cancelled: dict[str, Any] = {"expected": "cancelled", "record": record, "celery": {"status": "REVOKED"}}
    assert judge(evidence(sentences()[:1], **cancelled)).lost == ()
    assert "is missing" in judge(evidence(sentences()[1:], **cancelled)).lost[0]
    assert judge(evidence(**cancelled | {"celery": None})).lost == ("Celery knows no result",)
    assert judge(evidence(expected="cancelled")).lost[0].startswith("ended succeeded instead of cancelled")


def test_what_redis_has_forgotten_is_asked_of_the_events_no_more() -> None:
    late = evidence().events[2:]
    assert judge(evidence(events=late)).lost != ()
    assert judge(evidence(events=late, forgotten=True)).lost == ()
    assert judge(evidence(events=[*late[:1], *late[2:]], forgotten=True)).lost != ()


def test_what_was_streamed_again_is_what_came_beyond_the_recording() -> None:
    cut = stream(100.0, 101.5, 1.5, outcome="lost")
    verdict = judge(evidence(tasks=[cut, stream(102.0, 104.0, 2)]))
    assert (verdict.again, verdict.streams) == (0.5, 1)


def test_the_time_to_take_over_is_from_the_last_audio_to_the_next_sentence() -> None:
    cut = stream(100.0, 101.6, 1.5, outcome="lost")
    assert judge(evidence(tasks=[cut, stream(101.8, 104.0, 2)])).takeover == pytest.approx(102.0 - 101.4)
    assert judge(evidence(tasks=[stream()], hit_at=101.5)).takeover == pytest.approx(0.5)
    assert judge(evidence(hit_at=103.5)).takeover == pytest.approx(0.5), "the end is a sign of life, too"


def test_a_row_counts_jobs_and_names_what_is_wrong() -> None:
    row = summed("cut", "threads", [judge(evidence()), judge(evidence(sentences()[:2], tasks=[]))], ["died"])
    assert (row.jobs, row.lost, row.doubled, len(row.complaints)) == (2, 1, 0, 5)
    assert row.complaints[-1] == "died"
    assert row.line() == "| cut | threads | 2 | 1 | 0 | 0.0 |  |"


def test_the_page_around_the_table_stays() -> None:
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\nAfter.\n"
    row = summed("cut", "threads", [judge(evidence(hit_at=101.5))])
    once = filled(page, [row])
    assert once.startswith("# Title\n\n") and once.endswith("\n\nAfter.\n") and "old" not in once
    assert "| cut | threads | 1 | 0 | 0 | 0.0 | 0.5 |" in once
    assert filled(once, [row]) == once
