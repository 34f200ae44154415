"""Whose turn it is. One slot goes from hand to hand, and the order is what the mail says."""

from collections import Counter
from collections.abc import Callable

import pytest

from config.queues import CLASSES, WEIGHTS
from tests.worker.quota.conftest import Peers
from tests.worker.quota.peers import Peer, Redis

Turns = Callable[..., list[str]]


@pytest.fixture
def turns() -> Turns:
    """So many turns after each other, with one slot, whose holder is `first`."""

    def take(one: Peer, number: int, first: str = "first") -> list[str]:
        order: list[str] = []
        for _ in range(number):
            one.give_back(([first] + order)[-1])
            (told,) = one.told()
            order.append(told)
        return order

    return take


def kinds(tickets: list[str]) -> Counter[str]:
    return Counter(ticket.split("-")[0] for ticket in tickets)


@pytest.fixture
def full(peer: Peers) -> Peer:
    """A process that has the only slot, and that nobody's turn."""
    one = peer()
    assert one.ask("first", mode="try").given
    return one


# -- classes -----------------------------------------------------------------------------------------------------------


def test_while_all_classes_wait_their_turns_come_by_weight(full: Peer, turns: Turns) -> None:
    assert [WEIGHTS[name] for name in CLASSES] == [8, 4, 1]
    for number in range(20):
        for queue in ("bulk", "default", "interactive"):
            full.ask(f"{queue}-{number}", queue=queue)
    order = turns(full, 26)
    for part in (order[:13], order[13:]):
        assert kinds(part) == {"interactive": 8, "default": 4, "bulk": 1}


def test_bulk_does_not_starve_however_many_others_come(full: Peer) -> None:
    full.ask("bulk-1", queue="bulk")
    last, order = "first", []
    for number in range(13):
        for queue in ("interactive", "default"):
            full.ask(f"{queue}-{number}", queue=queue)
        full.give_back(last)
        (last,) = full.told()
        order.append(last)
    assert "bulk-1" in order


def test_a_class_that_did_not_wait_has_saved_nothing_up(full: Peer, turns: Turns) -> None:
    for number in range(40):
        full.ask(f"bulk-{number}", queue="bulk")
    order = turns(full, 20)
    for number in range(20):
        full.ask(f"interactive-{number}", queue="interactive")
    order = turns(full, 20, order[-1])
    assert kinds(order) == {"interactive": 18, "bulk": 2} and kinds(order[:12])["bulk"] == 1


def test_within_a_class_who_came_first_is_first(full: Peer, turns: Turns) -> None:
    tickets = [f"t-{number}" for number in (3, 1, 2, 9, 5)]
    for ticket in tickets:
        full.ask(ticket)
    assert turns(full, 5) == tickets


def test_jobs_of_an_unknown_queue_are_of_the_default_class(full: Peer, inside: Redis) -> None:
    full.ask("a", queue="default")
    assert inside.client.zcard("stenopool:quota:{a}:line:transcribe:m") == 1


# -- tenants -----------------------------------------------------------------------------------------------------------


def test_a_tenant_with_a_hundred_jobs_does_not_hold_up_another_s_first(full: Peer, turns: Turns) -> None:
    for number in range(100):
        full.ask(f"many-{number}", tenant="many")
    full.ask("one-1", tenant="one")
    assert "one-1" in turns(full, 2)


def test_a_tenant_that_comes_later_has_saved_nothing_up(full: Peer, turns: Turns) -> None:
    for number in range(40):
        full.ask(f"many-{number}", tenant="many")
    last = turns(full, 20)[-1]
    for number in range(10):
        full.ask(f"late-{number}", tenant="late")
    assert kinds(turns(full, 10, last)) == {"many": 5, "late": 5}


@pytest.mark.parametrize(("weight", "shares"), [(1.0, (4, 4)), (3.0, (6, 2)), (7.0, (7, 1)), (1 / 3, (2, 6))])
def test_tenants_take_turns_by_their_weights(full: Peer, turns: Turns, weight: float, shares: tuple[int, int]) -> None:
    for number in range(12):
        full.ask(f"light-{number}", tenant="light")
        full.ask(f"heavy-{number}", tenant="heavy", weight=weight)
    counted = kinds(turns(full, 8))
    assert (counted["heavy"], counted["light"]) == shares


def test_tenants_of_different_classes_do_not_count_together(full: Peer, turns: Turns) -> None:
    for number in range(10):
        full.ask(f"bulk-{number}", tenant="x", queue="bulk")
    full.ask("mine", tenant="x")
    full.ask("other", tenant="y")
    order = turns(full, 4)
    assert order.index("mine") < order.index("other")


# -- places ------------------------------------------------------------------------------------------------------------


def test_who_comes_back_to_his_place_is_served_before_those_who_came_later(full: Peer, turns: Turns) -> None:
    place = full.ask("early").place
    full.ask("later-1")
    full.give_back("early")
    full.ask("later-2")
    assert full.ask("again", place=place).place == place
    assert turns(full, 3) == ["again", "later-1", "later-2"]


def test_a_place_is_worth_as_much_when_all_have_left_the_line_in_between(full: Peer, turns: Turns) -> None:
    """All wait, lose patience and go back to their queue for a while: a usual hour of long streams."""
    places = {}
    for name in ("y", "x", "w"):  # names do not help: of equals the first by name is served
        places[name] = full.ask(f"early-{name}").place
        full.give_back(f"early-{name}")
    full.ask("b")
    for name in ("w", "x", "y"):
        full.ask(name, place=places[name])
    full.ask("a")
    assert turns(full, 5) == ["y", "x", "w", "b", "a"]


def test_one_who_comes_back_late_does_not_let_newcomers_in_before_others(full: Peer, turns: Turns) -> None:
    place = full.ask("early", tenant="early").place
    full.give_back("early")
    for number in range(20):
        full.ask(f"wait-{number}", tenant="wait")
    last = turns(full, 10)[-1]
    full.ask("again", tenant="early", place=place)
    full.give_back(last)
    order = full.told()
    assert order == ["again"]
    for number in range(4):
        full.ask(f"new-{number}", tenant=f"new-{number}")
        full.give_back(order[-1])
        order += full.told()
    assert kinds(order[1:])["wait"] >= 1, order


def test_a_kept_place_costs_its_tenant_no_further_turn(full: Peer) -> None:
    place = full.ask("early", tenant="x").place
    full.ask("other", tenant="y")
    for _ in range(5):
        full.give_back("early")
        full.ask("early", tenant="x", place=place)
    assert float(full.ask("next", tenant="x").place) == 2 * float(place)


def test_a_place_is_told_as_it_is_kept(peer: Peers) -> None:
    one = peer()
    assert one.ask("a", place="0.25").place == "0.25"
    assert one.ask("b", place="0.25").place == "0.25"
    assert one.ask("c", mode="try", place="0.25").place == "0.25"


def test_of_tenants_no_more_is_remembered_than_a_thousand_once_nobody_waits(full: Peer, inside: Redis) -> None:
    for number in range(1001):
        full.ask(f"t-{number}", tenant=str(number))
    assert inside.client.hlen("stenopool:quota:{a}:flows:m") == 1001
    for number in range(1001):
        full.give_back(f"t-{number}")
    assert inside.client.hlen("stenopool:quota:{a}:flows:m") == 0
