import math
import random

import pytest

from worker.pool.book import LOST_AFTER, TEND_EVERY, Book
from worker.pool.chores import Close, Open, Report, Tend, Wake
from worker.pool.entry import Reason, State
from worker.pool.errors import OpenFailed, PoolClosed, PoolFull, PoolTimeout
from worker.pool.policy import Policy
from worker.pool.ticket import Ticket


class Refused(Exception):
    retryable = False


def figures(desk, *names):
    return tuple(desk.book.figures()[name] for name in names)


# -- warming -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("min_size", [0, 1, 2])
def test_tending_opens_what_is_missing_to_the_smallest_size(clock, min_size):
    book: Book[str] = Book("thing", Policy(min_size=min_size, max_size=2, openers=2))
    assert book.tend(clock.now) == (None, [Open()] * min_size + [Tend(TEND_EVERY)])
    assert book.tend(clock.now) == (None, [Tend(TEND_EVERY)])
    assert repr(book) == f"<Book 'thing' leased 0, idle 0, opening {min_size} | waiting 0 | max 2>"


@pytest.mark.parametrize("openers", [1, 2])
def test_no_more_is_opened_at_once_than_there_are_openers(clock, openers):
    book: Book[str] = Book("thing", Policy(min_size=3, max_size=3, openers=openers))
    assert book.tend(clock.now)[1][:-1] == [Open()] * openers
    assert book.opened("first", 0.5, clock.now) == (None, [Open()])


def test_what_was_opened_is_idle_when_nobody_waits(make_desk):
    desk = make_desk("a", "b")
    assert repr(desk.book) == "<Book 'thing' leased 0, idle 2, opening 0 | waiting 0 | max 2>"
    assert figures(desk, "created", "connect_seconds_total", "connect_seconds_max") == (2, 1.0, 0.5)


# -- lending -----------------------------------------------------------------------------------------------------------


def test_an_idle_entry_is_reserved_until_it_was_found_healthy(make_desk):
    desk = make_desk("a")
    ticket = desk.ask("job 7")
    assert (ticket.entry.state, ticket.entry.borrower, desk.chores) == (State.RESERVED, "job 7", [])
    assert repr(desk.book) == "<Book 'thing' leased 0, reserved 1, idle 0, opening 0 | waiting 0 | max 1>"
    desk.book.lend(ticket.entry, desk.clock.now)
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
    desk.give_back(second)
    assert [desk.lease().resource, desk.lease().resource] == [second.resource, first.resource]
    assert figures(desk, "leases", "reused", "waits") == (4, 2, 0)


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
    assert figures(desk, "size", "opening", "waiting") == (max_size, max_size, max_size + 1)


def test_what_is_given_back_goes_straight_to_whoever_waits_longest(make_desk):
    desk = make_desk("a")
    entry = desk.lease()
    first, second = desk.ask("first"), desk.ask("second")
    desk.clock.advance(3)
    desk.give_back(entry)
    assert desk.chores == [Wake(first)]
    assert (first.entry, entry.state, entry.borrower, second.settled) == (entry, State.LEASED, "first", False)
    assert figures(desk, "waits", "wait_seconds_total", "wait_seconds_max") == (2, 3.0, 3.0)


def test_a_return_may_serve_whoever_an_open_was_meant_for(make_desk):
    desk = make_desk(min_size=0, max_size=2)
    desk.ask()
    desk.opened("a")
    ticket = desk.ask()
    assert desk.chores == [Open()]
    desk.give_back(next(iter(desk.book._leased)))
    assert ticket.entry.resource == "a"
    assert not desk.still_wanted()
    assert figures(desk, "opening", "size") == (0, 1)


def test_an_open_is_still_wanted_below_the_smallest_size_or_while_somebody_waits(make_desk, clock):
    book: Book[str] = Book("thing", Policy(min_size=1, max_size=2))
    book.tend(clock.now)
    assert book.still_wanted(clock.now) == (True, [])
    desk = make_desk(min_size=0, max_size=1)
    desk.ask()
    assert desk.still_wanted()


@pytest.mark.parametrize("max_waiting", [0, 1, 2])
def test_no_more_wait_than_may_wait(make_desk, max_waiting):
    desk = make_desk("a", max_waiting=max_waiting)
    desk.lease()
    waiting = [desk.ask() for _ in range(max_waiting)]
    turned_away = desk.ask()
    assert not any(ticket.settled for ticket in waiting)
    assert isinstance(turned_away.error, PoolFull)
    assert f"waiting {max_waiting}, max 1" in str(turned_away.error)
    assert figures(desk, "rejected", "waits") == (1, max_waiting)


# -- health ------------------------------------------------------------------------------------------------------------


def test_an_unhealthy_entry_is_closed_and_the_next_idle_one_is_tried(make_desk):
    desk = make_desk("a", "b")
    ticket = desk.ask()
    sick = ticket.entry
    desk.reject(ticket)
    assert desk.chores == [Close(sick, Reason.UNHEALTHY), Open()]
    assert (sick.state, ticket.entry.resource) == (State.GONE, "a")
    assert figures(desk, "discarded", "discarded_unhealthy") == (1, 1)


def test_with_the_last_idle_entry_unhealthy_the_ticket_waits_for_its_replacement(make_desk):
    desk = make_desk("a")
    ticket = desk.ask()
    desk.reject(ticket)
    assert (ticket.settled, desk.chores[1:]) == (False, [Open()])
    desk.opened("b")
    assert ticket.entry.resource == "b"


def test_whoever_got_an_unhealthy_entry_keeps_its_place_in_the_queue(make_desk):
    desk = make_desk("a")
    first = desk.ask()
    second = desk.ask()
    desk.reject(first)
    desk.opened("b")
    assert (first.entry.resource, second.settled) == ("b", False)


# -- giving back -------------------------------------------------------------------------------------------------------


def test_what_is_not_reusable_is_closed_and_replaced(make_desk):
    desk = make_desk("a")
    entry = desk.lease()
    desk.give_back(entry, keep=False)
    assert desk.chores == [Close(entry, Reason.NOT_REUSABLE), Open()]
    assert figures(desk, "discarded_not_reusable", "retired", "opening") == (1, 0, 1)


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


# -- giving up ---------------------------------------------------------------------------------------------------------


def test_at_the_deadline_the_ticket_fails_with_the_statistics(make_desk):
    desk = make_desk("a")
    desk.lease()
    ticket = desk.ask()
    desk.clock.advance(5)
    desk.expire(ticket)
    assert isinstance(ticket.error, PoolTimeout)
    assert str(ticket.error) == "no thing free after 5.0 s (leased 1, idle 0, opening 0, waiting 1, max 1)"
    assert figures(desk, "timeouts", "waiting", "wait_seconds_max") == (1, 0, 5.0)


def test_the_last_error_of_an_open_explains_a_timeout_until_the_next_success(make_desk):
    desk = make_desk(min_size=1)
    desk.open_failed(ConnectionRefusedError("wss://secret"))
    ticket = desk.ask()
    desk.expire(ticket)
    assert str(ticket.error).endswith("; last error: ConnectionRefusedError")
    desk.opened("a")
    assert desk.book.timeout("late", 1.0).last_error == ""


def test_a_gift_in_the_moment_of_the_deadline_is_kept(make_desk):
    desk = make_desk("a")
    entry = desk.lease()
    ticket = desk.ask()
    desk.give_back(entry)
    desk.expire(ticket)
    assert (ticket.entry, ticket.error) == (entry, None)


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


# -- failing opens -----------------------------------------------------------------------------------------------------


def test_a_failed_open_is_tried_again_for_ever_with_back_off_while_somebody_waits(make_desk):
    desk = make_desk(min_size=0, backoff_first=1, backoff_max=4)
    ticket, delays = desk.ask(), []
    for _ in range(5):
        desk.open_failed(OSError())
        delays += desk.chores
        desk.clock.advance(desk.chores[0].delay)
    assert delays == [Open(1), Open(2), Open(4), Open(4), Open(4)]
    assert not ticket.settled
    assert figures(desk, "open_failures", "opening") == (5, 1)


def test_a_failed_open_is_tried_again_below_the_smallest_size(make_desk):
    desk = make_desk(min_size=1)
    desk.open_failed(OSError())
    assert desk.chores == [Open(0.1)]


def test_a_failed_open_that_nobody_misses_is_not_tried_again(make_desk):
    desk = make_desk(min_size=0)
    ticket = desk.ask()
    assert desk.still_wanted()
    desk.withdraw(ticket)
    desk.open_failed(OSError())
    assert desk.chores == []


def test_who_asks_later_still_waits_for_the_end_of_the_back_off(make_desk):
    desk = make_desk(min_size=0, backoff_first=4)
    ticket = desk.ask()
    assert desk.still_wanted()
    desk.withdraw(ticket)
    desk.open_failed(OSError())
    desk.clock.advance(1)
    desk.ask()
    assert desk.chores == [Open(3)]


def test_while_opens_fail_one_at_a_time_probes_and_a_success_frees_the_others(make_desk):
    desk = make_desk(min_size=3, max_size=3, openers=3)
    for left in (2, 1):
        desk.open_failed(OSError())
        assert (desk.chores, desk.book.opening) == ([], left)
    desk.open_failed(OSError())
    assert desk.chores == [Open(0.1)]
    desk.opened("a")
    assert desk.chores == [Open(), Open()]


def test_a_hopeless_error_fails_all_who_wait_at_once(make_desk):
    desk = make_desk(min_size=0, max_size=1)
    tickets, error = [desk.ask(), desk.ask()], Refused()
    desk.open_failed(error)
    assert desk.chores == [Wake(ticket) for ticket in tickets]
    assert [type(ticket.error) for ticket in tickets] == [OpenFailed] * 2
    assert all(ticket.error.error is error for ticket in tickets)


def test_after_a_hopeless_error_newcomers_fail_at_once_until_the_next_try(make_desk):
    desk = make_desk(min_size=0, backoff_first=1)
    desk.ask()
    desk.open_failed(Refused())
    desk.clock.advance(0.9)
    assert isinstance(desk.ask().error, OpenFailed)
    assert desk.chores == []
    desk.clock.advance(0.1)
    assert not desk.ask().settled
    assert desk.chores == [Open()]


def test_after_a_hopeless_error_an_idle_entry_is_lent_all_the_same(make_desk):
    desk = make_desk("a", min_size=1, max_size=2)
    entry = desk.lease()
    desk.ask()
    desk.open_failed(Refused())
    desk.give_back(entry)
    assert desk.ask().entry is entry


def test_a_later_ordinary_error_lets_people_wait_again(make_desk):
    desk = make_desk(min_size=2, max_size=2, openers=2)
    desk.open_failed(Refused())
    desk.open_failed(OSError())
    assert not desk.ask().settled


def test_a_success_after_a_hopeless_error_lets_people_wait_again(make_desk):
    desk = make_desk(min_size=1, max_size=2)
    desk.open_failed(Refused())
    desk.opened("a")
    desk.lease()
    assert not desk.ask().settled


# -- tending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"max_idle": 50}, Reason.MAX_IDLE), ({"max_idle": math.inf, "max_lifetime": 50}, Reason.MAX_LIFETIME)],
)
def test_an_idle_entry_at_its_limit_is_closed_and_replaced(make_desk, limits, reason):
    desk = make_desk("a", **limits)
    (entry,) = desk.book._idle
    desk.clock.advance(49)
    desk.tend()
    assert desk.chores == [Tend(TEND_EVERY)]
    desk.clock.advance(1)
    desk.tend()
    assert desk.chores == [Close(entry, reason), Open(), Tend(TEND_EVERY)]
    assert figures(desk, "retired", f"retired_{reason.value}", "discarded") == (1, 1, 0)


def test_an_overdue_entry_is_never_lent_even_if_tending_is_late(make_desk):
    desk = make_desk("a", max_lifetime=60, max_idle=math.inf)
    (entry,) = desk.book._idle
    desk.clock.advance(61)
    assert not desk.ask().settled
    assert desk.chores == [Close(entry, Reason.MAX_LIFETIME), Open()]


def test_surplus_above_the_smallest_size_is_retired_and_not_replaced(make_desk):
    desk = make_desk("a", min_size=1, max_size=2)
    entry, ticket = desk.lease(), desk.ask()
    desk.opened("b")
    desk.clock.advance(10)
    desk.give_back(entry)
    desk.clock.advance(1)
    desk.give_back(ticket.entry)
    desk.clock.advance(49)
    desk.tend()
    assert desk.chores == [Close(entry, Reason.MAX_IDLE), Tend(TEND_EVERY)]
    assert repr(desk.book) == "<Book 'thing' leased 0, idle 1, opening 0 | waiting 0 | max 2>"


def test_entries_born_together_do_not_end_together(clock):
    draws = iter([0.0, 1.0, 0.5, 0.5])
    policy = Policy(min_size=2, jitter=0.1, max_idle=50, max_lifetime=100)
    book: Book[str] = Book("thing", policy, lambda: next(draws))
    book.tend(clock.now)
    book.opened("a", 0.1, clock.now)
    book.opened("b", 0.1, clock.now)
    assert [(entry.max_idle, entry.max_lifetime) for entry in book._idle] == [(50, 90), (47.5, 95)]


def test_a_lease_that_lasts_too_long_is_reported_reclaimed_and_replaced(make_desk):
    desk = make_desk("a", max_lease=100)
    entry = desk.lease("job 7")
    desk.clock.advance(99)
    desk.tend()
    assert desk.chores == [Tend(TEND_EVERY)]
    desk.clock.advance(1)
    desk.tend()
    assert desk.chores == [Report(entry, 100), Open(), Tend(TEND_EVERY)]
    assert (entry.state, entry.borrower) == (State.GONE, "job 7")
    assert figures(desk, "leased", "discarded_max_lease") == (0, 1)


def test_the_late_return_of_a_reclaimed_entry_changes_nothing_and_is_closed(make_desk):
    desk = make_desk("a", max_lease=100)
    entry = desk.lease()
    desk.clock.advance(100)
    desk.tend()
    before = repr(desk.book)
    desk.give_back(entry)
    assert desk.chores == [Close(entry, Reason.MAX_LEASE)]
    assert (repr(desk.book), figures(desk, "discarded", "returned_late")) == (before, (1, 1))


@pytest.mark.parametrize(("late", "lost"), [(LOST_AFTER - 0.1, False), (LOST_AFTER, True)])
def test_an_open_that_was_ordered_and_never_began_is_ordered_again(make_desk, late, lost):
    desk = make_desk(min_size=1)
    desk.clock.advance(late)
    desk.tend()
    assert desk.chores == [Open(), Tend(TEND_EVERY)] if lost else [Tend(TEND_EVERY)]
    assert (desk.still_wanted(), desk.still_wanted()) == (True, False)  # should both turn up, one is enough
    assert desk.book.opening == 1


def test_an_open_held_back_by_back_off_is_not_taken_for_lost(make_desk):
    desk = make_desk(min_size=1, backoff_first=20)
    desk.open_failed(OSError())
    desk.clock.advance(20)
    desk.tend()
    assert desk.chores == [Tend(TEND_EVERY)]


# -- closing -----------------------------------------------------------------------------------------------------------


def test_closing_ends_what_is_idle_and_fails_who_waits(make_desk):
    idle = make_desk("a", "b")
    entries = list(idle.book._idle)
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


def test_what_comes_back_to_a_closed_book_is_closed(make_desk):
    desk = make_desk("a", "b")
    kept, dirty = desk.lease(), desk.lease()
    desk.close()
    desk.give_back(kept)
    assert desk.chores == [Close(kept, Reason.CLOSED)]
    desk.give_back(dirty, keep=False)
    assert desk.chores == [Close(dirty, Reason.NOT_REUSABLE)]


def test_what_is_opened_for_a_closed_book_is_closed(make_desk):
    desk = make_desk(min_size=1)
    assert desk.still_wanted()
    desk.close()
    desk.opened("late")
    (closing,) = desk.chores
    assert (closing.entry.resource, closing.reason) == ("late", Reason.CLOSED)


def test_a_closed_book_orders_nothing_more(make_desk):
    desk = make_desk(min_size=2, max_size=2, openers=2)
    assert desk.still_wanted()
    desk.close()
    desk.tend()
    assert desk.chores == []
    assert not desk.still_wanted()
    desk.open_failed(OSError())
    assert (desk.chores, desk.book.opening) == ([], 0)


def test_closing_twice_is_closing_once(make_desk):
    desk = make_desk("a")
    desk.close()
    desk.close()
    assert (desk.chores, figures(desk, "retired")) == ([], (1,))


# -- all together ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_the_three_promises_hold(make_desk, seed):
    """No waiter beside an idle entry, never above the largest size, and in the end everybody was served in order."""
    dice = random.Random(seed)
    desk = make_desk(min_size=dice.randint(0, 2), max_size=dice.randint(2, 4), max_waiting=5, max_idle=9, openers=2)
    waiting: list[Ticket[str]] = []
    held: list[Ticket[str]] = []
    served: list[int] = []
    news = 0
    for _ in range(300):
        step = dice.choice(["ask", "give_back", "opened", "failed", "tend", "withdraw", "advance"])
        if step == "ask":
            waiting.append(desk.ask())
        elif step == "give_back" and held:
            desk.give_back(held.pop(dice.randrange(len(held))).entry, keep=dice.random() < 0.7)
        elif step == "opened" and desk.book.opening and desk.still_wanted():
            news += 1
            desk.opened(f"new {news}")
        elif step == "failed" and desk.book.opening and desk.still_wanted():
            desk.open_failed(dice.choice([OSError(), Refused()]))
        elif step == "tend":
            desk.tend()
        elif step == "withdraw" and waiting:
            assert desk.withdraw(waiting.pop(dice.randrange(len(waiting)))) is None
        elif step == "advance":
            desk.clock.advance(dice.random() * 4)
        for ticket in [ticket for ticket in waiting if ticket.settled]:
            waiting.remove(ticket)
            if ticket.entry and ticket.entry.state is State.RESERVED:
                desk.book.lend(ticket.entry, desk.clock.now)
            if ticket.entry:
                held.append(ticket)
                served.append(ticket.number)
        book = desk.book
        assert not (book._idle and book._waiting)
        assert 0 <= book.size <= book.policy.max_size and 0 <= book.opening <= 2
        assert book._waiting == waiting and len(waiting) <= 5
        assert len(book._leased) == len(held) == len({id(ticket.entry) for ticket in held})
        assert not waiting or book.opening or held  # somebody is always on the way to whoever waits
    assert served == sorted(served)
