import math

import pytest

from worker.pool.pace import Pace
from worker.pool.policy import Policy


def pace(draw=0.5, **limits):
    return Pace(Policy(**limits), lambda: draw)


def test_nothing_stands_against_the_first_open():
    assert pace().due(urgent=False) == pace().due(urgent=True) == -math.inf


@pytest.mark.parametrize(("draw", "interval"), [(0.0, 0.25), (0.5, 0.5), (1.0, 0.75)])
def test_opens_are_spaced_unevenly_around_the_interval(draw, interval):
    steady = pace(draw, opens_per_second=2.0)
    steady.took(10.0)
    assert steady.due(urgent=True) == steady.due(urgent=False) == 10.0 + interval


def test_without_a_rate_the_next_open_may_follow_at_once():
    free = pace(opens_per_second=math.inf)
    free.took(10.0)
    assert free.due(urgent=False) == 10.0


def test_warming_begins_within_the_spread_once_and_is_not_put_off_again():
    early = pace(draw=0.25, spread=8.0)
    early.start(10.0)
    early.start(11.0)
    assert early.due(urgent=False) == 12.0


def test_who_waits_is_spared_the_spread_but_neither_the_rate_nor_the_back_off():
    busy = pace(spread=100.0, opens_per_second=1.0, backoff_first=8.0)
    busy.start(0.0)
    assert busy.due(urgent=True) == -math.inf
    busy.took(0.0)
    assert busy.due(urgent=True) == 1.0
    busy.outage.failed(OSError(), 0.0)
    assert busy.due(urgent=True) == 4.0


@pytest.mark.parametrize("openers", [1, 2])
def test_while_opens_fail_there_is_one_lane(openers):
    lanes = pace(openers=openers)
    assert lanes.lanes == openers
    lanes.outage.failed(OSError(), 0.0)
    assert lanes.lanes == 1
    lanes.outage.connected()
    assert lanes.lanes == openers
