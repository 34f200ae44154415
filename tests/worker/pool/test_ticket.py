import time

import pytest

from worker.pool.entry import Entry
from worker.pool.errors import PoolClosed
from worker.pool.ticket import Ticket

PATIENCE = 10.0


def test_a_ticket_is_settled_by_an_entry_or_by_an_error():
    assert not Ticket().settled
    assert Ticket(entry=Entry("new", born=0.0)).settled
    assert Ticket(error=PoolClosed("thing")).settled


def test_a_ticket_shows_no_thread_machinery():
    assert "lock" not in repr(Ticket("job 7"))


def test_a_sleeper_is_woken_even_if_it_falls_asleep_too_late():
    ticket: Ticket[str] = Ticket()
    ticket.wake()
    began = time.monotonic()
    ticket.sleep(PATIENCE)
    assert time.monotonic() - began < PATIENCE


def test_waking_twice_is_harmless_and_the_second_sleep_lasts():
    ticket: Ticket[str] = Ticket()
    ticket.wake()
    ticket.wake()
    ticket.sleep(PATIENCE)
    began = time.monotonic()
    ticket.sleep(0.01)
    assert time.monotonic() - began >= 0.01


@pytest.mark.parametrize("uses", [0, 1, 2])
@pytest.mark.parametrize("born", [4.0, 5.0, 6.0])
def test_any_entry_suits_but_for_who_wants_one_opened_since_it_asked(born, uses):
    entry = Entry("old", born=born, uses=uses)
    any_one: Ticket[str] = Ticket(asked=5.0)
    picky: Ticket[str] = Ticket(asked=5.0, fresh=True)
    assert any_one.suits(entry)
    assert picky.suits(entry) is (born >= 5.0 and uses == 0)


def test_nobody_sleeps_longer_than_told():
    ticket: Ticket[str] = Ticket()
    ticket.sleep(0)
    assert not ticket.settled
