"""What borrowers do: ask, look, get, wait, give back, give up."""

import pytest

from worker.pool.chores import Close, Open, Wake
from worker.pool.entry import Reason, State
from worker.pool.errors import PoolFull, PoolTimeout
from worker.pool.ticket import Ticket

# -- lending -----------------------------------------------------------------------------------------------------------


def test_an_idle_entry_is_reserved_until_it_was_found_healthy(make_desk):
    desk = make_desk("a")
    ticket = desk.ask("job 7")
    assert (ticket.entry.state, ticket.entry.borrower, desk.chores) == (State.RESERVED, "job 7", [])
    assert repr(desk.book) == "<Book 'thing' leased 0, reserved 1, idle 0, opening 0 | waiting 0 | max 1>"
    desk.lend(ticket)
    assert repr(desk.book) == "<Book 'thing' leased 1, idle 0, opening 0 | waiting 0 | max 1>"
    assert repr(ticket.entry) == "<Entry 'a' leased to 'job 7', uses 1>"


def test_asking_answers_with_the_entry_or_with_the_ticket(make_desk, clock):
    desk = make_desk("a")
    first: Ticket[str] = Ticket()
    second: Ticket[str] = Ticket()
    assert desk.book.ask(first, clock.now) == (first.entry, [])
    assert desk.book.ask(second, clock.now) == (second, [])


def test_the_entry_used_last_goes_out_first(make_desk):
    desk = make_desk("a", "b")
    first, second = desk.lease(), desk.lease()
    desk.give_back(first)
    desk.clock.advance(1)
    desk.give_back(second)
    assert [desk.lease().resource, desk.lease().resource] == [second.resource, first.resource]
    assert desk.figures("leases", "reused", "waits") == (4, 2, 0)


def test_who_finds_nothing_idle_waits_while_another_is_opened(make_desk):
    desk = make_desk(min_size=0, max_size=2)
    ticket = desk.ask()
    assert (ticket.settled, desk.chores) == (False, [Open()])
    desk.opened("new")
    assert desk.chores == [Wake(ticket)]
    assert (ticket.entry.resource, ticket.entry.state) == ("new", State.LEASED)


@pytest.mark.parametrize("max_size", [1, 2])
def test_never_more_than_the_largest_size_is_opened(make_desk, max_size):
    desk = make_desk(min_size=0, max_size=max_size, openers=9)
    for _ in range(max_size):
        desk.ask()
        assert desk.chores == [Open()]
    desk.ask()
    assert desk.chores == []
    assert desk.figures("size", "opening", "waiting") == (max_size, max_size, max_size + 1)


def test_what_is_given_back_goes_straight_to_whoever_waits_longest(make_desk):
    desk = make_desk("a")
    entry = desk.lease()
    first, second = desk.ask("first"), desk.ask("second")
    desk.give_back(entry)
    assert desk.chores == [Wake(first)]
    assert (first.entry, entry.state, entry.borrower, second.settled) == (entry, State.LEASED, "first", False)


def test_a_return_may_serve_whoever_an_open_was_meant_for(make_desk):
    desk = make_desk(min_size=0, max_size=2)
    first = desk.ask()
    desk.opened("a")
    second = desk.ask()
    assert desk.chores == [Open()]
    desk.give_back(first.entry)
    assert second.entry.resource == "a"
    desk.opened("b")
    (closing,) = desk.chores
    assert (closing.entry.resource, closing.reason) == ("b", Reason.SURPLUS)


@pytest.mark.parametrize("max_waiting", [0, 1, 2])
def test_no_more_wait_than_may_wait(make_desk, max_waiting):
    desk = make_desk("a", max_waiting=max_waiting)
    desk.lease()
    waiting = [desk.ask() for _ in range(max_waiting)]
    turned_away = desk.ask()
    assert not any(ticket.settled for ticket in waiting)
    assert isinstance(turned_away.error, PoolFull)
    assert f"waiting {max_waiting}, max 1" in str(turned_away.error)
    assert desk.figures("rejected", "waits") == (1, max_waiting)


# -- health ------------------------------------------------------------------------------------------------------------


def test_an_unhealthy_entry_is_closed_and_the_next_idle_one_is_tried(make_desk):
    desk = make_desk("a", "b")
    desk.give_back(desk.lease())
    ticket = desk.ask()
    sick = ticket.entry
    desk.reject(ticket)
    assert desk.chores == [Close(sick, Reason.UNHEALTHY), Open()]
    assert (sick.state, sick.resource, ticket.entry.resource) == (State.GONE, "b", "a")
    assert desk.figures("discarded", "discarded_unhealthy") == (1, 1)


def test_with_the_last_idle_entry_unhealthy_the_ticket_waits_for_its_replacement(make_desk):
    desk = make_desk("a")
    desk.give_back(desk.lease())
    ticket = desk.ask()
    desk.reject(ticket)
    assert (ticket.settled, desk.chores[1:]) == (False, [Open()])
    desk.opened("b")
    assert ticket.entry.resource == "b"


def test_whoever_got_an_unhealthy_entry_keeps_its_place_in_the_queue(make_desk):
    desk = make_desk("a")
    desk.give_back(desk.lease())
    first, second = desk.ask(), desk.ask()
    desk.reject(first)
    desk.opened("b")
    assert (first.entry.resource, second.settled) == ("b", False)


def test_whoever_got_an_unhealthy_entry_gets_the_next_one_before_those_behind(make_desk):
    desk = make_desk("a", "b", max_leased=1)
    first, second = desk.ask(), desk.ask()
    desk.reject(first)
    assert (first.entry.resource, second.settled) == ("a", False)


# -- giving back -------------------------------------------------------------------------------------------------------


def test_what_is_not_reusable_is_closed_and_replaced(make_desk):
    desk = make_desk("a")
    entry = desk.lease()
    desk.give_back(entry, keep=False)
    assert desk.chores == [Close(entry, Reason.NOT_REUSABLE), Open()]
    assert desk.figures("discarded_not_reusable", "retired", "opening") == (1, 0, 1)


def test_what_is_past_its_lifetime_is_retired_when_it_comes_back(make_desk):
    desk = make_desk("a", max_lifetime=60)
    entry = desk.lease()
    desk.clock.advance(60)
    desk.give_back(entry)
    assert desk.chores == [Close(entry, Reason.MAX_LIFETIME), Open()]


def test_a_long_lease_is_no_idleness(make_desk):
    desk = make_desk("a", max_idle=50)
    entry = desk.lease()
    desk.clock.advance(51)
    desk.give_back(entry)
    assert (desk.chores, entry.state) == ([], State.IDLE)


def test_what_was_reserved_for_an_interrupted_borrower_can_be_given_back(make_desk):
    desk = make_desk("a")
    ticket = desk.ask()
    desk.give_back(desk.withdraw(ticket))
    assert repr(desk.book) == "<Book 'thing' leased 0, idle 1, opening 0 | waiting 0 | max 1>"
    assert desk.figures("leases", "use_seconds_max") == (0, 0)


def test_what_was_reserved_and_never_lent_has_idled_all_the_same(make_desk):
    desk = make_desk("a", max_unused=20)
    (entry,) = desk.book.stock.idle
    desk.clock.advance(19)
    desk.give_back(desk.withdraw(desk.ask()))
    desk.clock.advance(1)
    desk.tend()
    assert Close(entry, Reason.MAX_IDLE) in desk.chores


# -- giving up ---------------------------------------------------------------------------------------------------------


def test_at_the_deadline_the_ticket_fails_with_the_statistics(make_desk):
    desk = make_desk("a")
    desk.lease()
    ticket = desk.ask()
    desk.clock.advance(5)
    desk.expire(ticket)
    assert isinstance(ticket.error, PoolTimeout)
    assert str(ticket.error) == "no thing free after 5.0 s (leased 1, idle 0, opening 0, waiting 1, max 1)"
    assert desk.figures("timeouts", "waiting") == (1, 0)


def test_the_last_error_of_an_open_explains_a_timeout_until_the_next_success(make_desk):
    desk = make_desk(min_size=1)
    desk.open_failed(ConnectionRefusedError("wss://secret"))
    ticket = desk.ask()
    desk.expire(ticket)
    assert str(ticket.error).endswith("; last error: ConnectionRefusedError")
    desk.clock.advance(1)
    desk.tend()
    desk.opened("a")
    assert desk.book.timeout("late", 1.0).last_error == ""


def test_a_gift_in_the_moment_of_the_deadline_is_kept(make_desk):
    desk = make_desk("a")
    entry = desk.lease()
    ticket = desk.ask()
    desk.give_back(entry)
    desk.expire(ticket)
    assert (ticket.entry, ticket.error) == (entry, None)


@pytest.mark.parametrize("waiting", [0, 1, 2])
def test_who_is_turned_away_waits_no_longer_wherever_in_the_line_he_is(make_desk, clock, waiting):
    desk = make_desk("a")
    entry = desk.lease("job 6")
    names = ["job 1", *["job 7"] * waiting, "job 2"]
    tickets = [desk.ask(name) for name in names]
    clock.advance(3)
    desk.turn_away("job 7")
    assert desk.chores == [Wake(ticket) for ticket in tickets[1:-1]]
    for ticket in tickets[1:-1]:
        assert isinstance(ticket.error, PoolTimeout) and "no thing free after 3.0 s" in str(ticket.error)
    assert desk.figures("timeouts", "waiting") == (waiting, 2)
    desk.give_back(entry)
    assert (tickets[0].entry, tickets[-1].settled) == (entry, False)


def test_what_he_has_already_he_keeps(make_desk):
    desk = make_desk("a", "b")
    entry, ticket = desk.lease("job 7"), desk.ask("job 7")
    desk.turn_away("job 7")
    assert (desk.chores, ticket.error, desk.figures("leased", "reserved")) == ([], None, (1, 1))
    desk.lend(ticket)
    desk.give_back(entry)
    desk.turn_away("job 7")
    assert desk.figures("leased", "idle", "timeouts") == (1, 1, 0)


def test_who_asks_later_under_that_name_waits_as_usual(make_desk):
    desk = make_desk("a")
    entry = desk.lease()
    desk.turn_away("job 7")
    ticket = desk.ask("job 7")
    desk.give_back(entry)
    assert ticket.entry is entry


def test_whom_he_stood_before_gets_what_was_kept_for_him(make_desk, clock):
    """He waited for something new, and as long as he did one place less was lent."""
    desk = make_desk("a", "b", max_leased=1)
    clock.advance(1)
    entry, new, any_one = desk.lease(), desk.ask("job 7", fresh=True), desk.ask("job 8")
    again = desk.ask("job 7")
    desk.give_back(entry)
    assert not any_one.settled and not again.settled
    desk.turn_away("job 7")
    assert desk.chores == [Wake(new), Wake(again), Wake(any_one)]
    assert (new.entry, again.entry, any_one.entry) == (None, None, entry)


def test_a_withdrawn_ticket_gets_nothing_any_more(make_desk):
    desk = make_desk("a")
    entry = desk.lease()
    gone, patient = desk.ask(), desk.ask()
    assert desk.withdraw(gone) is None
    desk.give_back(entry)
    assert (gone.entry, patient.entry) == (None, entry)


def test_a_gift_to_a_ticket_withdrawn_too_late_is_not_lost(make_desk):
    desk = make_desk("a")
    entry = desk.lease()
    interrupted, patient = desk.ask(), desk.ask()
    desk.give_back(entry)
    assert desk.withdraw(interrupted) is entry
    desk.give_back(entry)
    assert patient.entry is entry


def test_a_ticket_that_never_asked_can_be_withdrawn(make_desk):
    assert make_desk("a").withdraw(Ticket()) is None


# -- how long it took --------------------------------------------------------------------------------------------------


def test_it_is_known_how_long_borrowers_waited_and_kept_things(make_desk):
    desk = make_desk("a")
    entry = desk.lease()
    ticket = desk.ask()
    desk.clock.advance(3)
    desk.give_back(entry)
    desk.clock.advance(1)
    desk.give_back(ticket.entry)
    assert desk.figures("leases", "waits", "borrow_seconds_total", "borrow_seconds_max") == (2, 1, 3.0, 3.0)
    assert desk.figures("borrow_seconds_p50", "borrow_seconds_p95") == (3.0, 3.0)
    assert desk.figures("use_seconds_total", "use_seconds_max", "use_seconds_p50") == (4.0, 3.0, 3.0)
    assert desk.figures("connect_seconds_total", "connect_seconds_max", "connect_seconds_p50") == (0.5, 0.5, 0.5)


def test_who_gives_up_has_borrowed_nothing(make_desk):
    desk = make_desk("a")
    desk.lease()
    ticket = desk.ask()
    desk.clock.advance(5)
    desk.expire(ticket)
    assert desk.figures("leases", "borrow_seconds_max") == (1, 0.0)
