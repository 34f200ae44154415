import math
from typing import Any

import pytest

from worker.pool.errors import LostUnused
from worker.pool.outage import LONGEST_FLOOR, QUIET, Outage
from worker.pool.policy import Policy


class Refused(Exception):
    retryable = False


class Busy(Exception):
    def __init__(self, retry_after):
        super().__init__(retry_after)
        self.retry_after = retry_after


def outage(draw=1.0):
    return Outage(Policy(backoff_first=0.1, backoff_max=30.0), lambda: draw)


def fail_until(down, ceiling):
    """Let opens fail at their times until the longest delay is this; returns when the next may begin."""
    down.failed(OSError(), 0.0)
    while down._ceiling < ceiling:
        down.failed(OSError(), down.until)
    return down.until


def test_without_news_all_is_well():
    quiet = outage()
    assert (quiet.error, quiet.last_error, quiet.hopeless, quiet.until) == (None, "", False, -math.inf)


def test_the_delay_doubles_up_to_its_limit():
    down, now, delays = outage(), 0.0, []
    for _ in range(11):
        down.failed(OSError(), now)
        delays.append(round(down.until - now, 3))
        now = down.until
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]


@pytest.mark.parametrize("draw", [0.0, 0.25, 0.5])
def test_the_delay_is_drawn_between_nothing_and_the_limit(draw):
    down = outage(draw)
    down.failed(OSError(), 5.0)
    assert down.until == pytest.approx(5.0 + draw * 0.1)


def test_failures_during_the_delay_are_the_same_news():
    down = outage()
    down.failed(OSError(), 0.0)
    down.failed(TimeoutError(), 0.05)
    assert down.until == pytest.approx(0.1)
    assert down.last_error == "TimeoutError"


def test_a_success_ends_the_waiting_but_a_failure_after_it_is_one_more():
    down = outage()
    down.failed(Refused(), 0.0)
    down.connected()
    assert (down.error, down.hopeless, down.until) == (None, False, -math.inf)
    down.failed(OSError(), 0.0)
    assert down.until == pytest.approx(0.2)


def test_after_a_proof_the_next_failure_is_the_first_again():
    down = outage()
    down.failed(OSError(), 0.0)
    down.connected()
    down.proven()
    down.failed(LostUnused(), 1.0)
    assert down.until == pytest.approx(1.1)


def test_a_proof_alone_does_not_end_the_waiting():
    """What is still good was opened before: it says nothing of what is opened now."""
    down = outage()
    down.failed(OSError(), 0.0)
    down.proven()
    assert (down.until, down.last_error) == (0.1, "OSError")


@pytest.mark.parametrize(("quiet", "delay"), [(QUIET * 30.0, 30.0), (QUIET * 30.0 + 0.1, 0.1)])
def test_after_quiet_a_failure_begins_a_new_outage(quiet, delay):
    down = outage()
    last = fail_until(down, ceiling=30.0) - 30.0
    down.failed(OSError(), last + quiet)
    assert down.until == pytest.approx(last + quiet + delay)


def test_days_of_outage_do_not_overflow():
    down = outage()
    for now in range(0, 31 * 2000, 31):
        down.failed(OSError(), now)
    assert down.until == now + 30


# -- what an error says of itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_an_error_that_says_when_to_come_back_is_believed_and_not_by_all_at_the_same_moment(seconds):
    for draw in (0.0, 1.0):
        down = outage(draw)
        down.failed(Busy(retry_after=seconds), 10.0)
        assert down.until == pytest.approx(10.0 + seconds + draw * 0.1)


@pytest.mark.parametrize("nothing", [None, 0, 0.0])
def test_an_error_that_says_nothing_of_it_is_one_like_others(nothing):
    down = outage()
    down.failed(Busy(retry_after=nothing), 0.0)
    assert down.until == pytest.approx(0.1)


def test_an_error_is_not_believed_for_ever():
    down = outage(draw=0.0)
    down.failed(Busy(retry_after=1e9), 0.0)
    assert down.until == LONGEST_FLOOR * 30.0


def test_an_error_that_says_so_during_a_delay_prolongs_it_and_never_shortens_it():
    down = outage(draw=0.0)
    down.failed(Busy(retry_after=5.0), 0.0)
    down.failed(Busy(retry_after=1.0), 1.0)
    assert down.until == 5.0
    down.failed(Busy(retry_after=5.0), 1.0)
    assert down.until == 6.0


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
