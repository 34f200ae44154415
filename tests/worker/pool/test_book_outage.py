"""What opens that fail, and things that die before their first use, do to those that come after."""

import pytest

from worker.pool.chores import Close, Open, Wake
from worker.pool.errors import OpenFailed


class Refused(Exception):
    retryable = False


class Busy(Exception):
    retry_after = 7.0


# -- failing opens -----------------------------------------------------------------------------------------------------


def test_a_failed_open_is_tried_again_for_ever_with_back_off_while_somebody_waits(make_desk, clock):
    desk = make_desk(min_size=0, backoff_first=1, backoff_max=4)
    ticket, delays = desk.ask(), []
    for _ in range(5):
        desk.open_failed(OSError())
        assert desk.chores == []
        delays.append(desk.book._pace.due(urgent=True) - clock.now)
        clock.advance(delays[-1])
        desk.tend()
        assert desk.chores == [Open()]
    assert delays == [1, 2, 4, 4, 4]
    assert not ticket.settled
    assert desk.figures("open_failures", "opening") == (5, 1)


def test_a_failed_open_is_tried_again_below_the_smallest_size(make_desk, clock):
    desk = make_desk(min_size=1)
    desk.open_failed(OSError())
    assert (desk.chores, desk.book.due) == ([], 0.1)
    clock.advance(0.1)
    desk.tend()
    assert desk.chores == [Open()]


def test_a_failed_open_that_nobody_misses_is_not_tried_again(make_desk, clock):
    desk = make_desk(min_size=0)
    ticket = desk.ask()
    desk.withdraw(ticket)
    desk.open_failed(OSError())
    clock.advance(60)
    desk.tend()
    assert desk.chores == []


def test_who_asks_later_still_waits_for_the_end_of_the_back_off(make_desk, clock):
    desk = make_desk(min_size=0, backoff_first=0.5)
    desk.withdraw(desk.ask())
    desk.open_failed(OSError())
    clock.advance(0.4)
    desk.ask()
    assert (desk.chores, desk.book.due) == ([], 0.5)
    clock.advance(0.1)
    desk.tend()
    assert desk.chores == [Open()]


def test_while_opens_fail_one_at_a_time_probes_and_a_success_frees_the_others(make_desk, clock):
    desk = make_desk(min_size=3, max_size=3, openers=3)
    for left in (2, 1, 0):
        desk.open_failed(OSError())
        assert (desk.chores, desk.book.stock.opening) == ([], left)
    clock.advance(0.1)
    desk.tend()
    assert desk.chores == [Open()]
    desk.opened("a")
    assert desk.chores == [Open(), Open()]


def test_an_error_that_says_when_to_come_back_is_believed(make_desk, clock):
    desk = make_desk(min_size=1, backoff_first=0.1, backoff_max=4.0, draw=0.5)
    desk.open_failed(Busy())
    clock.advance(7.0)
    desk.tend()
    assert desk.chores == []
    clock.advance(0.05)
    desk.tend()
    assert desk.chores == [Open()]


def test_a_hopeless_error_fails_all_who_wait_at_once(make_desk):
    desk = make_desk(min_size=0, max_size=1)
    tickets, error = [desk.ask(), desk.ask()], Refused()
    desk.open_failed(error)
    assert desk.chores == [Wake(ticket) for ticket in tickets]
    assert [type(ticket.error) for ticket in tickets] == [OpenFailed] * 2
    assert all(ticket.error.error is error for ticket in tickets)


def test_after_a_hopeless_error_newcomers_fail_at_once_until_the_next_try(make_desk, clock):
    desk = make_desk(min_size=0, backoff_first=1)
    desk.ask()
    desk.open_failed(Refused())
    clock.advance(0.9)
    assert isinstance(desk.ask().error, OpenFailed)
    assert desk.chores == []
    clock.advance(0.1)
    assert not desk.ask().settled
    assert desk.chores == [Open()]


def test_after_a_hopeless_error_an_idle_entry_is_lent_all_the_same(make_desk):
    desk = make_desk("a", min_size=1, max_size=2)
    entry = desk.lease()
    desk.ask()
    desk.open_failed(Refused())
    desk.give_back(entry)
    assert desk.ask().entry is entry


@pytest.mark.parametrize(("error", "cut_off"), [(OSError(), True), (Refused(), False)])
def test_who_cannot_open_any_and_has_none_is_cut_off_unless_whoever_asks_is_told_why(make_desk, error, cut_off):
    desk = make_desk(min_size=1, max_size=1)
    assert not desk.book.is_cut_off
    desk.open_failed(error)
    assert desk.book.is_cut_off is cut_off


def test_who_has_an_idle_one_is_not_cut_off(make_desk):
    desk = make_desk("a", min_size=2, max_size=2)
    desk.open_failed(OSError())
    assert not desk.book.is_cut_off


def test_a_later_ordinary_error_lets_people_wait_again(make_desk):
    desk = make_desk(min_size=2, max_size=2, openers=2)
    desk.open_failed(Refused())
    desk.open_failed(OSError())
    assert not desk.ask().settled


def test_a_success_after_a_hopeless_error_lets_people_wait_again(make_desk, clock):
    desk = make_desk(min_size=1, max_size=2)
    desk.open_failed(Refused())
    clock.advance(0.1)
    desk.tend()
    desk.opened("a")
    desk.lease()
    assert not desk.ask().settled


# -- what dies before its first use ------------------------------------------------------------------------------------


def dies_unused(desk, how):
    if how == "looked at":
        desk.clock.advance(5)
        desk.doubt(desk.examine())
    else:
        desk.reject(desk.ask())


@pytest.mark.parametrize("how", ["looked at", "about to be lent"])
def test_what_dies_before_its_first_use_holds_up_the_next_open_as_a_failure_does(make_desk, clock, how):
    desk = make_desk("a", backoff_first=1.0)
    dies_unused(desk, how)
    assert [type(chore) for chore in desk.chores] == [Close]
    assert (desk.book.last_error, desk.book._pace.due(urgent=True) - clock.now) == ("LostUnused", 1.0)
    clock.advance(1)
    desk.tend()
    assert desk.chores == [Open()]


def test_an_upstream_that_drops_what_it_accepts_is_asked_less_and_less(make_desk, clock):
    desk = make_desk("a", backoff_first=1.0, backoff_max=8.0, check_every=0.001, draw=1.0)
    delays = []
    for _ in range(5):
        dies_unused(desk, "looked at")
        delays.append(desk.book._pace.due(urgent=False) - clock.now)
        clock.advance(delays[-1])
        desk.tend()
        desk.opened("another")
    assert delays == [1, 2, 4, 8, 8]


@pytest.mark.parametrize("proof", ["found healthy", "given back reusable"])
def test_once_something_proved_good_the_next_failure_is_the_first_again(make_desk, clock, proof):
    desk = make_desk("a", backoff_first=1.0)
    for _ in range(3):
        dies_unused(desk, "looked at")
        clock.advance(desk.book._pace.due(urgent=False) - clock.now)
        desk.tend()
        desk.opened("another")
    if proof == "found healthy":
        clock.advance(5)
        desk.vouch(desk.examine())
        dies_unused(desk, "about to be lent")
    else:
        desk.give_back(desk.lease())
        desk.give_back(desk.lease(), keep=False)
        desk.open_failed(OSError())
    assert desk.book._pace.due(urgent=False) - clock.now == 1.0


def test_what_dies_after_use_holds_up_nothing(make_desk):
    desk = make_desk("a")
    desk.give_back(desk.lease())
    desk.clock.advance(5)
    desk.doubt(desk.examine())
    assert [type(chore) for chore in desk.chores] == [Close, Open]
    assert desk.book.last_error == ""
