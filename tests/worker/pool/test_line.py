import pytest

from worker.pool.entry import Entry
from worker.pool.line import Line
from worker.pool.ticket import Ticket

NEW, USED = Entry("new", born=0.0), Entry("used", born=0.0, uses=1)


def line_of(*tickets):
    line: Line[str] = Line()
    for moment, ticket in enumerate(tickets):
        line.number(ticket, moment)
        line.join(ticket)
    return line


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_line_is_in_the_order_of_arrival(count):
    tickets: list[Ticket[str]] = [Ticket(str(number)) for number in range(count)]
    line = line_of(*tickets)
    assert (list(line), len(line)) == (tickets, count)
    assert [ticket.asked for ticket in tickets] == list(range(count))
    assert [line.before(ticket) for ticket in tickets] == list(range(count))


def test_whoever_comes_back_takes_its_old_place():
    first: Ticket[str] = Ticket("first")
    second: Ticket[str] = Ticket("second")
    line = line_of(first, second)
    line.leave(first)
    assert (list(line), line.before(first)) == ([second], 0)
    line.number(first, now=9)
    line.join(first)
    assert (list(line), first.asked) == ([first, second], 0)


def test_leaving_twice_does_nothing():
    ticket: Ticket[str] = Ticket()
    line = line_of(ticket, Ticket())
    line.leave(ticket)
    line.leave(ticket)
    assert len(line) == 1


def test_the_first_is_the_oldest_whom_an_entry_suits():
    picky: Ticket[str] = Ticket("picky", fresh=True)
    any_one: Ticket[str] = Ticket("any one")
    line = line_of(picky, any_one)
    assert (line.first(NEW), line.first(USED)) == (picky, any_one)
    assert line_of(picky).first(USED) is None


def test_all_can_be_sent_away():
    tickets: list[Ticket[str]] = [Ticket(), Ticket()]
    line = line_of(*tickets)
    assert (line.clear(), list(line), line.clear()) == (tickets, [], [])
