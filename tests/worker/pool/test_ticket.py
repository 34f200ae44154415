import time

from worker.pool.entry import Entry
from worker.pool.errors import PoolClosed
from worker.pool.ticket import Ticket

PATIENCE = 10.0


def test_a_ticket_is_settled_by_an_entry_or_by_an_error():
    assert not Ticket().settled
    assert Ticket(entry=Entry("new", born=0.0)).settled
    assert Ticket(error=PoolClosed("thing")).settled


def test_a_ticket_shows_no_thread_machinery():
    assert repr(Ticket("job 7")) == "Ticket(borrower='job 7', number=0, asked=0.0, entry=None, error=None)"


def test_a_sleeper_is_woken_even_if_it_falls_asleep_too_late():
    ticket: Ticket[str] = Ticket()
    ticket.wake()
    began = time.monotonic()
    ticket.sleep(PATIENCE)
    assert time.monotonic() - began < PATIENCE


def test_nobody_sleeps_longer_than_told():
    ticket: Ticket[str] = Ticket()
    ticket.sleep(0)
    assert not ticket.settled
