"""Who waits for what: for a place among the lent, or for something new."""

import pytest

from worker.pool.chores import Close, Open, Wake
from worker.pool.entry import Reason, State

# -- lending fewer than there are --------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_leased", [1, 2])
def test_no_more_are_lent_at_once_than_may_be(make_desk, max_leased):
    desk = make_desk("a", "b", "c", max_leased=max_leased)
    for _ in range(max_leased):
        desk.lease()
    ticket = desk.ask()
    assert (ticket.settled, desk.chores, len(desk.idle())) == (False, [], 3 - max_leased)
    assert f"idle {3 - max_leased}, opening 0, waiting 1, max 3, lent at most {max_leased}" in str(
        desk.book.timeout("no thing free", 0.0)
    )


def test_what_is_being_looked_at_for_a_borrower_counts_as_lent(make_desk):
    desk = make_desk("a", "b", max_leased=1)
    first = desk.ask()
    second = desk.ask()
    assert (first.entry.state, second.settled) == (State.RESERVED, False)


def test_nothing_is_opened_for_whom_nothing_may_be_lent(make_desk):
    desk = make_desk(min_size=0, max_size=3, max_leased=1, openers=3)
    desk.ask()
    desk.opened("a")
    desk.ask()
    assert (desk.chores, desk.figures("opening", "waiting")) == ([], (0, 1))


def test_who_waits_beside_idle_entries_gets_one_to_look_at_as_soon_as_another_may_be_lent(make_desk):
    desk = make_desk("a", "b", max_leased=1)
    entry, ticket = desk.lease(), desk.ask("next")
    desk.give_back(entry, keep=False)
    assert desk.chores == [Close(entry, Reason.NOT_REUSABLE), Wake(ticket), Open()]
    assert (ticket.entry.resource, ticket.entry.state, ticket.entry.borrower) == ("a", State.RESERVED, "next")


def test_an_entry_opened_while_no_more_may_be_lent_is_kept_for_the_next(make_desk):
    desk = make_desk(min_size=2, max_size=2, openers=2, max_leased=1)
    first, second = desk.ask(), desk.ask()
    desk.opened("a", "b")
    assert (first.entry.resource, second.settled, desk.idle()) == ("a", False, ["b"])
    desk.give_back(first.entry)
    assert (second.entry.resource, second.entry.state) == ("a", State.LEASED)


# -- something new -----------------------------------------------------------------------------------------------------


def test_who_wants_something_new_gets_only_what_was_never_lent(make_desk):
    desk = make_desk("a", "b")
    used = desk.lease()
    desk.give_back(used)
    ticket = desk.ask(fresh=True)
    assert (ticket.entry.uses, ticket.entry is used) == (0, False)
    desk.lend(ticket)
    assert desk.figures("leases", "fresh", "reused") == (2, 1, 0)


def test_what_was_opened_before_it_was_asked_for_is_not_new_enough(make_desk, clock):
    """It may have died with those that were lent: who asks for a new one has just seen one die."""
    desk = make_desk("a", max_size=2)
    clock.advance(1)
    ticket = desk.ask(fresh=True)
    assert (ticket.settled, desk.chores, desk.idle()) == (False, [Open()], ["a"])
    desk.opened("new")
    assert ticket.entry.resource == "new"


def test_who_takes_anything_takes_what_was_used_last_and_leaves_the_new_one(make_desk, clock):
    desk = make_desk("a", "b")
    clock.advance(1)
    desk.give_back(desk.lease())
    assert desk.ask().entry.uses == 1
    assert [entry.uses for entry in desk.book.stock.idle] == [0]


def test_below_the_largest_size_something_new_is_opened_and_what_is_idle_is_kept(make_desk):
    desk = make_desk("a", max_size=2)
    desk.give_back(desk.lease())
    ticket = desk.ask(fresh=True)
    assert desk.chores == [Open()]
    desk.opened("new")
    assert (ticket.entry.resource, desk.idle()) == ("new", ["a"])


@pytest.mark.parametrize("askers", [0, 1, 2])
def test_at_the_largest_size_room_is_made_by_ending_what_was_used_longest_ago(make_desk, clock, askers):
    desk = make_desk("a", "b", "c", openers=3)
    for entry in [desk.lease() for _ in range(3)]:
        clock.advance(1)
        desk.give_back(entry)
    oldest = list(desk.book.stock.idle)
    for entry in oldest[:askers]:
        desk.ask(fresh=True)
        assert desk.chores == [Close(entry, Reason.REPLACED), Open()]
    assert desk.figures("idle", "opening", "retired_replaced") == (3 - askers, askers, askers)


def test_a_return_does_not_suit_who_wants_something_new_but_makes_room_for_it(make_desk):
    desk = make_desk("a")
    entry, ticket = desk.lease(), desk.ask(fresh=True)
    assert desk.chores == []
    desk.give_back(entry)
    assert desk.chores == [Close(entry, Reason.REPLACED), Open()]
    desk.opened("new")
    assert ticket.entry.resource == "new"


def test_a_return_goes_to_whoever_it_suits_while_something_new_is_opened_for_the_one_before(make_desk):
    desk = make_desk("a", min_size=1, max_size=2)
    entry, new, any_one = desk.lease(), desk.ask(fresh=True), desk.ask()
    desk.give_back(entry)
    assert desk.chores == [Wake(any_one)]
    desk.opened("b")
    assert (any_one.entry, new.entry.resource) == (entry, "b")


def test_what_was_opened_goes_to_the_oldest_whether_it_needs_something_new_or_not(make_desk):
    desk = make_desk("a", max_size=2)
    desk.lease()
    any_one, new = desk.ask(), desk.ask(fresh=True)
    desk.opened("b")
    assert (any_one.entry.resource, new.settled) == ("b", False)


def test_who_wants_something_new_waits_for_what_is_looked_at_and_then_for_an_open(make_desk, clock):
    desk = make_desk("a")
    desk.give_back(desk.lease())
    clock.advance(5)
    entry, ticket = desk.examine(), desk.ask(fresh=True)
    assert desk.chores == []
    desk.vouch(entry)
    assert (desk.chores, ticket.settled) == ([Close(entry, Reason.REPLACED), Open()], False)


def test_nothing_idle_is_given_up_for_something_new_before_its_time(make_desk, clock):
    """The room is made when the open is ordered: during a back-off what is warm stays warm."""
    desk = make_desk("a", backoff_first=1.0)
    desk.give_back(desk.lease())
    desk.resize(1, 2)
    desk.ask(fresh=True)
    desk.open_failed(OSError())
    desk.resize(1, 1)
    assert (desk.chores, desk.idle()) == ([], ["a"])
    clock.advance(1)
    desk.tend()
    assert [type(chore) for chore in desk.chores] == [Close, Open]


def test_one_who_wants_something_new_is_not_passed_over_for_ever(make_desk):
    """A place is kept for it, else what comes back would always go to those behind it, who take anything."""
    desk = make_desk("a", "b")
    held = [desk.lease(), desk.lease()]
    first = desk.ask(fresh=True)
    for _ in range(5):
        others = [desk.ask(), desk.ask()]
        for entry in held:
            desk.give_back(entry)
        while desk.begin():
            desk.opened("new")
        held = [ticket.entry for ticket in others if ticket.entry]
    assert first.entry.resource == "new"


def test_one_who_wants_something_new_is_not_passed_over_for_ever_where_fewer_are_lent_than_there_are(make_desk):
    desk = make_desk("a", "b", max_leased=1)
    held = desk.lease()
    first, others = desk.ask(fresh=True), []
    for _ in range(5):
        others.append(desk.ask())
        desk.give_back(held)
        held = next(ticket.entry for ticket in [first, *others] if ticket.entry and not ticket.entry.ended)
    assert first.entry is not None


def test_who_finds_the_only_new_one_unhealthy_lets_those_behind_have_the_others(make_desk):
    desk = make_desk("a", "b", max_leased=1)
    desk.give_back(desk.lease())
    new, any_one = desk.ask(fresh=True), desk.ask()
    assert not any_one.settled  # only one may be lent
    desk.reject(new)
    assert (Wake(any_one) in desk.chores, any_one.entry.resource) == (True, "b")
