"""Recognisers of one age are not replaced at one moment: somebody who comes meanwhile finds one."""

import dataclasses

import pytest

from worker.pool.chores import Close
from worker.pool.entry import Reason


def closed(desk):
    return [chore.entry.resource for chore in desk.chores if isinstance(chore, Close)]


@pytest.mark.parametrize(
    ("count", "first"), [(1, []), (2, ["a"]), (3, ["a"]), (4, ["a", "b"])], ids=["one", "two", "three", "four"]
)
def test_at_their_age_at_most_half_of_the_idle_ones_leave_at_once(make_desk, count, first):
    desk = make_desk(*"abcd"[:count], max_unused=20, grace=5)
    desk.clock.advance(20)
    desk.tend()
    assert closed(desk) == first


@pytest.mark.parametrize(("rate", "leaving"), [(1.0, 1), (2.0, 2), (9.0, 2)])
def test_within_the_grace_no_more_leave_than_can_be_replaced_until_the_next_look(make_desk, rate, leaving):
    desk = make_desk("a", "b", "c", "d", max_unused=20, grace=5)
    desk.book.policy = dataclasses.replace(desk.book.policy, opens_per_second=rate)
    desk.clock.advance(20)
    desk.tend()
    assert len(closed(desk)) == leaving


def test_within_the_grace_what_is_missed_already_is_replaced_first(make_desk):
    desk = make_desk("a", "b", "c", "d", max_size=6, max_unused=20, grace=5)
    desk.resize(5, 6)
    desk.book.policy = dataclasses.replace(desk.book.policy, opens_per_second=2.0)
    desk.clock.advance(20)
    desk.tend()
    assert len(closed(desk)) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_after_the_grace_all_leave(make_desk, count):
    desk = make_desk(*"abc"[:count], max_unused=20, grace=5)
    desk.clock.advance(25)
    desk.tend()
    assert len(closed(desk)) == count


def test_those_beyond_the_grace_leave_before_those_within_it(make_desk):
    desk = make_desk("a", "b", "c", "d", max_unused=20, max_idle=20, grace=5)
    used = desk.lease()
    desk.clock.advance(4)
    desk.give_back(used)
    desk.clock.advance(21)
    desk.tend()
    assert sorted(closed(desk)) == sorted({"a", "b", "c", "d"} - {used.resource})


@pytest.mark.parametrize(("age", "lent"), [(20, True), (24.9, True), (25, False)])
def test_within_the_grace_one_is_still_lent(make_desk, age, lent):
    desk = make_desk("a", max_unused=20, grace=5)
    desk.clock.advance(age)
    ticket = desk.ask()
    assert (ticket.entry is not None) is lent
    assert [chore.reason for chore in desk.chores if isinstance(chore, Close)] == [Reason.MAX_IDLE] * (not lent)


def test_one_after_the_other_is_replaced_and_never_none_is_there(make_desk):
    desk = make_desk("a", "b", max_unused=20, grace=5)
    desk.clock.advance(20)
    for leaving, coming in (("a", "c"), ("b", "d")):
        desk.tend()
        assert closed(desk) == [leaving]
        assert len(desk.book.stock.idle) == 1
        desk.opened(coming)
    desk.tend()
    assert closed(desk) == []


def test_at_less_than_one_open_a_second_too_they_leave_one_after_the_other(make_desk):
    desk = make_desk("a", "b", "c", "d", max_unused=20, grace=5)
    desk.book.policy = dataclasses.replace(desk.book.policy, opens_per_second=0.5)
    desk.clock.advance(20)
    leaving = []
    for _ in range(6):
        desk.tend()
        leaving.append(len(closed(desk)))
        while desk.begin():
            desk.opened("new")
        desk.clock.advance(1)
    assert (max(leaving), sum(leaving)) == (1, 4)
