"""What must hold at every moment of a book's life, and how it must end, whatever happened before.

- An entry is in one place, in the state that belongs to it, lent to one borrower at most, and leaves by one `Close`.
- Whoever asked and was not answered is in the line, once and by arrival; nobody else is, nor more than may wait.
- Idle, lent and opening together are at most `max_size`, idle ones at most `min_size`, and lent at most as many as may
  be; where a resize left more, they do not grow.
- Nobody waits beside an idle entry that suits him while another may be lent.
- Whoever is served passes nobody who waits longer and would have taken the same.
- No more is opened than is missed, and that at once, but for the lanes, the pace and the back-off.
- A closed book holds only what is lent, looked at or being opened.
- And from wherever its life led it, once all is well again, who waits is served and the smallest size is warm.
"""

import random

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from tests.worker.pool.life import Life
from tests.worker.pool.moves import CHOICES, LIMITS, MOVES
from worker.pool.entry import State

STEPS_TO_QUIET = 300  # the longest back-off is 44 s, with a look every second


class Watched(Life):
    before = (0, 0)  # how many there were, and were lent, after the last step

    @invariant()
    def all_is_in_order(self) -> None:
        self.every_entry_is_in_one_place()
        self.all_are_accounted_for()
        self.all_who_wait_are_in_the_line()
        self.no_limit_is_passed()
        self.nobody_waits_beside_what_he_may_have()
        self.nothing_begins_in_a_closed_book()

    def every_entry_is_in_one_place(self) -> None:
        stock = self.book.stock
        everything = [*stock.idle, *stock.reserved, *stock.leased, *([self.examined] if self.examined else [])]
        assert len(everything) == len(set(everything)) == stock.ready
        assert all(entry.state is State.IDLE for entry in stock.idle)
        assert set(stock.reserved) == {ticket.entry for ticket in self.looking}
        assert set(stock.leased) == {entry for entry in self.held if not entry.ended}
        assert stock.examined is self.examined
        assert not any(entry.ended for entry in everything)
        assert all(entry.ended for entry in self.known.difference(everything))
        self.known = set(everything)

    def all_are_accounted_for(self) -> None:
        figures = self.book.figures()
        ended = figures["retired"] + figures["discarded"] - self.inherited
        assert figures["created"] - ended == figures["idle"] + figures["reserved"] + figures["leased"]

    def all_who_wait_are_in_the_line(self) -> None:
        self.waiting.sort(key=lambda ticket: ticket.number)
        assert list(self.book.line) == self.waiting
        assert not any(ticket.settled for ticket in self.waiting)
        assert len(self.waiting) <= self.book.policy.max_waiting

    def no_limit_is_passed(self) -> None:
        policy, stock = self.book.policy, self.book.stock
        size, lent = self.before
        assert stock.size <= max(policy.max_size, size)
        assert stock.lent <= max(policy.lendable, lent)
        assert len(stock.idle) <= policy.min_size
        assert 0 <= self.begun <= stock.opening
        self.before = (stock.size, stock.lent)

    def nobody_waits_beside_what_he_may_have(self) -> None:
        book = self.book
        for older, ticket in enumerate(self.waiting):
            kept = 0 if self.failing else older
            if book.stock.lent + kept < book.policy.lendable:
                assert not any(ticket.suits(entry) for entry in book.stock.idle)

    def nothing_begins_in_a_closed_book(self) -> None:
        if self.book.closed:
            assert not self.waiting and not self.book.stock.idle
            assert self.book.stock.opening == self.begun

    def teardown(self) -> None:
        """All is well from now on."""
        steps = 0
        while not self.is_quiet():
            self.go_on()
            self.all_is_in_order()
            steps += 1
            assert steps < STEPS_TO_QUIET, self.book

    def is_quiet(self) -> bool:
        policy = self.book.policy
        warm = 0 if self.book.closed else policy.min_size
        busy = self.waiting or self.looking or self.held or self.examined or self.book.stock.opening
        return not busy and len(self.book.stock.idle) == warm

    def go_on(self) -> None:
        if self.looking:
            self.look(0, healthy=True)
        elif self.examined:
            self.judge(healthy=True)
        elif self.held:
            self.give_back(0, keep=True)
        elif self.begun or self.ordered:
            self.end_an_open(error=None)
        else:
            self.tend(late=0.0)


@pytest.mark.timeout(600)  # should it fail, it takes a while to make the story short
def test_whatever_happens_nothing_is_lent_twice_and_nobody_is_forgotten():
    thorough = settings(max_examples=200, stateful_step_count=60, deadline=None, derandomize=True)
    run_state_machine_as_test(Watched, settings=thorough)


@pytest.mark.parametrize("first", range(0, 2000, 200))
def test_nor_in_two_hundred_lives_by_plain_dice(first):
    """Faster, and fairer to what takes many steps to come about; but the story of a failure is long."""
    for seed in range(first, first + 200):
        live(random.Random(seed), steps=80)


def live(dice: random.Random, steps: int) -> None:
    life, story = Watched(), []
    try:
        limits = {name: dice.choice(values) for name, values in LIMITS.items()}
        life.begin_life(limits, **{name: dice.choice(CHOICES[name]) for name in ("sizes", "seed", "used")})
        story.append(repr(life.book.policy))
        for _ in range(steps):
            life.all_is_in_order()
            name, names = dice.choice([(name, names) for name, (when, names) in MOVES.items() if when(life)])
            told = {name: dice.choice(CHOICES[name]) for name in names}
            story.append(f"{name} {told}")
            getattr(life, name)(**told)
        life.teardown()
    except AssertionError as exc:
        exc.add_note("\n".join(story))
        raise
