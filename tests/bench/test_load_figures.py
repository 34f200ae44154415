"""Lateness must be counted right and stay bounded."""

import pytest

from bench.load.figures import BUCKETS, Figures
from tests.fakes import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def figures(clock: FakeClock) -> Figures:
    return Figures(clock, clock)


def test_quantiles_are_the_ends_of_the_buckets_that_they_fall_in(figures: Figures) -> None:
    for late in (0.0001, 0.0005, 0.0101, 0.0905):
        figures.judge(late, 3200)
    report = figures.report()
    assert (report["late_ms_p50"], report["late_ms_p99"], report["late_ms_max"]) == (1.0, 91.0, 90.5)


@pytest.mark.parametrize(("late", "early"), [(0.0, 0), (-0.0049, 0), (-0.0051, 1), (-100.0, 1)])
def test_a_frame_is_early_by_more_than_five_milliseconds(figures: Figures, late: float, early: int) -> None:
    figures.judge(late, 3200)
    report = figures.report()
    assert (report["early_frames"], report["late_ms_p99"], report["late_ms_max"]) == (early, 1.0, 0.0)


def test_what_is_later_than_the_last_bucket_is_told_by_the_maximum(figures: Figures) -> None:
    figures.judge(BUCKETS / 1000, 3200)
    figures.judge(3600.0, 3200)
    report = figures.report()
    assert (report["late_ms_p50"], report["late_ms_max"]) == (3_600_000.0, 3_600_000.0)


def test_nothing_seen_is_nothing_late(figures: Figures) -> None:
    assert set(figures.report().values()) == {0}


def test_audio_is_counted_in_seconds(figures: Figures) -> None:
    for _ in range(15):
        figures.judge(0.0, 3200)
    assert (figures.report()["frames"], figures.report()["audio_seconds"]) == (15, 1.5)


def test_a_reset_counts_anew_and_leaves_what_is_there(figures: Figures, clock: FakeClock) -> None:
    figures.stream_begins()
    figures.stream_begins()
    figures.streams -= 1
    figures.connections = 7
    figures.judge(1.0, 3200)
    figures.errors = figures.accepted = 3
    clock.advance(5)
    figures.reset()
    clock.advance(2)
    left = {"seconds": 2.0, "cpu_seconds": 2.0, "streams": 1, "streams_max": 1, "connections": 7}
    assert {name: value for name, value in figures.report().items() if value} == left
