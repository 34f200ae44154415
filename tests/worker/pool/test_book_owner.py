"""What the owner does: resize, close, fork."""

import math

import pytest

from worker.pool.chores import Close, Open, Wake
from worker.pool.entry import Reason, State
from worker.pool.errors import PoolClosed

# -- resizing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [0, 1, 2])
def test_a_larger_book_opens_what_it_is_to_keep_in_addition(make_desk, more):
    desk = make_desk("a", "b", openers=9)
    desk.resize(2 + more, 4)
    assert (desk.chores, desk.idle()) == ([Open()] * more, ["a", "b"])
    assert desk.figures("min_size", "max_size", "max_leased") == (2 + more, 4, 4)


@pytest.mark.parametrize("fewer", [0, 1, 2])
def test_a_smaller_book_ends_what_idled_longest(make_desk, clock, fewer):
    desk = make_desk("a", "b", "c", openers=1)
    for last_used, entry in enumerate(desk.book.stock.idle):
        entry.last_used = last_used
    desk.resize(3 - fewer, 3)
    assert [chore.entry.resource for chore in desk.chores] == list("abc"[:fewer])
    assert {chore.reason for chore in desk.chores} <= {Reason.SURPLUS}
    assert desk.idle() == list("abc"[fewer:])


def test_what_is_lent_is_never_taken_away_and_shrinks_the_book_when_it_comes_back(make_desk):
    desk = make_desk("a", "b", "c")
    leased = [desk.lease() for _ in range(3)]
    desk.resize(1, 1)
    assert (desk.chores, desk.figures("leased", "size")) == ([], (3, 3))
    for entry in leased[:2]:
        desk.give_back(entry)
        assert desk.chores == [Close(entry, Reason.SURPLUS)]
    desk.give_back(leased[2])
    assert (desk.chores, desk.idle()) == ([], [leased[2].resource])


def test_a_smaller_book_shrinks_even_while_somebody_waits(make_desk):
    desk = make_desk("a", "b")
    first, second = desk.lease(), desk.lease()
    desk.resize(1, 1)
    ticket = desk.ask()
    desk.give_back(first)
    assert (desk.chores, ticket.settled) == ([Close(first, Reason.SURPLUS)], False)
    desk.give_back(second)
    assert (desk.chores, ticket.entry) == ([Wake(ticket)], second)


def test_what_was_being_opened_for_a_larger_book_is_surplus_in_a_smaller_one(make_desk):
    desk = make_desk(min_size=2, max_size=2, openers=2)
    desk.resize(0, 1)
    desk.opened("a")
    assert [chore.reason for chore in desk.chores] == [Reason.SURPLUS]
    desk.resize(1, 1)
    desk.opened("b")
    assert desk.idle() == ["b"]


def test_who_waits_for_room_gets_it_from_a_larger_book(make_desk):
    desk = make_desk("a")
    desk.lease()
    ticket = desk.ask()
    desk.resize(1, 2)
    assert (desk.chores, ticket.settled) == ([Open()], False)


def test_a_size_that_cannot_be_changes_nothing(make_desk):
    desk = make_desk("a")
    with pytest.raises(ValueError, match="min_size=2 must be between 0 and max_size=1"):
        desk.resize(2, 1)
    assert desk.figures("min_size", "max_size", "idle") == (1, 1, 1)


# -- closing -----------------------------------------------------------------------------------------------------------


def test_closing_ends_what_is_idle_and_fails_who_waits(make_desk):
    idle = make_desk("a", "b")
    entries = list(idle.book.stock.idle)
    idle.close()
    assert idle.chores == [Close(entry, Reason.CLOSED) for entry in entries]
    busy = make_desk("a")
    busy.lease()
    ticket = busy.ask()
    busy.close()
    assert busy.chores == [Wake(ticket)]
    assert isinstance(ticket.error, PoolClosed)


def test_a_closed_book_says_so_and_lends_nothing(make_desk):
    desk = make_desk("a")
    desk.close()
    assert repr(desk.book) == "<Book 'thing' closed, leased 0, idle 0, opening 0 | waiting 0 | max 1>"
    assert isinstance(desk.ask().error, PoolClosed)
    assert desk.chores == []


def test_what_comes_back_to_a_closed_book_is_closed(make_desk, clock):
    desk = make_desk("a", "b", "c")
    kept, dirty = desk.lease(), desk.lease()
    clock.advance(5)
    examined = desk.examine()
    desk.close()
    desk.give_back(kept)
    assert desk.chores == [Close(kept, Reason.CLOSED)]
    desk.give_back(dirty, keep=False)
    assert desk.chores == [Close(dirty, Reason.NOT_REUSABLE)]
    desk.vouch(examined)
    assert desk.chores == [Close(examined, Reason.CLOSED)]


def test_what_is_opened_for_a_closed_book_is_closed(make_desk):
    desk = make_desk(min_size=1)
    assert desk.begin()
    desk.close()
    desk.opened("late")
    (closing,) = desk.chores
    assert (closing.entry.resource, closing.reason) == ("late", Reason.CLOSED)


def test_a_closed_book_orders_nothing_more(make_desk):
    desk = make_desk(min_size=2, max_size=2, openers=2)
    assert desk.begin()
    desk.close()
    desk.tend()
    assert desk.chores == []
    assert not desk.begin()
    desk.open_failed(OSError())
    assert (desk.chores, desk.book.stock.opening) == ([], 0)


def test_closing_twice_is_closing_once(make_desk):
    desk = make_desk("a")
    desk.close()
    desk.close()
    assert (desk.chores, desk.figures("retired")) == ([], (1,))


# -- forking -----------------------------------------------------------------------------------------------------------


def test_a_child_lets_go_of_all_that_its_parent_holds_and_starts_afresh(make_desk, clock):
    desk = make_desk("a", "b", "c", "d", max_size=5)
    desk.lease()
    desk.ask()
    clock.advance(5)
    desk.examine()
    inherited = list(desk.book.stock)
    desk.fork()
    assert desk.chores == [Close(entry, Reason.FORKED) for entry in inherited]
    assert (len(inherited), {entry.state for entry in inherited}) == (4, {State.GONE})
    assert repr(desk.book) == "<Book 'thing' leased 0, idle 0, opening 0 | waiting 0 | max 5>"
    assert desk.figures("created", "leases", "discarded_forked") == (0, 0, 4)


def test_a_child_forgets_who_waits_and_what_is_being_opened(make_desk):
    desk = make_desk(min_size=0, max_size=1)
    desk.ask()
    desk.fork()
    assert (desk.chores, desk.figures("waiting", "opening", "waits"), desk.begin()) == ([], (0, 0, 0), False)


def test_a_child_has_no_share_in_its_parent_s_outage(make_desk):
    desk = make_desk(min_size=1, backoff_first=30.0)
    desk.open_failed(OSError())
    desk.fork()
    assert (desk.book.last_error, desk.book.due) == ("", -math.inf)
    desk.tend()
    assert desk.chores == [Open()]


def test_a_child_warms_as_many_as_its_parent_was_resized_to(make_desk):
    desk = make_desk("a", openers=2)
    desk.resize(2, 2)
    desk.fork()
    desk.tend()
    assert desk.chores == [Open(), Open()]
