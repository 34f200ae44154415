import pytest

from worker.pool.entry import Entry, Reason, State
from worker.pool.stock import LOST_AFTER, Stock


def kept(*last_used, **limits):
    """A stock with idle entries last used at these moments, named after them."""
    stock: Stock[str] = Stock()
    for moment in last_used:
        stock.keep(Entry(str(moment), born=0.0, last_used=moment, **limits), now=moment)
    return stock


def anything(entry):
    return True


# -- counting ----------------------------------------------------------------------------------------------------------


def test_an_empty_stock_has_nothing():
    stock: Stock[str] = Stock()
    assert (list(stock), stock.size, stock.ready, stock.lent, stock.opening) == ([], 0, 0, 0, 0)
    assert stock.summary == "leased 0, idle 0, opening 0"


def test_every_entry_counts_once_wherever_it_is():
    stock = kept(1, 2, 3, 4)
    examined = stock.set_aside(now=100, every=5)
    reserved, _ = stock.pick(anything, now=100)
    stock.reserve(reserved, "job 7")
    leased, _ = stock.pick(anything, now=100)
    stock.lease(leased, "job 8", now=100)
    stock.order(100)
    assert (stock.ready, stock.in_question, stock.lent, stock.size) == (4, 2, 2, 5)
    assert [entry.resource for entry in stock] == ["2", "4", "3", "1"]
    assert stock.summary == "leased 1, reserved 2, idle 1, opening 1"
    for entry in (examined, reserved, leased):
        stock.take_out(entry)
    assert (list(stock), stock.ready) == (stock.idle, 1)


# -- opens -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [0, 1, 2])
def test_no_more_opens_begin_than_were_ordered(ordered):
    stock: Stock[str] = Stock()
    for _ in range(ordered):
        stock.order(0.0)
    assert [stock.begin() for _ in range(3)] == [True] * ordered + [False] * (3 - ordered)
    assert stock.opening == ordered
    for _ in range(ordered):
        stock.ended()
    assert stock.opening == 0


def test_an_order_that_does_not_begin_is_forgotten_and_one_that_began_is_not():
    stock: Stock[str] = Stock()
    stock.order(0.0)
    stock.begin()
    stock.order(1.0)
    stock.order(2.0)
    stock.forget_lost_orders(1.0 + LOST_AFTER)
    assert (stock.opening, stock.begin(), stock.begin()) == (2, True, False)


# -- entries -----------------------------------------------------------------------------------------------------------


def test_idle_entries_are_in_the_order_of_their_last_use_and_the_last_one_is_picked():
    stock = kept(2, 3, 1)
    assert [entry.resource for entry in stock.idle] == ["1", "2", "3"]
    assert stock.pick(anything, now=4)[0].resource == "3"


def test_what_does_not_suit_stays_where_it_is():
    stock = kept(1, 2, 3)
    picked, overdue = stock.pick(lambda entry: entry.resource == "2", now=4)
    assert (picked.resource, overdue) == ("2", [])
    assert [entry.resource for entry in stock.idle] == ["1", "3"]
    assert stock.pick(lambda entry: False, now=4) == (None, [])


def test_what_is_overdue_is_found_on_the_way_to_one_that_suits():
    stock = kept(1, 2)
    stock.keep(Entry("old", born=0.0, last_used=3, max_lifetime=10), now=3)
    picked, overdue = stock.pick(anything, now=10)
    assert (picked.resource, [(entry.resource, reason) for entry, reason in overdue]) == (
        "2",
        [("old", Reason.MAX_LIFETIME)],
    )


def test_all_that_is_overdue_can_be_taken_out():
    stock = kept(1, 5, max_unused=10)
    assert [
        entry.resource for entry, reason in stock.take_overdue(now=11, grace=0, most=0) if reason is Reason.MAX_IDLE
    ] == ["1"]
    assert [entry.resource for entry in stock.idle] == ["5"]


def test_what_is_beyond_the_grace_is_taken_out_before_what_is_within_it():
    stock: Stock[str] = Stock()
    stock.keep(Entry("within", born=0.0, last_used=5, max_idle=10, uses=1), now=5)
    stock.keep(Entry("beyond", born=0.0, last_used=14, max_lifetime=10, uses=1), now=14)
    assert [entry.resource for entry, _ in stock.take_overdue(now=15, grace=3, most=1)] == ["beyond"]
    assert [entry.resource for entry in stock.idle] == ["within"]


def test_one_is_set_aside_when_nobody_looked_at_it_for_so_long():
    stock = kept(1, 2)
    assert stock.set_aside(now=5.9, every=5) is None
    entry = stock.set_aside(now=6, every=5)
    assert (entry.resource, entry.state, stock.examined) == ("1", State.RESERVED, entry)


def test_lending_counts_the_uses_and_names_the_borrower():
    stock: Stock[str] = Stock()
    entry = Entry("a", born=0.0)
    stock.reserve(entry, "job 7")
    assert (entry.state, entry.borrower, entry.uses) == (State.RESERVED, "job 7", 0)
    stock.take_out(entry)
    stock.lease(entry, "job 7", now=3)
    assert (entry.state, entry.last_used, entry.uses) == (State.LEASED, 3, 1)


def test_what_was_lent_at_some_moment_or_earlier_can_be_taken_out():
    stock: Stock[str] = Stock()
    entries = [Entry(str(moment), born=0.0) for moment in range(3)]
    for moment, entry in enumerate(entries):
        stock.lease(entry, "", now=moment)
    assert stock.take_leased_since(1) == entries[:2]
    assert list(stock.leased) == entries[2:]


def test_clearing_takes_out_what_is_idle_and_cancels_what_has_not_begun():
    stock = kept(1, 2)
    stock.order(0.0)
    stock.begin()
    stock.order(0.0)
    assert [entry.resource for entry in stock.clear()] == ["1", "2"]
    assert (stock.idle, stock.opening, stock.begin()) == ([], 1, False)
