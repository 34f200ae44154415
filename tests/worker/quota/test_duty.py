"""Who looks after a line while nothing but time must pass."""

from tests.worker.quota.conftest import Peers
from tests.worker.quota.peers import SECOND, Redis
from worker.quota import scripts


def test_of_those_who_wait_one_is_told_to_look_again(peer: Peers) -> None:
    peers = [peer(name) for name in "xyz"]
    peers[0].ask("a")
    looks = [one.ask(f"t{number}").look_in for number in range(3) for one in peers]
    assert [look is not None for look in looks] == [True] + [False] * 8


def test_who_finds_the_line_empty_has_nothing_to_look_after(peer: Peers, inside: Redis) -> None:
    one = peer()
    assert one.ask("a").look_in is None
    assert one.ask("b").look_in is not None
    assert one.give_back("b") is None and inside.lane()["tick"] == 0
    assert one.ledger.look("m") is None
    assert one.ask("c").look_in is not None


def test_who_is_on_duty_stays_so_until_the_line_is_empty(peer: Peers, inside: Redis) -> None:
    one, other = peer("p"), peer("q")
    one.ask("a")
    assert other.ask("b").look_in is not None
    for _ in range(3):
        inside.elapse(2)
        one.renew("a")
        assert one.ask("c").look_in is None
        inside.elapse(2.2)
        one.renew("a")
        assert other.ledger.look("m") is not None
    one.give_back("a")
    other.give_back("b")
    assert one.told() == ["c"] and other.told() == ["b"]
    assert other.ledger.look("m") is None


def test_who_can_look_sooner_takes_the_duty_over_and_the_other_is_relieved_when_he_looks(
    peer: Peers, inside: Redis
) -> None:
    """Else they would be ever more, as long as anybody waits."""
    one, other = peer("p"), peer("q")
    one.ask("a")
    late = other.ask("b").look_in
    soon = one.give_back("a", linger=1.0)
    assert late is not None and soon is not None and soon < late
    assert other.ledger.look("m") is None
    inside.elapse(soon + 0.001)
    assert one.ledger.look("m") is None and other.told() == ["b"]


def test_who_looks_a_little_early_keeps_the_duty(peer: Peers, inside: Redis) -> None:
    """Two clocks never run quite alike."""
    one = peer()
    one.ask("a")
    look_in = one.ask("b").look_in
    assert look_in is not None
    inside.client.hset("stenopool:quota:{a}:lane:m", "tick", int(inside.now() + 0.5 * scripts.LEAST))
    one.renew("a")
    assert one.ledger.look("m") is not None


def test_nobody_looks_without_pause(peer: Peers, inside: Redis) -> None:
    assert scripts.LEAST == 40_000 < scripts.AHEAD
    one = peer(streams=None, starts_per_second=0.1)
    one.ask("a")
    look_in = one.ask("b").look_in
    assert look_in is not None and 0 < look_in <= 10.3 - 0.1
    inside.elapse(10.3 - 0.1 - 0.01)
    again = one.ledger.look("m")
    assert again is None or again == 0.04  # None: by now its moment has come


def test_a_duty_that_nobody_does_is_found_by_a_beat_and_taken_over(peer: Peers, inside: Redis) -> None:
    assert scripts.OVERDUE == SECOND // 4
    dead, one, other = peer("dead"), peer("p"), peer("q")
    one.ask("a")
    look_in = dead.ask("b").look_in
    assert look_in is not None
    dead.go()
    other.ask("c")
    assert one.renew("a") == [] and other.renew() == []
    inside.elapse(look_in + 0.3)
    assert one.renew("a") == [1] and other.renew() == [1]
    assert other.ledger.look("m") is not None
    assert one.ledger.look("m") is None
    assert one.renew("a") == [] and other.renew() == []


def test_a_duty_that_nobody_does_is_taken_over_by_who_asks(peer: Peers, inside: Redis) -> None:
    dead, one, other = peer("dead"), peer("p"), peer("q")
    one.ask("a")
    look_in = dead.ask("b").look_in
    assert look_in is not None
    inside.elapse(look_in + 0.3)
    one.renew("a")
    assert other.ask("c").look_in is not None and other.ask("d").look_in is None


def test_a_beat_finds_the_lines_by_their_number(peer: Peers, inside: Redis) -> None:
    one = peer()
    for model in ("k", "m", "n"):
        one.ask("a", model=model)
        one.ask("b", model=model)
    held = [(model, [one.who("a")]) for model in ("k", "m", "n")]
    inside.elapse(3)
    for model in ("k", "n"):
        inside.client.hset(f"stenopool:quota:{{a}}:lane:{model}", "tick", int(inside.now() - SECOND))
    assert one.ledger.renewing(held).run(inside.client) == [1, 3]
    for model in ("k", "m", "n"):
        assert inside.slots(model)["p.a"] > inside.now() + 1.5 * SECOND


def test_a_line_that_nobody_stands_in_is_no_duty_for_a_beat(peer: Peers, inside: Redis) -> None:
    one = peer()
    one.ask("a")
    inside.elapse(100)
    assert one.renew("a") == []
