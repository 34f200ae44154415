from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from tasks.errors import Unavailable
from tasks.job.lease import GONE, OK, OVER, TAKEN
from tasks.job.pulse import SHAKES, SIGNS, TELL_EVERY, JobPulse
from tasks.job.record import JobRecord
from tasks.job.view import JobView
from tests.fakes import FakeClock
from tests.tasks.job.conftest import KEYS, LEASE, TTL, Make, claimed, everything, lapse, said
from worker.script import Call
from worker.stops import LeaseLost, Stop

STALL, DEADLINE = 60.0, 5000.0


@dataclass
class FakeFigures:
    """A job's meter, whose figures a test sets."""

    heard: int = 0
    streams: int = 0
    resumes: int = 0
    ms: int = 0
    sent_ms: int = 0
    is_streaming: bool = False


@pytest.fixture
def figures() -> FakeFigures:
    return FakeFigures()


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def pulse(record: JobRecord, figures: FakeFigures, stop: Stop, clock: FakeClock) -> JobPulse:
    return JobPulse(
        record.lease, record.checkpoint, figures, stop, stall=STALL, deadline=clock.now + DEADLINE, clock=clock
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def told(pulse: JobPulse) -> Call:
    """What it tells, and Redis has it."""
    call = pulse.tell()
    assert call is not None
    pulse.told(OK)
    return call


def beat(pulse: JobPulse, client: redis.Redis) -> Any:
    """One beat, if it has something to tell: what Redis answers."""
    call = pulse.tell()
    assert call is not None
    answer = call.run(client)
    pulse.told(answer)
    return answer


def why(stop: Stop) -> type[Exception] | None:
    try:
        stop.check()
    except Exception as error:
        return type(error)
    return None


# -- when --------------------------------------------------------------------------------------------------------------


def test_so_many_signs_fit_into_a_lease() -> None:
    assert (TELL_EVERY, SIGNS, SHAKES) == (2.0, 4, 3)


def test_it_tells_the_figures_again_as_they_change_but_not_too_often(
    pulse: JobPulse, figures: FakeFigures, clock: FakeClock
) -> None:
    figures.ms, figures.sent_ms, figures.streams, figures.resumes = 700, 900, 2, 1
    assert pulse.tell() is None
    clock.advance(TELL_EVERY)
    assert told(pulse).given == (6, *KEYS, pulse._lease.token, 10_000, TTL, 700, 900, 2, 1)
    figures.ms = 1700
    clock.advance(TELL_EVERY - 0.1)
    assert pulse.tell() is None
    clock.advance(0.1)
    assert told(pulse).given[-4] == 1700


def test_a_job_that_does_not_move_gives_its_signs_all_the_same(pulse: JobPulse, clock: FakeClock) -> None:
    clock.advance(TELL_EVERY)
    told(pulse)
    clock.advance(LEASE / SIGNS - 0.1)
    assert pulse.tell() is None
    clock.advance(0.1)
    assert told(pulse).given[-4:] == (0, 0, 0, 0)


def test_what_redis_did_not_hear_is_told_at_the_next_beat(
    pulse: JobPulse, figures: FakeFigures, clock: FakeClock
) -> None:
    clock.advance(TELL_EVERY)
    first, again = pulse.tell(), pulse.tell()
    assert first is not None and first == again


def test_under_a_short_lease_it_tells_more_often(
    make: Make, figures: FakeFigures, stop: Stop, clock: FakeClock
) -> None:
    record = make()
    record.lease.seconds = 2.0
    pulse = JobPulse(record.lease, record.checkpoint, figures, stop, stall=STALL, deadline=clock.now, clock=clock)
    clock.advance(0.4)
    assert pulse.tell() is None
    clock.advance(0.1)
    assert pulse.tell() is not None


# -- what Redis makes of it --------------------------------------------------------------------------------------------


def test_a_sign_tells_the_figures_and_prolongs_the_lease_and_every_key(
    client: redis.Redis, record: JobRecord, pulse: JobPulse, figures: FakeFigures, clock: FakeClock
) -> None:
    record.final(said(0))
    for key in (KEYS.job, KEYS.sentences, KEYS.events):
        client.expire(key, 5)
    client.pexpire(KEYS.lease, 500)
    figures.ms, figures.sent_ms, figures.streams, figures.resumes = 700, 900, 2, 1
    clock.advance(TELL_EVERY)

    assert beat(pulse, client) == OK

    fields = JobView(client, "j").fields()
    names = ("progress_ms", "sent_ms", "streams", "resumes")
    assert [fields[name] for name in names] == ["700", "900", "2", "1"]
    assert int(str(client.pttl(KEYS.lease))) > 9_000
    assert all(int(str(client.ttl(key))) > 90 for key in (KEYS.job, KEYS.sentences, KEYS.events))


def test_the_place_in_the_recording_never_goes_back_though_a_stream_does(
    client: redis.Redis, pulse: JobPulse, figures: FakeFigures, clock: FakeClock
) -> None:
    for ms, shown in ((700, "700"), (300, "700"), (700, "700"), (701, "701")):
        figures.ms, figures.sent_ms = ms, figures.sent_ms + 100
        clock.advance(TELL_EVERY)
        assert beat(pulse, client) == OK
        assert JobView(client, "j").fields()["progress_ms"] == shown
    assert JobView(client, "j").fields()["sent_ms"] == "400"


def test_who_was_overtaken_is_told_to_stop(
    client: redis.Redis, pulse: JobPulse, make: Make, stop: Stop, clock: FakeClock
) -> None:
    lapse(client)
    claimed(make())
    before = everything(client)
    clock.advance(TELL_EVERY)
    assert beat(pulse, client) == TAKEN
    assert why(stop) is LeaseLost and everything(client) == before


def test_a_late_sign_after_the_end_changes_nothing(
    client: redis.Redis, record: JobRecord, pulse: JobPulse, stop: Stop, clock: FakeClock
) -> None:
    clock.advance(TELL_EVERY)
    record.succeeded({"duration_ms": 900})
    before = everything(client)
    assert beat(pulse, client) == OVER
    assert everything(client) == before and why(stop) is LeaseLost  # which nobody hears any more


def test_a_redis_that_lost_the_job_leaves_it_to_the_job_s_own_thread(
    client: redis.Redis, record: JobRecord, pulse: JobPulse, stop: Stop, clock: FakeClock
) -> None:
    clock.advance(TELL_EVERY)
    record.checkpoint.add(said(0))
    record.checkpoint.is_late = True
    client.flushdb()
    assert beat(pulse, client) == GONE
    assert client.keys("*") == [] and why(stop) is None
    assert not record.checkpoint.is_late and record.checkpoint.next() is not None
    record.final(said(1))
    assert JobView(client, "j").sentences() == [said(0), said(1)]


# -- what waited for Redis ---------------------------------------------------------------------------------------------


def test_it_writes_at_once_what_waits_and_then_the_figures_again(
    client: redis.Redis, record: JobRecord, pulse: JobPulse, clock: FakeClock
) -> None:
    for number in range(201):
        record.checkpoint.add(said(number))
    assert pulse.tell() is None  # the job's own thread writes, as long as Redis is there
    record.checkpoint.is_late = True
    for there in (200, 201):
        assert beat(pulse, client) == OK
        assert JobView(client, "j").sentences() == [said(n) for n in range(there)]
    assert not record.checkpoint.is_late and pulse.tell() is None
    clock.advance(TELL_EVERY)
    assert told(pulse).given[-4:] == (0, 0, 0, 0)


def test_when_redis_answers_and_nothing_waits_the_job_s_own_thread_may_write_again(
    client: redis.Redis, record: JobRecord, pulse: JobPulse, view: JobView, clock: FakeClock
) -> None:
    record.checkpoint.is_late = True  # a partial result was not taken
    record.partial({"text": "o"})
    clock.advance(TELL_EVERY)
    assert beat(pulse, client) == OK
    assert not record.checkpoint.is_late
    record.partial({"text": "on"})
    assert [data["text"] for kind, data in view.events() if kind == "partial"] == ["on"]


def test_what_waits_is_not_lost_by_an_answer_that_never_comes(
    client: redis.Redis, record: JobRecord, pulse: JobPulse
) -> None:
    record.checkpoint.add(said(0))
    record.checkpoint.is_late = True
    call = pulse.tell()
    assert call is not None and call.run(client) == OK  # and nobody hears it
    assert beat(pulse, client) == OK
    assert JobView(client, "j").sentences() == [said(0)] and not record.checkpoint.is_late


def test_who_was_overtaken_keeps_nothing_of_what_waited(
    client: redis.Redis, record: JobRecord, pulse: JobPulse, make: Make, stop: Stop
) -> None:
    record.checkpoint.add(said(0))
    record.checkpoint.is_late = True
    lapse(client)
    claimed(make())
    assert beat(pulse, client) == TAKEN
    assert why(stop) is LeaseLost and JobView(client, "j").sentences() == []


# -- a job that hangs --------------------------------------------------------------------------------------------------

Shaken = list[Exception]


@pytest.fixture
def shaken(stop: Stop) -> Iterator[Shaken]:
    """By what a job was shaken that waits in its stream."""
    errors: Shaken = []
    with stop.breaking(errors.append):
        yield errors


def test_a_stream_that_stands_still_is_broken_off_by_an_error_that_passes(
    pulse: JobPulse, figures: FakeFigures, clock: FakeClock, shaken: Shaken, stop: Stop
) -> None:
    figures.is_streaming = True
    pulse.tell()
    clock.advance(STALL)
    pulse.tell()
    assert shaken == []
    clock.advance(0.1)
    pulse.tell()
    (error,) = shaken
    assert isinstance(error, Unavailable) and error.code == "stalled" and "60 s" in error.sentence
    pulse.tell()
    assert len(shaken) == 1 and why(stop) is None


@pytest.mark.parametrize("moved", ["sent_ms", "heard", "streams"])
def test_one_that_sends_or_hears_or_is_begun_anew_moves(
    pulse: JobPulse, figures: FakeFigures, clock: FakeClock, shaken: Shaken, moved: str
) -> None:
    figures.is_streaming = True
    for _ in range(5):
        pulse.tell()
        clock.advance(STALL)
        setattr(figures, moved, getattr(figures, moved) + 1)
    pulse.tell()
    assert shaken == []


def test_between_two_streams_nothing_stands_still(
    pulse: JobPulse, figures: FakeFigures, clock: FakeClock, shaken: Shaken
) -> None:
    for _ in range(5):
        clock.advance(STALL + 1)
        assert pulse.tell() is not None
    figures.is_streaming = True
    clock.advance(1)
    pulse.tell()
    assert shaken == []


def test_who_does_not_even_hear_that_he_is_shaken_hangs_and_is_held_no_longer(
    pulse: JobPulse, figures: FakeFigures, clock: FakeClock, shaken: Shaken
) -> None:
    figures.is_streaming = True
    pulse.tell()
    for times in range(1, SHAKES):
        clock.advance(STALL + 0.1)
        assert pulse.tell() is not None and len(shaken) == times
    clock.advance(STALL + 0.1)
    assert pulse.tell() is None and len(shaken) == SHAKES
    clock.advance(10 * STALL)
    assert pulse.tell() is None
    figures.heard += 1
    assert pulse.tell() is not None  # it was but slow


def test_it_falls_silent_when_the_job_should_long_be_over(pulse: JobPulse, clock: FakeClock) -> None:
    clock.advance(DEADLINE + STALL)
    assert pulse.tell() is not None
    clock.advance(0.1)
    assert pulse.tell() is None


def test_a_job_s_record_makes_its_pulse(client: redis.Redis, record: JobRecord, figures: FakeFigures) -> None:
    pulse = record.following(figures, Stop(), stall=STALL, deadline=0.0)
    assert pulse.tell() is None  # it is long over
    figures.sent_ms, figures.streams, figures.resumes = 900, 3, 2
    record.waiting("throttled", "Later.")
    fields = JobView(client, "j").fields()
    assert [fields[name] for name in ("sent_ms", "streams", "resumes")] == ["900", "3", "2"]
