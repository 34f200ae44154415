from worker.pool.counters import Counters
from worker.pool.entry import Reason


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


def test_durations_keep_their_sum_and_their_longest():
    counters = Counters()
    for seconds in (1.0, 3.0, 2.0):
        counters.took("wait_seconds", seconds)
    figures = counters.figures()
    assert (figures["wait_seconds_total"], figures["wait_seconds_max"]) == (6.0, 3.0)
    assert figures["connect_seconds_total"] == 0
