"""When streams start. The moment of a start is read from Redis, so that a test may take as long as it likes."""

import itertools

import pytest

from tests.worker.quota.conftest import Peers
from tests.worker.quota.peers import SECOND, Peer, Redis
from worker.quota import ledger, scripts

SLOW = 0.1
"""Starts per second: nothing but a moved clock brings the next one within reach."""

GAP = ledger.MARGIN / SLOW


class Starts:
    """Notes the moments of all that was given."""

    def __init__(self, inside: Redis, gap: float = GAP) -> None:
        self.moments: list[float] = []
        self._inside = inside
        self._gap = gap

    def note(self, start_in: float) -> None:
        moment = self._inside.lane()["next"] - self._gap * SECOND
        now = self._inside.now()
        assert 0 <= start_in <= scripts.AHEAD / SECOND
        assert now - 5 * SECOND < moment <= now + scripts.AHEAD  # it is the one that was told
        self.moments.append(moment)

    @property
    def gaps(self) -> list[float]:
        return [(later - sooner) / SECOND for sooner, later in itertools.pairwise(self.moments)]


def test_starts_are_further_apart_than_allowed_by_a_margin() -> None:
    assert ledger.MARGIN == 1.03 and scripts.AHEAD == 100_000


def test_starts_are_as_far_apart_as_they_must_be_over_all_processes(peer: Peers, inside: Redis) -> None:
    peers = [peer(name, streams=None, starts_per_second=200.0) for name in "xyz"]
    starts = Starts(inside, ledger.MARGIN / 200)
    number = 0
    while len(starts.moments) < 60:
        number += 1
        answer = peers[number % 3].ask(f"t{number}", mode="try")
        if answer.given:
            starts.note(answer.start_in)
    assert min(starts.gaps) >= 1.03 / 200


def test_nobody_is_given_a_start_before_its_moment_is_near(peer: Peers, inside: Redis) -> None:
    one = peer(streams=None, starts_per_second=SLOW)
    first = one.ask("a")
    assert first.given and first.start_in == 0
    assert not one.ask("b").given
    inside.elapse(GAP - 1)
    assert not one.ask("b").given
    inside.elapse(1 - 0.05)
    second = one.ask("b")
    assert second.given and second.start_in <= 0.05
    assert not one.ask("c").given


def test_who_waits_for_his_moment_is_told_when_it_is_near(peer: Peers, inside: Redis) -> None:
    one = peer(streams=None, starts_per_second=SLOW)
    one.ask("a")
    one.ask("b")
    inside.elapse(GAP - 0.08)
    one.ledger.look("m")
    (mail,) = one.mail()
    assert mail.ticket == "b" and 0 <= mail.start_in <= 0.08


def test_a_pause_is_not_made_up_for(peer: Peers, inside: Redis) -> None:
    one = peer(streams=None, starts_per_second=SLOW)
    one.ask("a")
    inside.elapse(10 * GAP)
    assert [one.ask(ticket).given for ticket in "bc"] == [True, False]


def test_models_and_accounts_have_a_pace_of_their_own(peer: Peers) -> None:
    one, other = (peer(name, name, streams=None, starts_per_second=SLOW) for name in "ab")
    assert one.ask("a").given and one.ask("b", model="n").given and other.ask("a").given
    assert not one.ask("c").given and not one.ask("d", model="n").given and not other.ask("b").given


def test_another_turn_is_another_start_in_the_same_row(peer: Peers, inside: Redis) -> None:
    one = peer(streams=1, starts_per_second=SLOW)
    starts = Starts(inside)
    starts.note(one.ask("a").start_in)
    for _ in range(3):
        given, wait, _ = one.ledger.turn("m")
        assert not given and GAP - 5 < wait <= GAP
        inside.elapse(wait)
        starts.moments = [moment - wait * SECOND for moment in starts.moments]
        given, wait, _ = one.ledger.turn("m")
        assert given
        starts.note(wait)
    assert min(starts.gaps) >= GAP - 1e-5


def test_another_turn_takes_nobody_s_slot_and_needs_none_free(peer: Peers, inside: Redis) -> None:
    one = peer(streams=1)
    one.ask("a")
    assert one.ledger.turn("m")[0] and list(inside.slots()) == ["p.a"]


def test_another_turn_does_not_take_the_duty_from_who_has_it(peer: Peers, inside: Redis) -> None:
    """Nobody tells it to the one who asks for a turn."""
    one, other = peer("p"), peer("q")
    one.ask("a")
    assert other.ask("b").look_in is not None
    inside.elapse(3)
    tick = inside.lane()["tick"]
    for _ in range(2):
        one.ledger.turn("m")
        assert inside.lane()["tick"] == tick
        inside.client.hset("stenopool:quota:{a}:lane:m", "tick", int(tick := inside.now() - SECOND))


# -- what came late to the service -------------------------------------------------------------------------------------


def test_who_came_late_to_the_service_puts_off_those_that_follow_by_as_much(peer: Peers, inside: Redis) -> None:
    one, other = peer("p", streams=None, starts_per_second=SLOW), peer("q", streams=None)
    given = one.ask("a")
    before = inside.lane()["next"]
    other.ledger.put_off("m", given.shift, 1.5)
    assert (given.shift, inside.lane()["shift"]) == (0, 1.5 * SECOND)
    assert inside.lane()["next"] == before + 1.5 * SECOND
    inside.elapse(GAP + 1)
    assert not one.ask("b").given
    inside.elapse(0.5)
    assert one.ask("b").given and one.ask("c").shift == 1.5 * SECOND


def test_those_that_were_late_together_put_off_once(peer: Peers, inside: Redis) -> None:
    """And one that was given after that, and is late too, puts off again."""
    one = peer(streams=None)
    together = [one.ask(ticket).shift for ticket in "ab"]
    for shift, late, expected in ((together[0], 1.0, 1.0), (together[1], 0.8, 1.0), (together[1], 1.2, 1.2)):
        one.ledger.put_off("m", shift, late)
        assert inside.lane()["shift"] == expected * SECOND
    inside.elapse(2)
    assert one.ask("c").shift == 1.2 * SECOND
    one.ledger.put_off("m", round(1.2 * SECOND), 0.5)
    assert inside.lane()["shift"] == 1.7 * SECOND


def test_who_is_told_by_mail_or_takes_another_turn_is_told_how_far_all_were_put_off(peer: Peers) -> None:
    one = peer()
    one.ask("a")
    one.ask("b")
    one.ledger.put_off("m", 0, 0.01)
    one.give_back("a")
    (mail,) = one.mail()
    assert mail.shift == 0.01 * SECOND and one.ledger.turn("m")[2] == 0.01 * SECOND


def test_who_is_late_after_redis_lost_its_data_puts_off_by_no_more_than_that(peer: Peers, inside: Redis) -> None:
    one = peer(streams=None)
    one.ask("a")
    one.ledger.put_off("m", 3600 * SECOND, 0.5)
    assert inside.lane()["shift"] == 0.5 * SECOND


def test_to_put_off_takes_the_duty_from_nobody(peer: Peers, inside: Redis) -> None:
    one, other = peer("p"), peer("q")
    one.ask("a")
    assert other.ask("b").look_in is not None
    tick = int(inside.now() - SECOND)
    inside.client.hset("stenopool:quota:{a}:lane:m", "tick", tick)
    one.ledger.put_off("m", 0, 0.5)
    assert inside.lane()["tick"] == tick and one.renew("a") == [1]


def test_figures_tell_how_many_began_in_a_while(peer: Peers, inside: Redis) -> None:
    assert scripts.WINDOW == 10 * SECOND
    one: Peer = peer(streams=None)
    for number in range(3):
        one.ask(f"a{number}")
    lane = inside.lane()
    assert (lane["turns"], lane["before"], lane["streams"]) == (3, 0, 0)
    assert lane["gap"] == round(1.03 * SECOND / 10_000)
    inside.elapse(10)
    one.ask("b")
    assert (inside.lane()["turns"], inside.lane()["before"]) == (1, 3)
    inside.elapse(20)
    one.ask("c")
    assert (inside.lane()["turns"], inside.lane()["before"]) == (1, 0)


# -- cool-down ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def calm(peer: Peers) -> Peer:
    """One whose account's pace is no matter, until the service refuses."""
    return peer(streams=None)


def slowness(inside: Redis) -> float:
    """How many times slower than allowed the last start has made the pace."""
    lane = inside.lane()
    return (lane["next"] - inside.now()) / lane["gap"]


def test_one_refusal_makes_all_wait_and_halves_the_pace(calm: Peer, peer: Peers, inside: Redis) -> None:
    assert scripts.PAUSE == SECOND and scripts.SLOWEST == 32
    other = peer("q", streams=None)
    calm.ask("a")
    calm.ledger.refused("m", None)
    lane = inside.lane()
    assert lane["refused"] == 1 and lane["slow"] == 2
    assert scripts.PAUSE <= lane["hold"] - lane["slow_at"] <= 1.5 * scripts.PAUSE
    inside.client.hset("stenopool:quota:{a}:lane:m", "hold", int(inside.now() + 60 * SECOND))
    assert not other.ask("b").given and not calm.ledger.turn("m")[0]
    assert other.ask("c", model="n").given


def test_after_a_refusal_starts_are_further_apart_until_it_wears_off(peer: Peers, inside: Redis) -> None:
    assert scripts.CALM == 5 * SECOND
    one = peer(streams=None, starts_per_second=0.01)
    gap = 103.0
    one.ask("a")
    one.ledger.refused("m", None)
    for passed, slower in ((0, 2.0), (5, 1.5), (5, 1.25), (200, 1.0)):
        inside.elapse(passed)
        slow_at = inside.lane()["slow_at"]
        inside.client.hset("stenopool:quota:{a}:lane:m", mapping={"next": 0, "hold": 0})
        before = inside.now()
        given, wait, _ = one.ledger.turn("m")
        assert given and wait == 0
        times = (inside.lane()["next"] - before) / (gap * SECOND)
        assert slower - 0.1 < times < slower + 0.1 and inside.lane()["slow_at"] == slow_at


def test_refusals_that_come_together_count_once_and_one_after_the_pause_doubles(calm: Peer, inside: Redis) -> None:
    calm.ask("a")
    slow = []
    for _ in range(7):
        calm.ledger.refused("m", 30.0)  # which makes the pause long enough for this test
        calm.ledger.refused("m", None)
        slow.append(inside.lane()["slow"])
        inside.client.hset("stenopool:quota:{a}:lane:m", "hold", 0)
    assert inside.lane()["refused"] == 14
    assert slow == pytest.approx([2, 4, 8, 16, 32, 32, 32], rel=0.2)
    assert max(slow) <= 32


def test_the_pause_doubles_with_the_slow_down(calm: Peer, inside: Redis) -> None:
    calm.ask("a")
    for number in range(5):
        calm.ledger.refused("m", None)
        lane = inside.lane()
        least = scripts.PAUSE * lane["slow"] / 2
        assert least - 1 <= lane["hold"] - lane["slow_at"] <= 1.5 * least
        assert lane["slow"] > 1.5 * 2**number
        inside.client.hset("stenopool:quota:{a}:lane:m", "hold", 0)


@pytest.mark.parametrize("asked", [5.0, 60.0])
def test_the_service_is_left_alone_for_as_long_as_it_asked(calm: Peer, inside: Redis, asked: float) -> None:
    calm.ask("a")
    calm.ledger.refused("m", None)
    before = inside.now()
    calm.ledger.refused("m", asked)  # in the midst of a shorter pause
    assert before + asked * SECOND <= inside.lane()["hold"] <= inside.now() + asked * SECOND
    calm.ledger.refused("m", 1.0)
    assert before + asked * SECOND <= inside.lane()["hold"]
    assert not calm.ask("b").given
    inside.elapse(asked)
    assert calm.ask("b").given
