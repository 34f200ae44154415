from tasks.meter import Meter, Stopwatch
from tests.fakes import FakeClock
from worker.recognition import Chunk


def test_audio_counts_once_it_was_sent_and_is_reported_once_a_second() -> None:
    clock, reports = FakeClock(), list[int]()
    meter = Meter(16_000, reports.append, clock)
    for _ in meter.measured(Chunk(0.0, bytes(3200)) for _ in range(25)):
        assert not meter.complete
        clock.advance(0.1)
    assert (meter.ms, meter.complete) == (2500, True)
    assert reports == [1000, 2000]


def test_no_audio_is_complete_at_once() -> None:
    meter = Meter(16_000, list[int]().append, FakeClock())
    assert list(meter.measured([])) == [] and meter.complete and meter.ms == 0


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
