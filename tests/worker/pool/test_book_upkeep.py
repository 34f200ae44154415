"""What happens without a borrower: aging, looking after, reclaiming."""

import math

import pytest

from worker.pool.book import TEND_EVERY, Book
from worker.pool.chores import Close, Open, Report, Wake
from worker.pool.entry import Reason, State
from worker.pool.policy import Policy

# -- aging -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_unused": 50, "max_idle": math.inf}, Reason.MAX_IDLE),
        ({"max_unused": math.inf, "max_lifetime": 50}, Reason.MAX_LIFETIME),
    ],
)
def test_an_idle_entry_at_its_limit_is_closed_and_replaced(make_desk, limits, reason):
    desk = make_desk("a", **limits)
    (entry,) = desk.book.stock.idle
    desk.clock.advance(49)
    desk.tend()
    assert desk.chores == []
    desk.clock.advance(1)
    desk.tend()
    assert desk.chores == [Close(entry, reason), Open()]
    assert desk.figures("retired", f"retired_{reason.value}", "discarded") == (1, 1, 0)


def test_one_that_was_never_lent_has_an_idle_limit_of_its_own(make_desk):
    desk = make_desk("a", "b", max_idle=50, max_unused=20)
    used = desk.lease()
    desk.clock.advance(1)
    desk.give_back(used)
    unused = desk.book.stock.idle[0]
    desk.clock.advance(19)
    desk.tend()
    assert desk.chores == [Close(unused, Reason.MAX_IDLE), Open()]
    desk.clock.advance(31)
    desk.tend()
    assert desk.chores[0] == Close(used, Reason.MAX_IDLE)


def test_an_overdue_entry_is_never_lent_even_if_tending_is_late(make_desk):
    desk = make_desk("a", max_lifetime=60, max_unused=math.inf)
    (entry,) = desk.book.stock.idle
    desk.clock.advance(61)
    assert not desk.ask().settled
    assert desk.chores == [Close(entry, Reason.MAX_LIFETIME), Open()]


def test_entries_born_together_do_not_end_together(clock):
    limits = {"max_idle": 50, "max_unused": 20, "max_lifetime": 100}
    draws = iter([0.0, 0.0, *(0.0, 1.0, 0.5), 0.0, *(0.5, 0.0, 1.0)])
    book: Book[str] = Book("thing", Policy(jitter=0.1, openers=1, **limits), lambda: next(draws))
    for resource in ("a", "b"):
        book.tend(clock.now)
        assert book.begin()[0]
        book.opened(resource, 0.1, clock.now)
        clock.advance(1)
    assert [[getattr(entry, name) for name in limits] for entry in book.stock.idle] == [[50, 18, 95], [47.5, 20, 90]]


# -- looking after -----------------------------------------------------------------------------------------------------


def test_an_idle_entry_is_looked_at_once_in_a_while(make_desk, clock):
    desk = make_desk("a", check_every=5)
    clock.advance(4.9)
    assert desk.examine() is None
    clock.advance(0.1)
    entry = desk.examine()
    assert repr(desk.book) == "<Book 'thing' leased 0, reserved 1, idle 0, opening 0 | waiting 0 | max 1>"
    desk.vouch(entry)
    assert (desk.chores, desk.idle(), entry.state, desk.examine()) == ([], ["a"], State.IDLE, None)
    clock.advance(5)
    assert desk.examine() is entry


@pytest.mark.parametrize("idle", [0, 1, 2])
def test_idle_entries_are_looked_at_one_at_a_time_and_keep_their_place(make_desk, clock, idle):
    desk = make_desk(*"ab"[:idle], max_size=3, check_every=5, openers=1)
    for last_used, entry in enumerate(desk.book.stock.idle):
        entry.last_used = last_used
    clock.advance(5)
    looked_at = []
    while (entry := desk.examine()) is not None:
        assert len(desk.idle()) == idle - 1
        looked_at.append(entry.resource)
        desk.vouch(entry)
    assert looked_at == desk.idle() == list("ab"[:idle])


def test_what_is_lent_meanwhile_is_not_looked_at_and_what_comes_back_is_known_to_be_healthy(make_desk, clock):
    desk = make_desk("a", check_every=5)
    entry = desk.lease()
    clock.advance(5)
    assert desk.examine() is None
    desk.give_back(entry)
    assert desk.examine() is None


def test_what_is_not_healthy_when_looked_at_is_closed_and_replaced(make_desk, clock):
    desk = make_desk("a")
    desk.give_back(desk.lease())
    clock.advance(5)
    entry = desk.examine()
    desk.doubt(entry)
    assert desk.chores == [Close(entry, Reason.UNHEALTHY), Open()]
    assert desk.figures("idle", "reserved", "discarded_unhealthy") == (0, 0, 1)


def test_who_asks_during_the_look_gets_the_entry_after_it_and_nothing_is_opened_for_him(make_desk, clock):
    desk = make_desk("a", max_size=2)
    clock.advance(5)
    entry, ticket = desk.examine(), desk.ask()
    assert (ticket.settled, desk.chores) == (False, [])
    desk.vouch(entry)
    assert (desk.chores, ticket.entry, entry.state) == ([Wake(ticket)], entry, State.LEASED)


def test_a_second_one_who_asks_during_the_look_has_another_opened(make_desk, clock):
    desk = make_desk("a", max_size=2)
    clock.advance(5)
    desk.examine()
    desk.ask()
    desk.ask()
    assert desk.chores == [Open()]


# -- reclaiming --------------------------------------------------------------------------------------------------------


def test_a_lease_that_lasts_too_long_is_reported_reclaimed_and_replaced(make_desk):
    desk = make_desk("a", max_lease=100)
    entry = desk.lease("job 7")
    desk.clock.advance(99)
    desk.tend()
    assert desk.chores == []
    desk.clock.advance(1)
    desk.tend()
    assert desk.chores == [Report(entry, 100), Open()]
    assert (entry.state, entry.borrower) == (State.GONE, "job 7")
    assert desk.figures("leased", "discarded_max_lease") == (0, 1)


def test_the_late_return_of_a_reclaimed_entry_changes_nothing_and_is_closed(make_desk):
    desk = make_desk("a", max_lease=100)
    entry = desk.lease()
    desk.clock.advance(100)
    desk.tend()
    before = repr(desk.book)
    desk.give_back(entry)
    assert desk.chores == [Close(entry, Reason.MAX_LEASE)]
    assert (repr(desk.book), desk.figures("discarded", "returned_late")) == (before, (1, 1))


def test_who_waits_beside_idle_entries_gets_one_when_a_lost_lease_is_reclaimed(make_desk):
    desk = make_desk("a", "b", max_leased=1, max_lease=100, max_unused=math.inf)
    desk.lease()
    ticket = desk.ask()
    desk.clock.advance(100)
    desk.tend()
    assert (Wake(ticket) in desk.chores, ticket.entry.resource) == (True, "a")


# -- when it is wanted again -------------------------------------------------------------------------------------------


def test_a_look_is_wanted_regularly_and_earlier_when_an_open_comes_due(make_desk, clock):
    desk = make_desk(min_size=1, backoff_first=0.25)
    assert desk.book.due == clock.now + TEND_EVERY
    desk.open_failed(OSError())
    assert desk.book.due == clock.now + 0.25
    clock.advance(0.25)
    desk.tend()
    assert desk.book.due == clock.now + TEND_EVERY


def test_a_book_that_was_never_tended_is_to_be_tended_at_once(clock):
    assert Book("thing", Policy()).due == -math.inf
