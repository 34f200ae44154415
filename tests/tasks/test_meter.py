from dataclasses import dataclass

from tasks.meter import Meter, Meters, Stopwatch
from tests.fakes import FakeClock


@dataclass
class FakeSender:
    sent_bytes: int = 0


class Leaving:
    """A sender that the job gives back, and another job takes, just while it is asked."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._asked = 0

    @property
    def sent_bytes(self) -> int:
        self._asked += 1
        if self._asked == 1:
            self._meter.end()
            return 99_000
        return 32_000


def test_nothing_was_sent_until_a_sender_has_begun() -> None:
    meter = Meter(16_000)
    assert (meter.ms, meter.sent_ms, meter.streams, meter.resumes, meter.heard) == (0, 0, 0, 0, 0)
    assert not meter.is_streaming


def test_what_was_sent_is_read_until_the_end_and_kept_after_it() -> None:
    meter, sender = Meter(16_000), FakeSender()
    meter.begin(sender)
    assert (meter.ms, meter.streams, meter.is_streaming) == (0, 1, True)
    sender.sent_bytes = 3200
    assert meter.ms == 100
    meter.end()
    sender.sent_bytes = 0  # it is another job's now
    assert (meter.ms, meter.sent_ms, meter.streams, meter.is_streaming) == (100, 100, 1, False)


def test_a_sender_that_is_exchanged_before_it_has_sent_anything_leaves_the_place_where_it_was() -> None:
    meter = Meter(8_000)
    for sent in (0, 800):
        meter.begin(FakeSender(sent))
        meter.end()
    assert (meter.ms, meter.sent_ms, meter.streams) == (50, 50, 2)


def test_what_is_sent_again_counts_as_sent_but_the_place_is_that_in_the_recording() -> None:
    meter = Meter(16_000)
    meter.seek(0)
    for begin_ms, sent, place, in_all in ((0, 9600, 300, 300), (100, 3200, 200, 400), (100, 0, 100, 400)):
        meter.seek(begin_ms)
        assert (meter.ms, meter.is_streaming) == (begin_ms, False)
        meter.begin(FakeSender(sent))
        assert (meter.ms, meter.sent_ms) == (place, in_all)
        meter.end()
        assert (meter.ms, meter.sent_ms) == (place, in_all)
    assert meter.streams == 3


def test_what_earlier_attempts_sent_is_counted_on() -> None:
    meter = Meter(16_000, sent_ms=700, streams=3, resumes=2)
    assert (meter.ms, meter.sent_ms, meter.streams, meter.resumes) == (0, 700, 3, 2)
    meter.seek(400)
    meter.begin(FakeSender(3200))
    meter.end()
    assert (meter.ms, meter.sent_ms, meter.streams) == (500, 800, 4)


def test_what_another_job_sends_is_never_read() -> None:
    meter = Meter(16_000)
    meter.begin(Leaving(meter))
    assert meter.ms == 1000


def test_each_step_counts_the_first_time_it_is_reached() -> None:
    clock = FakeClock()
    watch = Stopwatch(queued_at=100.0, clock=clock, wall=lambda: 100.5)
    clock.advance(1)
    watch.reach("opened")
    clock.advance(0.25)
    watch.reach("leased")
    for _ in range(2):
        clock.advance(2)
        watch.reach("heard")
    assert watch.timing() == {"queued_ms": 500, "borrow_ms": 250, "first_result_ms": 3250, "wall_ms": 5250}


def test_what_is_not_known_is_none_and_a_wait_is_never_negative() -> None:
    assert Stopwatch(None, FakeClock()).timing() == {
        "queued_ms": None,
        "borrow_ms": None,
        "first_result_ms": None,
        "wall_ms": 0,
    }
    assert Stopwatch(100.0, FakeClock(), wall=lambda: 99.0).timing()["queued_ms"] == 0


# -- several channels --------------------------------------------------------------------------------------------------


def test_the_meters_of_a_job_are_summed_and_its_place_is_their_mean() -> None:
    first, second = Meter(16_000, sent_ms=1000, streams=2, resumes=1), Meter(16_000)
    meters = Meters(first)
    meters.add(second)
    first.seek(200)
    assert (meters.ms, meters.sent_ms, meters.streams, meters.resumes, meters.heard) == (100, 1000, 2, 1, 0)
    assert not meters.is_streaming
    first.begin(FakeSender(3200))
    second.begin(FakeSender(32_000))
    first.heard, second.heard, second.resumes = 2, 3, 1
    assert (meters.ms, meters.furthest_ms, meters.sent_ms) == (650, 1000, 2100)
    assert (meters.streams, meters.resumes, meters.heard, meters.is_streaming) == (4, 2, 5, True)
    assert (meters.audio_ms(0), meters.audio_ms(500)) == (1300, 500)
