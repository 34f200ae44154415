from typing import Any

import pytest

from worker.pool.outage import Outage
from worker.pool.policy import Policy


class Refused(Exception):
    retryable = False


def outage(draw=1.0):
    return Outage(Policy(backoff_first=0.1, backoff_max=30.0), lambda: draw)


def test_without_news_all_is_well():
    quiet = outage()
    assert (quiet.error, quiet.last_error, quiet.hopeless, quiet.delay(0)) == (None, "", False, 0)


def test_the_delay_doubles_up_to_its_limit():
    down, now, delays = outage(), 0.0, []
    for _ in range(11):
        down.failed(OSError(), now)
        delays.append(round(down.delay(now), 3))
        now += down.delay(now)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]


@pytest.mark.parametrize("draw", [0.0, 0.25, 0.5])
def test_the_delay_is_drawn_between_nothing_and_the_limit(draw):
    down = outage(draw)
    down.failed(OSError(), 5.0)
    assert down.delay(5.0) == pytest.approx(draw * 0.1)


def test_failures_during_the_delay_are_the_same_news():
    down = outage()
    down.failed(OSError(), 0.0)
    down.failed(TimeoutError(), 0.05)
    assert down.delay(0.05) == pytest.approx(0.05)
    assert down.last_error == "TimeoutError"


def test_a_success_ends_it():
    down = outage()
    down.failed(Refused(), 0.0)
    down.over()
    assert (down.error, down.hopeless, down.delay(0.0)) == (None, False, 0)
    down.failed(OSError(), 0.0)
    assert down.delay(0.0) == pytest.approx(0.1)


def test_days_of_outage_do_not_overflow():
    down = outage()
    for now in range(0, 31 * 2000, 31):
        down.failed(OSError(), now)
    assert down.delay(now) == 30


@pytest.mark.parametrize(("retryable", "hopeless"), [(False, True), (True, False), (None, False), (0, False)])
def test_only_an_error_that_says_so_is_hopeless(retryable, hopeless):
    error: Any = OSError()
    error.retryable = retryable
    down = outage()
    down.failed(error, 0.0)
    assert down.hopeless is hopeless


def test_the_latest_error_counts():
    down = outage()
    down.failed(Refused(), 0.0)
    down.failed(OSError(), 0.0)
    assert not down.hopeless
