"""Opens of connections, and what all workers know of an outage."""

import itertools

import pytest

from tests.worker.quota.conftest import Peers
from tests.worker.quota.peers import SECOND, Peer, Redis
from worker.quota import ledger, scripts

SLOW = 0.1
GAP = ledger.OPEN_MARGIN / SLOW


def fail(one: Peer, times: int = 1, *, refused: bool = False, retry_after: float | None = None) -> None:
    for _ in range(times):
        one.ledger.open_failed(refused=refused, retry_after=retry_after)


# -- pace --------------------------------------------------------------------------------------------------------------


def test_opens_are_as_far_apart_as_they_must_be_over_all_processes(peer: Peers, inside: Redis) -> None:
    peers = [peer(name, opens_per_second=200.0) for name in "xy"]
    moments: list[float] = []
    asked = 0
    while len(moments) < 40:
        asked += 1
        may, wait = peers[asked % 2].ledger.open(urgent=asked % 3 == 0)
        if may:
            moments.append(inside.account()["next"])
            assert 0 <= wait <= 1.0
    assert min(later - sooner for sooner, later in itertools.pairwise(moments)) >= 1.15 * SECOND / 200


def test_one_that_a_job_waits_for_is_given_sooner(peer: Peers, inside: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ledger.URGENT, ledger.CALM, ledger.OPEN_MARGIN) == (1.0, 0.05, 1.15)
    monkeypatch.setattr(ledger, "URGENT", 1000.0)
    one = peer(opens_per_second=SLOW)
    assert one.ledger.open(urgent=False) == (True, 0.0)
    may, wait = one.ledger.open(urgent=False)
    assert not may and GAP - 5 < wait <= GAP - 0.05 + 1e-6
    may, wait = one.ledger.open(urgent=True)
    assert may and GAP - 5 < wait <= GAP
    may, again = one.ledger.open(urgent=True)
    assert may and wait + GAP - 5 < again <= 2 * GAP


def test_a_calm_one_is_given_when_its_moment_is_near(peer: Peers, inside: Redis) -> None:
    one = peer(opens_per_second=SLOW)
    one.ledger.open(urgent=False)
    inside.elapse(GAP - 0.04)
    may, wait = one.ledger.open(urgent=False)
    assert may and wait <= 0.04


def test_accounts_open_independently(peer: Peers) -> None:
    for account in "ab":
        assert peer(account, account, opens_per_second=SLOW).ledger.open(urgent=False)[0]


def test_a_refused_open_slows_all_opens_and_a_broken_one_does_not(peer: Peers, inside: Redis) -> None:
    one = peer()
    fail(one)
    assert one.ledger.open(urgent=False)[0]
    fail(one, refused=True)
    account = inside.account()
    assert account["slow"] == 2
    assert scripts.PAUSE <= account["hold"] - account["slow_at"] <= 1.5 * scripts.PAUSE
    fail(one, refused=True, retry_after=30.0)
    assert inside.account()["slow"] == 2
    one.ledger.opened()
    assert not one.ledger.open(urgent=True)[0]
    inside.elapse(30)
    assert one.ledger.open(urgent=True)[0]
    assert (inside.account()["next"] - inside.now()) / inside.account()["gap"] < 2


# -- outage ------------------------------------------------------------------------------------------------------------


def test_three_failures_in_a_row_are_an_outage_whoever_had_them(peer: Peers, inside: Redis) -> None:
    assert scripts.SUSPICIOUS == 3
    one, other = peer("p"), peer("q")
    fail(one)
    fail(other)
    one.ledger.opened()
    fail(one, 5)
    assert inside.account().get("is_out", 0) == 0, "somebody could connect a moment ago"
    inside.elapse(70)
    fail(one)
    fail(other)
    assert inside.account().get("is_out", 0) == 0 and one.ledger.open(urgent=False)[0]
    fail(one)
    assert inside.account()["is_out"] == 1


def test_a_job_may_be_the_probe(peer: Peers, inside: Redis) -> None:
    one = peer(streams=3)
    outage(one, inside)
    assert not one.ask("a").given
    inside.elapse(10)
    assert one.ask("b", mode="try").given is False, "who waits goes first"
    assert one.told() == ["a"] and not one.ask("c").given
    one.give_back("a", well=True)
    assert inside.account()["is_out"] == 0 and "c" in one.told()


def outage(one: Peer, inside: Redis) -> None:
    fail(one, 3)
    assert inside.account()["is_out"] == 1


def till_probe(inside: Redis) -> float:
    return (inside.account()["probe"] - inside.now()) / SECOND


def test_in_an_outage_no_slots_are_given_and_no_turns(peer: Peers, inside: Redis) -> None:
    one, other = peer("p", streams=2), peer("q", streams=2)
    one.ask("a")
    outage(one, inside)
    assert not other.ask("b").given and not other.ask("c", mode="try").given and not one.ledger.turn("m")[0]
    one.give_back("a")
    assert other.told() == [] and inside.waiting() == 1
    assert peer("r", "b").ask("a").given
    one.ledger.opened()
    one.ledger.look("m")
    assert other.told() == ["b"]


def test_in_an_outage_whoever_waits_is_looked_after(peer: Peers, inside: Redis) -> None:
    one = peer()
    outage(one, inside)
    look_in = one.ask("a").look_in
    assert look_in is not None and 0 < look_in <= 0.5


def test_a_stream_that_went_well_ends_an_outage_and_one_that_did_not_does_not(peer: Peers, inside: Redis) -> None:
    one = peer(streams=2)
    one.ask("a")
    one.ask("b")
    outage(one, inside)
    one.ask("c")
    one.give_back("a")
    assert inside.account()["is_out"] == 1 and one.told() == []
    one.give_back("b", well=True)
    assert (inside.account()["is_out"], inside.account()["failures"]) == (0, 0) and one.told() == ["c"]


def test_one_of_all_workers_probes(peer: Peers, inside: Redis) -> None:
    assert (scripts.PROBE, scripts.PROBE_FIRST, scripts.PROBE_MAX) == (15 * SECOND, SECOND // 2, 5 * SECOND)
    peers = [peer(name) for name in "xyz"]
    outage(peers[0], inside)
    inside.elapse(1)
    answers = [one.ledger.open(urgent=True) for one in peers]
    assert [may for may, _ in answers] == [True, False, False]
    assert all(0 < wait <= 1.0 for may, wait in answers if not may)
    peers[0].ledger.opened()
    assert inside.account()["is_out"] == 0 and all(one.ledger.open(urgent=True)[0] for one in peers)


def test_a_probe_of_which_nobody_hears_is_made_again_by_another(peer: Peers, inside: Redis) -> None:
    dead, one = peer("dead"), peer("p")
    outage(dead, inside)
    inside.elapse(1)
    assert dead.ledger.open(urgent=True)[0] and not one.ledger.open(urgent=True)[0]
    inside.elapse(16)
    assert one.ledger.open(urgent=True)[0]


def test_probes_that_fail_are_ever_further_apart(peer: Peers, inside: Redis) -> None:
    one = peer()
    outage(one, inside)
    levels, longest = [], []
    for _ in range(6):
        levels.append(inside.account()["level"] / SECOND)
        longest.append(till_probe(inside))
        inside.elapse(5)
        assert one.ledger.open(urgent=False)[0]
        fail(one)
    assert levels == [0.5, 1, 2, 4, 5, 5]
    assert all(wait <= level for wait, level in zip(longest, levels, strict=True))
    assert max(longest) > 2


def test_opens_that_began_before_the_outage_and_fail_in_it_are_no_probes(peer: Peers, inside: Redis) -> None:
    one = peer()
    outage(one, inside)
    before = inside.account()
    fail(one, 5)
    assert (inside.account()["level"], inside.account()["probe"]) == (before["level"], before["probe"])


def test_an_outage_soon_after_another_goes_on_where_that_was(peer: Peers, inside: Redis) -> None:
    assert scripts.FORGOTTEN == 60 * SECOND
    one = peer()
    outage(one, inside)
    one.ledger.opened()
    inside.elapse(6)
    outage(one, inside)
    assert inside.account()["level"] == SECOND
    one.ledger.opened()
    inside.elapse(70)
    outage(one, inside)
    assert inside.account()["level"] == SECOND / 2


@pytest.mark.parametrize("refused", [True, False])
def test_a_probe_waits_for_as_long_as_the_service_asked(peer: Peers, inside: Redis, refused: bool) -> None:
    one = peer()
    fail(one, 2)
    fail(one, refused=refused, retry_after=60.0)
    assert 50 < till_probe(inside) <= 60
    assert not one.ledger.open(urgent=True)[0]
    inside.elapse(60)
    assert one.ledger.open(urgent=True)[0]
    fail(one, refused=refused, retry_after=90.0)
    assert 80 < till_probe(inside) <= 90
