import pytest

from worker.pool.counters import DURATIONS, RECENT, Counters
from worker.pool.entry import Reason


def durations(*seconds):
    counters = Counters()
    for second in seconds:
        counters.took("borrow_seconds", second)
    figures = counters.figures()
    return [figures[f"borrow_seconds_{kind}"] for kind in ("total", "max", "p50", "p95")]


def test_everything_starts_at_zero():
    assert set(Counters().figures().values()) == {0}


def test_events_add_up():
    counters = Counters()
    counters.add("leases")
    counters.add("leases")
    assert counters.figures()["leases"] == 2


def test_ends_are_counted_together_and_by_reason():
    counters = Counters()
    for reason in (Reason.MAX_IDLE, Reason.CLOSED, Reason.UNHEALTHY):
        counters.ended(reason)
    figures = counters.figures()
    assert (figures["retired"], figures["discarded"]) == (2, 1)
    assert (figures["retired_max_idle"], figures["retired_max_lifetime"], figures["retired_closed"]) == (1, 0, 1)
    assert (figures["discarded_unhealthy"], figures["discarded_not_reusable"]) == (1, 0)


@pytest.mark.parametrize(
    ("seconds", "figures"),
    [([], [0, 0, 0, 0]), ([3.0], [3.0, 3.0, 3.0, 3.0]), ([3.0, 1.0], [4.0, 3.0, 3.0, 3.0])],
    ids=["none", "one", "two"],
)
def test_durations_keep_their_sum_their_longest_and_their_middle(seconds, figures):
    assert durations(*seconds) == figures


def test_of_many_durations_one_in_twenty_is_longer_than_the_95th_percentile():
    assert durations(*range(100)) == [4950, 99, 50, 95]


def test_the_percentiles_are_those_of_the_recent_ones_and_the_longest_is_that_of_all():
    assert durations(1000, *[1] * RECENT)[1:] == [1000, 1, 1]


def test_each_kind_of_duration_stands_for_itself():
    counters = Counters()
    for number, name in enumerate(DURATIONS, 1):
        counters.took(name, number)
    figures = counters.figures()
    assert [figures[f"{name}_total"] for name in DURATIONS] == [1, 2, 3]
