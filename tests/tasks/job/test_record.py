import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tasks.errors import JobError, Unavailable
from tasks.job.checkpoint import BATCH
from tasks.job.lease import GONE, OK
from tasks.job.pulse import RENEW
from tasks.job.record import MESSAGE_LOST, Claimed, JobRecord
from tasks.job.view import JobView
from tests.tasks.conftest import FickleRedis
from tests.tasks.job.conftest import KEYS, LEASE, TTL, Make, claimed, everything, held, lapse, over, said
from worker import beat
from worker.beat import Beat, impatient
from worker.stops import LeaseLost, Stop

RESULT = {"duration_ms": 2000, "text": "十 it"}

Write = Callable[[JobRecord], Any]

ENDS: dict[str, Write] = {
    "succeeded": lambda record: record.succeeded(RESULT),
    "failed": lambda record: record.failed("not_audio", "Give audio."),
    "cancelled": lambda record: record.cancelled(),
}

UNBEGUN: dict[str, Write] = {
    "uncounted": lambda record: record.waiting("throttled", "Later.", counted=False),
    "not_begun": lambda record: record.not_begun("default 7"),
}

LEFT: dict[str, Write] = {
    **ENDS,
    **UNBEGUN,
    "waiting": lambda record: record.waiting("throttled", "Later."),
    "handed_back": lambda record: record.handed_back(),
}


def went(record: JobRecord) -> None:
    """As one goes who has told that he waits for quota."""
    record._is_waiting = True
    record.goes()


QUIET: dict[str, Write] = {
    "partial": lambda record: record.partial({"text": "i"}),
    "final": lambda record: record.final(said(record.checkpoint.count)),
    "waits": lambda record: record.waits(),
    "goes": went,
}
"""Without Redis, these fail no job."""

WRITES: dict[str, Write] = {
    **LEFT,
    **QUIET,
    "note": lambda record: record.note(duration_ms=2000),
}


class FakeFigures:
    """A job that has not moved."""

    heard = streams = resumes = ms = sent_ms = 0
    is_streaming = False


def lives(client: redis.Redis) -> dict[str, int]:
    """Every key, and how long it lives."""
    names: Any = client.keys("*")
    return {name.decode(): int(str(client.ttl(name))) for name in names}


# -- a job's life ------------------------------------------------------------------------------------------------------


def test_a_job_s_life_can_be_read_late_and_from_the_first_event(make: Make, view: JobView) -> None:
    record = make()
    record.queued("https://h/a?")
    claim = claimed(record)
    record.note(duration_ms=2000)
    record.partial({"text": "i"})
    record.final(said(0))
    record.succeeded(RESULT)

    fields = view.fields()
    assert claim.queued_at is not None and claim.queued_at == float(fields["queued_at"]) > 1e9
    names = ("state", "audio", "worker", "attempts", "progress_ms", "duration_ms")
    assert [fields[name] for name in names] == ["succeeded", "https://h/a", "w@h", "1", "2000", "2000"]
    assert claim.queued_at <= float(fields["started_at"]) <= float(fields["ended_at"])
    assert json.loads(fields["result"]) == RESULT
    assert view.sentences() == [said(0)]
    assert view.events() == [
        ("state", {"state": "queued"}),
        ("state", {"state": "running", "attempt": 1}),
        ("partial", {"text": "i"}),
        ("final", said(0)),
        ("state", {"state": "succeeded"}),
    ]
    assert view.events() == []


def test_a_job_that_was_known_before_it_was_sent_is_not_told_of_again(make: Make, view: JobView) -> None:
    record = make()
    claimed(record)
    record.queued("https://h/a")
    assert view.fields()["state"] == "running" and view.events() == [("state", {"state": "running", "attempt": 1})]


def test_a_record_is_known_by_its_job(record: JobRecord) -> None:
    assert repr(record) == "<JobRecord j, <Checkpoint 0 sentences, unsaved 0>>"


def test_a_failed_job_says_why(record: JobRecord, view: JobView) -> None:
    record.failed("not_audio", "Give audio.")
    fields = view.fields()
    assert (fields["state"], fields["error_code"], fields["error"]) == ("failed", "not_audio", "Give audio.")
    assert float(fields["ended_at"]) > 0
    told = {"state": "failed", "error_code": "not_audio", "error": "Give audio."}
    assert view.events()[-1] == ("state", told)


def test_between_two_attempts_it_is_queued_and_says_why_the_first_failed(make: Make, view: JobView) -> None:
    record = make()
    record.queued("https://h/a")
    before = float(view.fields()["queued_at"])
    claimed(record)
    record.waiting("throttled", "Later.")
    fields = view.fields()
    assert (fields["state"], fields["error_code"], fields["error"]) == ("queued", "throttled", "Later.")
    assert float(fields["queued_at"]) > before and "ended_at" not in fields
    claimed(make())
    assert "error" not in view.fields() and "error_code" not in view.fields()


def test_one_that_is_handed_back_is_queued_without_an_error(record: JobRecord, view: JobView) -> None:
    record.handed_back()
    assert view.fields()["state"] == "queued" and "error" not in view.fields()
    assert view.events()[-1] == ("state", {"state": "queued"})


def test_an_unknown_job_has_no_fields(client: redis.Redis) -> None:
    view = JobView(client, "none")
    assert (view.fields(), view.sentences(), view.events()) == ({}, [], [])


def test_half_a_surrogate_pair_costs_a_character_and_not_the_job(record: JobRecord, view: JobView) -> None:
    record.final({"text": "so \ud83d", "end_time": 1})
    record.succeeded({"duration_ms": 1, "text": "so \ud83d"})
    assert view.sentences() == [{"text": "so ?", "end_time": 1}]
    assert json.loads(view.fields()["result"])["text"] == "so ?"


# -- who has it --------------------------------------------------------------------------------------------------------


def test_the_first_who_asks_has_the_job(make: Make, client: redis.Redis, view: JobView) -> None:
    record = make()
    claim = claimed(record)
    assert claim == Claimed(
        attempt=1,
        fruitless=1,
        kept=0,
        resumes=0,
        streams=0,
        sent_ms=0,
        duration_ms=None,
        started_at=claim.started_at,
        elapsed=claim.elapsed,
        queued_at=None,
        cancelled=False,
    )
    assert claim.elapsed < 1 and client.get(KEYS.lease) == record.lease.token.encode()
    assert 9_000 < int(str(client.pttl(KEYS.lease))) <= 10_000
    assert view.events() == [("state", {"state": "running", "attempt": 1})]


def test_a_second_delivery_learns_how_long_the_lease_lasts_and_changes_nothing(
    record: JobRecord, make: Make, client: redis.Redis
) -> None:
    client.pexpire(KEYS.lease, 5000)
    before = everything(client)
    assert 4 < held(make()).seconds <= 5
    assert everything(client) == before


def test_a_lease_without_an_end_is_asked_for_again_soon(record: JobRecord, make: Make, client: redis.Redis) -> None:
    client.persist(KEYS.lease)
    assert held(make()).seconds == 0


def test_after_the_lease_s_end_another_has_the_job(
    record: JobRecord, make: Make, client: redis.Redis, view: JobView
) -> None:
    lapse(client)
    claim = claimed(make())
    assert (claim.attempt, claim.fruitless) == (2, 2)
    assert view.events()[-1] == ("state", {"state": "running", "attempt": 2})
    with pytest.raises(LeaseLost):
        record.final(said(0))


def test_after_an_outage_of_redis_the_holder_has_the_time_of_a_lease_to_say_so(
    record: JobRecord, client: redis.Redis, view: JobView
) -> None:
    lapse(client)
    client.hset(KEYS.job, "seen_at", 1)  # which was before this Redis was started
    long = JobRecord(client, "j", ttl=TTL, lease=100_000)
    assert 0 < held(long).seconds <= 100_000
    assert view.fields()["attempts"] == "1"
    record.final(said(0))  # and he does
    assert view.sentences() == [said(0)]


def test_after_that_time_another_has_the_job(
    record: JobRecord, client: redis.Redis, eventually: Callable[..., None]
) -> None:
    lapse(client)
    client.hset(KEYS.job, "seen_at", 1)
    eventually(lambda: uptime(client) >= 1, "Redis has been there for longer than the lease")
    assert claimed(JobRecord(client, "j", ttl=TTL, lease=0.5)).attempt == 2


def uptime(client: redis.Redis) -> int:
    about: Any = client.info("server")
    return int(about["uptime_in_seconds"])


def figures_told(record: JobRecord) -> None:
    """As the heartbeat does it."""
    record.lease.call(RENEW, 0, 0, 0, 0).run(record._client)


@pytest.mark.parametrize("sign", [claimed, figures_told])
def test_when_the_holder_gave_his_last_sign_is_noted_by_the_clock_of_redis(
    record: JobRecord, client: redis.Redis, sign: Write
) -> None:
    client.hset(KEYS.job, "seen_at", 1)
    sign(record)
    now: Any = client.time()
    assert now[0] - 1 <= int(client.hget(KEYS.job, "seen_at") or 0) <= now[0]


def test_a_redis_that_refuses_for_good_ends_the_job_and_one_that_cannot_now_does_not(
    make: Make, client: redis.Redis
) -> None:
    client.set(KEYS.job, "no hash")
    with pytest.raises(JobError) as error:
        make().claim("a", "w")
    assert (error.value.code, error.value.retryable) == ("redis_refused", False)
    client.delete(KEYS.job)
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable):
            make().claim("a", "w")
    finally:
        client.config_set("maxmemory", 0)


def test_who_still_writes_to_a_job_that_somebody_has_ended_learns_it(
    record: JobRecord, client: redis.Redis, view: JobView
) -> None:
    client.hset(KEYS.job, "state", "failed")
    lapse(client)
    with pytest.raises(LeaseLost):
        record.final(said(0))
    assert view.sentences() == [] and not client.exists(KEYS.lease)


def test_a_claim_that_was_sent_twice_counts_once(fickle: FickleRedis, make: Make, view: JobView) -> None:
    record = make(fickle)
    claimed(record)
    record.waiting("throttled", "Later.")
    again = make(fickle)
    fickle.deaf = 1
    with pytest.raises(Unavailable):
        again.claim("https://h/a", "w@h")
    claim = claimed(again)
    assert (claim.attempt, claim.fruitless) == (2, 2)
    assert [data for _, data in view.events() if data["state"] == "running"] == [
        {"state": "running", "attempt": 1},
        {"state": "running", "attempt": 2},
    ]


@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_has_ended_gives_its_end_and_changes_nothing(
    record: JobRecord, make: Make, client: redis.Redis, end: str
) -> None:
    record.final(said(0))
    ENDS[end](record)
    before = everything(client)
    found = over(make())
    assert found.state == end and everything(client) == before
    assert found.result == (RESULT if end == "succeeded" else None)
    assert (found.error_code, found.error) == (("not_audio", "Give audio.") if end == "failed" else ("", ""))


def test_a_job_that_nobody_was_left_to_end_is_begun_again_when_it_is_sent_again(
    record: JobRecord, make: Make, view: JobView
) -> None:
    record.final(said(0))
    record.failed(MESSAGE_LOST, "Send it again.")
    claim = claimed(make())
    assert (claim.attempt, claim.kept) == (2, 1)
    fields = view.fields()
    assert fields["state"] == "running" and not {"error", "error_code", "ended_at"} & set(fields)


def test_a_cancelled_job_says_so_to_who_takes_it_and_the_wish_lives_on_until_then(
    make: Make, client: redis.Redis
) -> None:
    record = make()
    client.set(KEYS.cancel, "1", ex=5)
    assert claimed(record).cancelled
    assert int(str(client.ttl(KEYS.cancel))) > 90


@pytest.mark.parametrize("left", LEFT)
def test_the_wish_to_cancel_goes_with_the_job_s_end(record: JobRecord, client: redis.Redis, left: str) -> None:
    client.set(KEYS.cancel, "1", ex=5)
    LEFT[left](record)
    assert client.exists(KEYS.cancel) == (left not in ENDS)


def test_a_reference_that_cannot_be_read_leaves_what_was_said_of_it_before(make: Make, view: JobView) -> None:
    record = make()
    record.queued("https://h/a")
    record.claim("", "w@h")
    assert view.fields()["audio"] == "https://h/a"


# -- in vain or not ----------------------------------------------------------------------------------------------------


def test_tries_are_counted_until_a_new_sentence_comes(make: Make, client: redis.Redis) -> None:
    for number in (1, 2, 3):
        record = make()
        claim = claimed(record)
        assert (claim.attempt, claim.fruitless) == (number, number)
        if number == 2:
            record.waiting("throttled", "Later.")
        else:
            lapse(client)  # the worker was lost
    record = make()
    assert claimed(record).fruitless == 4
    record.final(said(0))
    record.waiting("throttled", "Later.")
    claim = claimed(make())
    assert (claim.attempt, claim.fruitless) == (5, 1)


def test_a_try_that_is_handed_back_is_not_counted(make: Make) -> None:
    for number in (1, 2, 3):
        record = make()
        claim = claimed(record)
        assert (claim.attempt, claim.fruitless) == (number, 1)
        record.handed_back()


def test_one_that_is_handed_back_after_a_new_sentence_gives_no_try_for_nothing(make: Make) -> None:
    record = make()
    claimed(record)
    record.final(said(0))
    record.handed_back()
    assert claimed(make()).fruitless == 1


# -- waiting for quota -------------------------------------------------------------------------------------------------


def told(view: JobView) -> list[str]:
    """The states of which those who follow the job have not been told yet."""
    return [data["state"] for _, data in view.events()]


def test_that_a_job_waits_for_quota_and_that_it_goes_is_told_once(record: JobRecord, view: JobView) -> None:
    for _ in range(3):
        record.waits()
    fields = view.fields()
    assert fields["state"] == "running" and abs(float(fields["waiting_since"]) - time.time()) < 5
    for _ in range(3):
        record.goes()
    assert told(view) == ["running", "waiting for quota", "running"]
    assert not {"waiting_since", "place"} & set(view.fields())


def test_who_did_not_wait_tells_nothing_when_he_goes_and_asks_nothing_of_redis(
    record: JobRecord, client: redis.Redis, view: JobView
) -> None:
    before = reads(client)
    record.goes()
    assert reads(client) - before == 1 and told(view) == ["running"]


def test_who_waited_later_on_tells_it_again(record: JobRecord, view: JobView) -> None:
    for _ in range(2):
        record.waits()
        record.goes()
    assert told(view) == ["running"] + ["waiting for quota", "running"] * 2


def test_one_that_was_not_begun_is_queued_and_keeps_its_place(
    record: JobRecord, make: Make, client: redis.Redis, view: JobView
) -> None:
    record.not_begun("default 17.25")
    fields = view.fields()
    assert (fields["state"], fields["place"]) == ("queued", "default 17.25")
    assert float(fields["queued_at"]) > 1e9 and not {"error", "error_code", "ended_at"} & set(fields)
    assert told(view) == ["running", "waiting for quota"] and not client.exists(KEYS.lease)
    claim = claimed(make())
    assert (claim.is_waiting, claim.place) == (True, "default 17.25")


def test_that_it_waits_is_told_once_over_all_its_attempts(make: Make, view: JobView) -> None:
    for number in range(3):
        record = make()
        claim = claimed(record)
        assert (claim.is_waiting, claim.place) == (number > 0, f"default {number - 1}" if number else "")
        record.waits()
        record.not_begun(f"default {number}")
    record = make()
    claimed(record)
    assert view.fields()["state"] == "running" and told(view) == ["running", "waiting for quota"]
    record.goes()
    assert told(view) == ["running"] and not {"waiting_since", "place"} & set(view.fields())
    record.handed_back()
    claim = claimed(make())
    assert (claim.is_waiting, claim.place) == (False, "") and told(view) == ["queued", "running"]


@pytest.mark.parametrize("left", UNBEGUN)
def test_a_try_that_was_none_counts_for_nothing(make: Make, view: JobView, left: str) -> None:
    for _ in range(3):
        record = make()
        claim = claimed(record)
        assert (claim.attempt, claim.fruitless) == (1, 1)
        LEFT[left](record)
        fields = view.fields()
        assert (fields["attempts"], fields["fruitless"]) == ("0", "0")


@pytest.mark.parametrize("left", UNBEGUN)
def test_it_takes_nothing_off_what_was_counted_before(make: Make, view: JobView, left: str) -> None:
    record = make()
    began = claimed(record).started_at
    record.waiting("server_fault", "Later.")
    for _ in range(3):
        record = make()
        claim = claimed(record)
        assert (claim.attempt, claim.fruitless) == (2, 2)
        assert claim.started_at == pytest.approx(began, abs=1e-5)
        LEFT[left](record)
        assert (view.fields()["attempts"], view.fields()["fruitless"]) == ("1", "1")


@pytest.mark.parametrize("left", UNBEGUN)
def test_after_a_new_sentence_it_gives_no_try_for_nothing(make: Make, view: JobView, left: str) -> None:
    record = make()
    claimed(record)
    record.final(said(0))
    LEFT[left](record)
    assert view.fields()["fruitless"] == "0"
    assert claimed(make()).fruitless == 1


@pytest.mark.parametrize("left", UNBEGUN)
def test_however_often_it_is_left_the_deadline_counts_from_the_first_time(make: Make, view: JobView, left: str) -> None:
    began = None
    for _ in range(3):
        record = make()
        claimed(record)
        began = began or view.fields()["started_at"]
        LEFT[left](record)
    assert view.fields()["started_at"] == began


def test_one_that_is_not_counted_says_why_it_failed(record: JobRecord, view: JobView) -> None:
    record.waiting("throttled", "Later.", counted=False)
    fields = view.fields()
    assert (fields["state"], fields["error_code"], fields["error"]) == ("queued", "throttled", "Later.")
    assert view.events()[-1] == ("state", {"state": "queued", "error_code": "throttled", "error": "Later."})


@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_has_ended_waits_for_nothing(record: JobRecord, make: Make, view: JobView, end: str) -> None:
    record.not_begun("default 7")
    record = make()
    claimed(record)
    ENDS[end](record)
    assert not {"waiting_since", "place"} & set(view.fields())
    assert told(view) == ["running", "waiting for quota", end]


@pytest.mark.parametrize("act", ["waits", "goes"])
def test_without_redis_nobody_is_told_of_it_and_the_job_goes_on(nowhere: redis.Redis, make: Make, act: str) -> None:
    QUIET[act](make(nowhere))


def test_a_wait_whose_answer_was_lost_is_told_once_and_so_is_its_end(
    fickle: FickleRedis, make: Make, view: JobView
) -> None:
    record = make(fickle)
    claimed(record)
    fickle.deaf = 1
    record.waits()
    record.waits()
    record.goes()
    assert told(view) == ["running", "waiting for quota", "running"]


def test_a_wait_that_nobody_could_be_told_of_has_no_end_either(fickle: FickleRedis, make: Make, view: JobView) -> None:
    record = make(fickle)
    claimed(record)
    fickle.away = 1
    record.waits()
    record.goes()
    assert told(view) == ["running"] and "waiting_since" not in view.fields()


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sentences", [1, 2, 2 * BATCH + 1])
def test_the_next_one_goes_on_with_what_was_finished(
    make: Make, record: JobRecord, client: redis.Redis, view: JobView, sentences: int
) -> None:
    for number in range(sentences):
        record.final(said(number))
    lapse(client)
    successor = make()
    claim = claimed(successor)
    found = successor.checkpoint
    assert (claim.kept, found.count, found.end_ms()) == (sentences, sentences, said(sentences - 1)["end_time"])
    assert found.sentences == [said(number) for number in range(sentences)] and found.next() is None
    successor.final(said(sentences))
    assert view.sentences() == [said(number) for number in range(sentences + 1)]


def test_the_next_one_learns_what_was_done_before(make: Make, client: redis.Redis) -> None:
    record = make()
    figures = FakeFigures()
    figures.sent_ms, figures.streams, figures.resumes = 900, 3, 2
    claimed(record)
    record.following(figures, Stop(), stall=1, deadline=0)
    record.note(duration_ms=2000)
    record.handed_back()
    client.hset(KEYS.job, "started_at", time.time() - 100)

    claim = claimed(make())

    assert (claim.sent_ms, claim.streams, claim.resumes, claim.duration_ms) == (900, 3, 2, 2000)
    assert 100 <= claim.elapsed < 110


def test_clocks_that_disagree_give_a_job_no_less_time(make: Make, client: redis.Redis) -> None:
    record = make()
    claimed(record)
    record.handed_back()
    client.hset(KEYS.job, "started_at", time.time() + 1000)
    assert claimed(make()).elapsed == 0


# -- a Redis that has lost everything ----------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITES)
def test_the_next_write_makes_record_and_sentences_anew(
    record: JobRecord, client: redis.Redis, view: JobView, write: str
) -> None:
    sentences = 2 * BATCH + 50
    for number in range(sentences):
        record.final(said(number))
    record.note(duration_ms=1234)
    before = view.fields()
    client.flushdb()

    WRITES[write](record)

    fields = view.fields()
    kept = sentences + (write == "final")
    assert view.sentences() == [said(number) for number in range(kept)]
    if write in UNBEGUN:
        before |= {"attempts": "0"}
    assert [fields.get(name) for name in ("audio", "worker", "attempts", "started_at")] == [
        before.get(name) for name in ("audio", "worker", "attempts", "started_at")
    ]
    assert fields["state"] == (write if write in ENDS else "queued" if write in LEFT else "running")
    assert fields["duration_ms"] == ("2000" if write in ("note", "succeeded") else "1234")
    kinds = [kind for kind, _ in view.events()]
    assert kinds.count("final") == kept and kinds.count("partial") == (write == "partial")
    assert all(90 < ttl <= TTL for name, ttl in lives(client).items() if name != KEYS.lease)


def test_what_still_waited_then_is_not_lost_either(
    fickle: FickleRedis, make: Make, client: redis.Redis, view: JobView
) -> None:
    record = make(fickle)
    claimed(record)
    record.final(said(0))
    fickle.goes_away()
    record.final(said(1))
    client.flushdb()
    fickle.comes_back()
    record.succeeded(RESULT)
    assert view.sentences() == [said(0), said(1)]


@pytest.mark.parametrize("number", range(1, 9))
def test_whenever_it_does_so_all_is_there_in_the_end(
    fickle: FickleRedis, make: Make, client: redis.Redis, view: JobView, number: int
) -> None:
    record = make(fickle)
    claimed(record)
    record.final(said(0))
    fickle.tries = 0
    fickle.before = lambda _: client.flushdb() if fickle.tries in (number, 2 * number) else None
    for one in range(1, 5):
        record.partial({"text": "i"})
        record.final(said(one))
    fickle.before = None
    record.succeeded(RESULT)
    assert view.sentences() == [said(one) for one in range(5)]
    assert view.fields()["state"] == "succeeded"


@pytest.mark.parametrize("write", WRITES)
def test_if_somebody_else_has_begun_the_job_there_meanwhile_it_is_his(
    record: JobRecord, make: Make, client: redis.Redis, write: str
) -> None:
    record.final(said(0))
    client.flushdb()
    claimed(make())
    before = everything(client)
    with pytest.raises(LeaseLost):
        WRITES[write](record)
    assert everything(client) == before


def test_also_if_he_comes_in_the_last_moment(
    fickle: FickleRedis, make: Make, client: redis.Redis, view: JobView
) -> None:
    record = make(fickle)
    claimed(record)
    record.final(said(0))
    client.flushdb()
    fickle.after = lambda answer: claimed(make()) if answer == GONE else None
    with pytest.raises(LeaseLost):
        record.final(said(1))
    assert view.sentences() == [] and view.fields()["attempts"] == "1"


@pytest.mark.parametrize("write", ["final", *LEFT])
@pytest.mark.parametrize("lost", [1, 2, 4])
def test_a_redis_that_went_back_to_an_older_state_gets_the_sentences_that_it_lost(
    record: JobRecord, client: redis.Redis, view: JobView, write: str, lost: int
) -> None:
    for number in range(4):
        record.final(said(number))
    for _ in range(lost):
        client.rpop(KEYS.sentences)
    WRITES[write](record)
    assert view.sentences() == [said(number) for number in range(4 + (write == "final"))]
    state = write if write in ENDS else "queued" if write in LEFT else "running"
    assert view.fields()["state"] == state and client.exists(KEYS.lease) == (write == "final")


def test_what_the_heartbeat_had_on_its_way_when_the_record_was_made_anew_takes_nothing_off(
    fickle: FickleRedis, make: Make, client: redis.Redis, view: JobView
) -> None:
    record = make(fickle)
    claimed(record)
    record.final(said(0))
    pulse = record.following(FakeFigures(), Stop(), stall=60, deadline=time.monotonic() + 60)
    fickle.goes_away()
    record.final(said(1))
    fickle.comes_back()
    late = pulse.tell()  # the heartbeat is about to write the second sentence
    assert late is not None
    client.flushdb()

    def made_anew(answer: Any) -> None:
        if answer == OK:
            fickle.after = None
            pulse.told(late.run(client))  # and does so before the first one is there again

    fickle.after = made_anew
    record.note(duration_ms=2000)
    record.succeeded(RESULT)
    assert view.sentences() == [said(0), said(1)]


# -- a Redis that is away ----------------------------------------------------------------------------------------------


def test_while_redis_is_away_what_is_heard_is_taken_and_waits(
    fickle: FickleRedis, make: Make, client: redis.Redis, view: JobView
) -> None:
    record = make(fickle)
    claimed(record)
    record.final(said(0))
    fickle.goes_away()
    before = fickle.tries
    for number in (1, 2, 3):
        record.partial({"text": "i"})
        record.final(said(number))
    assert fickle.tries == before + 1  # it is not tried again and again: the stream must go on
    assert record.checkpoint.is_late and view.sentences() == [said(0)]
    assert record.checkpoint.sentences == [said(number) for number in range(4)]


def test_a_client_of_a_port_where_nobody_listens_takes_what_is_heard_too(nowhere: redis.Redis, make: Make) -> None:
    record = make(nowhere)
    record.final(said(0))
    assert record.checkpoint.is_late
    record.checkpoint.is_late = False
    record.partial({"text": "i"})
    assert record.checkpoint.is_late and record.checkpoint.count == 1


def test_when_it_is_back_the_heartbeat_writes_what_waited(
    fickle: FickleRedis, make: Make, client: redis.Redis, view: JobView
) -> None:
    record = make(fickle)
    claimed(record)
    pulse = record.following(FakeFigures(), Stop(), stall=60, deadline=time.monotonic() + 60)
    fickle.goes_away()
    for number in range(3):
        record.final(said(number))
    fickle.comes_back()
    call = pulse.tell()
    assert call is not None
    pulse.told(call.run(client))
    assert view.sentences() == [said(number) for number in range(3)] and not record.checkpoint.is_late
    record.final(said(3))
    assert view.sentences() == [said(number) for number in range(4)]


@pytest.mark.parametrize("left", LEFT)
def test_what_waited_is_written_before_the_job_is_left(
    fickle: FickleRedis, make: Make, view: JobView, left: str
) -> None:
    record = make(fickle)
    claimed(record)
    fickle.goes_away()
    record.final(said(0))
    fickle.comes_back()
    LEFT[left](record)
    assert view.sentences() == [said(0)]
    kinds = [data.get("state", kind) for kind, data in view.events()]
    if left == "not_begun":
        assert kinds == ["running", "waiting for quota", "final"]
    else:
        assert kinds == ["running", "final", left if left in ENDS else "queued"]


def test_a_sentence_that_both_threads_send_is_kept_once(
    fickle: FickleRedis, make: Make, client: redis.Redis, view: JobView
) -> None:
    record = make(fickle)
    claimed(record)
    pulse = record.following(FakeFigures(), Stop(), stall=60, deadline=time.monotonic() + 60)
    fickle.goes_away()
    record.final(said(0))
    fickle.comes_back()
    call = pulse.tell()
    assert call is not None
    record.checkpoint.add(said(1))
    record.save()
    pulse.told(call.run(client))
    record.final(said(2))
    record.succeeded(RESULT)
    assert view.sentences() == [said(number) for number in range(3)]
    assert [data for kind, data in view.events() if kind == "final"] == view.sentences()


def test_a_sentence_whose_answer_was_lost_is_kept_once(fickle: FickleRedis, make: Make, view: JobView) -> None:
    record = make(fickle)
    claimed(record)
    fickle.deaf = 1
    record.final(said(0))
    assert record.checkpoint.is_late and view.sentences() == [said(0)]
    record.succeeded(RESULT)
    assert view.sentences() == [said(0)]
    assert [data for kind, data in view.events() if kind == "final"] == [said(0)]


def test_an_outage_after_the_other_costs_no_sentence_while_job_and_heartbeat_both_write(
    fickle: FickleRedis, make: Make, valkey: str, view: JobView, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert beat.BEAT_EVERY == 1.0
    monkeypatch.setattr(beat, "BEAT_EVERY", 0.001)
    others, record, sentences = set(threading.enumerate()), make(fickle), 1500
    claimed(record)
    pulse = record.following(FakeFigures(), Stop(), stall=60, deadline=time.monotonic() + 60)
    beating = Beat(impatient(valkey))
    with beating.follow(pulse):
        for number in range(sentences):
            if number % 7 == 0:
                fickle.away, fickle.deaf = (1, 0) if number % 2 else (0, 1)
            record.final(said(number))
    fickle.away = fickle.deaf = 0
    record.succeeded(RESULT)
    beating.stop()
    beating.join(10)
    assert view.sentences() == [said(number) for number in range(sentences)]
    assert "beat" not in {thread.name for thread in set(threading.enumerate()) - others}


@pytest.mark.parametrize("write", [name for name in WRITES if name not in QUIET])
def test_all_else_is_an_error_that_passes(nowhere: redis.Redis, make: Make, write: str) -> None:
    record = make(nowhere)
    record.final(said(0))
    with pytest.raises(Unavailable) as error:
        WRITES[write](record)
    assert error.value.code == "redis_unavailable" and error.value.__suppress_context__
    assert "ConnectionError" in error.value.sentence
    assert record.checkpoint.count == 1 and record.checkpoint.next() is not None


def test_so_it_is_when_a_job_is_sent_or_taken(nowhere: redis.Redis, make: Make) -> None:
    acts: list[Callable[[], object]] = [lambda: make(nowhere).queued("a"), lambda: make(nowhere).claim("a", "w")]
    for act in acts:
        with pytest.raises(Unavailable):
            act()


def test_a_redis_that_goes_away_between_the_claim_and_its_sentences_leaves_the_job_to_another_try(
    record: JobRecord, fickle: FickleRedis, make: Make, client: redis.Redis
) -> None:
    record.final(said(0))
    lapse(client)
    fickle.before = lambda words: fickle.goes_away() if words[0] == "LRANGE" else None
    with pytest.raises(Unavailable):
        make(fickle).claim("https://h/a", "w@h")
    held(make())
    lapse(client)
    assert claimed(make()).kept == 1


# -- what it costs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITES)
def test_every_key_has_a_time_to_live_and_the_job_s_hash_tag(
    record: JobRecord, client: redis.Redis, write: str
) -> None:
    record.final(said(0))
    for key in KEYS:
        client.persist(key)
    WRITES[write](record)
    found = lives(client)
    assert set(found) - {KEYS.lease} == {KEYS.job, KEYS.sentences, KEYS.events}
    assert all(key.startswith("stenopool:job:{j}") for key in found)
    assert all(0 < ttl <= (LEASE if key == KEYS.lease else TTL) for key, ttl in found.items())
    assert (KEYS.lease in found) == (write not in LEFT)


@pytest.mark.parametrize("act", ["queued", "claim"])
def test_so_have_those_of_a_job_that_waits_or_was_just_taken(make: Make, client: redis.Redis, act: str) -> None:
    record = make()
    record.queued("a")
    if act == "claim":
        for key in KEYS:
            client.persist(key)
        claimed(record)
    assert all(0 < ttl <= TTL for ttl in lives(client).values()) and len(lives(client)) == 2 + (act == "claim")


def reads(client: redis.Redis) -> int:
    figures: Any = client.info("stats")
    return int(figures["total_reads_processed"])


def test_every_method_is_one_round_trip(make: Make, client: redis.Redis) -> None:
    for learnt in (False, True):  # whose scripts may be new to this Redis
        for name, act in {"queued": lambda record: record.queued("a"), "claim": claimed, **WRITES}.items():
            client.flushdb()
            record = make()
            if name in WRITES:
                claimed(record)
            before = reads(client)
            act(record)
            trips = 2 if name == "not_begun" else 1  # it tells first that it waits
            assert reads(client) - before == trips + 1 or not learnt, name  # and one for asking


def test_to_go_on_takes_one_more(record: JobRecord, make: Make, client: redis.Redis) -> None:
    record.final(said(0))
    record.handed_back()
    before = reads(client)
    claimed(make())
    assert reads(client) - before == 3


def test_a_redis_that_forgot_its_scripts_is_taught_them_again(make: Make, client: redis.Redis, view: JobView) -> None:
    record = make()
    client.script_flush()
    claimed(record)
    record.final(said(0))
    client.script_flush()
    record.final(said(1))
    assert view.sentences() == [said(0), said(1)]
