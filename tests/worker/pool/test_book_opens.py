"""What is opened, when, how many at once, and what becomes of it."""

import math

import pytest

from worker.pool.book import TEND_EVERY, Book
from worker.pool.chores import Close, Open, Wake
from worker.pool.entry import Reason
from worker.pool.policy import Policy
from worker.pool.stock import LOST_AFTER

# -- warming -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("min_size", [0, 1, 2])
def test_tending_opens_what_is_missing_to_the_smallest_size(clock, min_size):
    book: Book[str] = Book("thing", Policy(min_size=min_size, max_size=2, openers=2, opens_per_second=math.inf))
    assert book.tend(clock.now) == (None, [Open()] * min_size)
    assert book.tend(clock.now) == (None, [])
    assert repr(book) == f"<Book 'thing' leased 0, idle 0, opening {min_size} | waiting 0 | max 2>"


@pytest.mark.parametrize("openers", [1, 2])
def test_no_more_is_opened_at_once_than_there_are_openers(make_desk, openers):
    desk = make_desk(min_size=3, max_size=3, openers=openers)
    assert desk.book.stock.opening == openers
    desk.opened("first")
    assert desk.chores == [Open()]


def test_what_was_opened_is_idle_when_nobody_waits(make_desk):
    desk = make_desk("a", "b")
    assert repr(desk.book) == "<Book 'thing' leased 0, idle 2, opening 0 | waiting 0 | max 2>"
    assert desk.figures("created", "overflow", "connect_seconds_total") == (2, 0, 1.0)


def test_opens_that_are_due_later_are_not_ordered_yet(clock):
    book: Book[str] = Book("thing", Policy(min_size=2, openers=2, opens_per_second=2.0), lambda: 0.5)
    assert book.tend(clock.now)[1] == [Open()]
    assert book.due == 0.5
    assert book.tend(0.4)[1] == []
    assert book.tend(0.5)[1] == [Open()]
    assert book.due == 0.5 + TEND_EVERY


@pytest.mark.parametrize(("draw", "interval"), [(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)])
def test_opens_are_spaced_by_half_to_one_and_a_half_of_the_interval(make_desk, clock, draw, interval):
    desk = make_desk(min_size=2, max_size=2, openers=2, opens_per_second=0.5, draw=draw)
    assert desk.begin()
    for late, ordered in ((interval - 0.01, 1), (0.01, 2)):
        clock.advance(late)
        desk.tend()
        assert desk.book.stock.opening == ordered


def test_warming_begins_at_a_moment_of_its_own(make_desk, clock):
    desk = make_desk(min_size=1, spread=10.0, draw=0.4)
    assert (desk.chores, desk.book.due) == ([], TEND_EVERY)
    clock.advance(3.9)
    desk.tend()
    assert (desk.chores, desk.book.due) == ([], 4.0)
    clock.advance(0.1)
    desk.tend()
    assert desk.chores == [Open()]


def test_who_waits_does_not_wait_for_the_moment_when_warming_begins(make_desk):
    desk = make_desk(min_size=2, max_size=2, openers=2, spread=10.0)
    ticket = desk.ask()
    assert desk.chores == [Open()]
    desk.opened("a")
    assert (desk.chores, ticket.entry.resource) == ([Wake(ticket)], "a")  # the other one can wait


def test_who_waits_does_wait_for_the_pace(make_desk, clock):
    desk = make_desk(min_size=0, max_size=2, openers=2, opens_per_second=1.0, draw=0.5)
    desk.ask()
    desk.ask()
    assert (desk.chores, desk.book.stock.opening, desk.book.due) == ([], 1, 1.0)
    clock.advance(1.0)
    desk.tend()
    assert desk.chores == [Open()]


# -- overflow ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 2])
def test_above_the_smallest_size_is_opened_only_for_who_waits(make_desk, room):
    desk = make_desk("a", min_size=1, max_size=1 + room, openers=4)
    desk.lease()
    desk.tend()
    assert desk.chores == []
    tickets = [desk.ask() for _ in range(3)]
    assert desk.book.stock.opening == room
    desk.opened(*"bcd"[:room])
    assert [ticket.settled for ticket in tickets] == [True] * room + [False] * (3 - room)
    assert desk.figures("overflow", "size") == (room, 1 + room)


@pytest.mark.parametrize("min_size", [0, 1, 2])
def test_what_comes_back_when_nobody_waits_is_idle_up_to_the_smallest_size_and_surplus_beyond(make_desk, min_size):
    desk = make_desk(min_size=min_size, max_size=3, openers=3)
    tickets = [desk.ask() for _ in range(3)]
    desk.opened("a", "b", "c")
    ended = []
    for ticket in tickets:
        desk.give_back(ticket.entry)
        ended += desk.chores
    assert ended == [Close(ticket.entry, Reason.SURPLUS) for ticket in tickets[: 3 - min_size]]
    assert desk.figures("idle", "leased", "retired_surplus", "overflow") == (min_size, 0, 3 - min_size, 3 - min_size)


def test_what_comes_back_while_somebody_waits_is_no_surplus(make_desk):
    desk = make_desk(min_size=0, max_size=1)
    first, second = desk.ask(), desk.ask()
    desk.opened("a")
    desk.give_back(first.entry)
    assert desk.chores == [Wake(second)]


def test_an_overflow_whose_asker_gave_up_is_ended_when_it_comes(make_desk):
    desk = make_desk(min_size=0, max_size=1)
    desk.expire(desk.ask())
    desk.opened("a")
    assert [chore.reason for chore in desk.chores] == [Reason.SURPLUS]
    assert desk.figures("size", "created") == (0, 1)


# -- orders that get lost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "lost"), [(LOST_AFTER - 0.1, False), (LOST_AFTER, True)])
def test_an_open_that_was_ordered_and_never_began_is_ordered_again(make_desk, late, lost):
    desk = make_desk(min_size=1)
    desk.clock.advance(late)
    desk.tend()
    assert desk.chores == ([Open()] if lost else [])
    assert (desk.begin(), desk.begin()) == (True, False)  # should both turn up, one is enough
    assert desk.book.stock.opening == 1


def test_an_open_that_takes_long_is_not_taken_for_lost(make_desk):
    desk = make_desk(min_size=1)
    assert desk.begin()
    desk.clock.advance(LOST_AFTER)
    desk.tend()
    assert (desk.chores, desk.book.stock.opening) == ([], 1)
