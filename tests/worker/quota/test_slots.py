"""How many at once: each rule by what Redis answers to processes that ask one after the other."""

import redis

from tests.worker.quota.conftest import Peers
from tests.worker.quota.peers import SECOND, Redis
from worker.quota import scripts
from worker.quota.ledger import account_key, lane_key

# -- never too many ----------------------------------------------------------------------------------------------------


def test_over_all_processes_there_are_never_more_than_allowed(peer: Peers, inside: Redis) -> None:
    for streams in (1, 2, 3):
        peers = [peer(f"p{streams}{name}", account=f"a{streams}", streams=streams) for name in "xy"]
        given = [peers[number % 2].ask(f"t{number}").given for number in range(5)]
        assert given == [number < streams for number in range(5)]
        assert len(inside.slots(account=f"a{streams}")) == streams


def test_where_no_number_is_allowed_any_number_is(peer: Peers) -> None:
    one = peer(streams=None)
    assert all(one.ask(f"t{number}").given for number in range(50))


def test_who_asks_again_does_not_take_a_second_slot_nor_a_second_place(peer: Peers, inside: Redis) -> None:
    one = peer(streams=2)
    assert [one.ask("t").given for _ in range(3)] == [True] * 3
    assert len(inside.slots()) == 1
    one.ask("u")
    places = [one.ask("v").place for _ in range(3)]
    assert len(set(places)) == 1 and inside.waiting() == 1


def test_who_asks_again_after_his_moment_was_told_to_nobody_has_missed_his_start(peer: Peers) -> None:
    """It may lie ahead, or be long gone: who begins at once could meet another's."""
    one = peer(streams=2)
    assert one.ask("t").start_in >= 0
    assert one.ask("t").start_in < 0


# -- the line ----------------------------------------------------------------------------------------------------------


def test_what_is_given_back_goes_at_once_to_who_waits_longest_in_any_process(peer: Peers, inside: Redis) -> None:
    here, there = peer("here"), peer("there")
    assert here.ask("a").given
    assert not there.ask("b").given and not here.ask("c").given
    here.give_back("a")
    assert (there.told(), here.told()) == (["b"], []) and list(inside.slots()) == ["there.b"]
    there.give_back("b")
    assert (there.told(), here.told()) == ([], ["c"])
    here.give_back("c")
    assert inside.slots() == {} and here.told() == []


def test_one_who_only_tries_does_not_stand_in_line_and_gets_nothing_that_others_wait_for(
    peer: Peers, inside: Redis
) -> None:
    one = peer(streams=2)
    assert one.ask("a", mode="try").given and one.ask("b").given
    assert not one.ask("c", mode="try").given and inside.waiting() == 0
    one.ask("d")
    inside.client.hset(account_key("a"), mapping={"is_out": 1})  # so that nobody is served for the moment
    one.give_back("a")
    inside.client.hset(account_key("a"), mapping={"is_out": 0})
    assert not one.ask("e", mode="try").given
    assert one.told() == ["d"] and inside.waiting() == 0


def test_who_leaves_the_line_gets_nothing(peer: Peers, inside: Redis) -> None:
    one = peer()
    one.ask("a")
    for ticket, queue in (("b", "interactive"), ("c", "default"), ("d", "bulk"), ("e", "bulk")):
        one.ask(ticket, queue=queue)
    for ticket in ("b", "c", "d"):
        one.give_back(ticket)
    assert inside.waiting() == 1
    one.give_back("a")
    assert one.told() == ["e"]


def test_a_process_that_has_gone_is_passed_over(peer: Peers, inside: Redis) -> None:
    here, gone, there = peer("here"), peer("gone"), peer("there")
    here.ask("a")
    gone.ask("b")
    gone.ask("c")
    there.ask("d")
    gone.go()
    here.give_back("a")
    assert there.told() == ["d"] and list(inside.slots()) == ["there.d"] and inside.waiting() == 0


def test_who_asks_is_served_though_he_hears_no_mail(peer: Peers) -> None:
    deaf = peer("deaf")
    deaf.go()
    assert deaf.ask("a").given


def test_accounts_and_models_are_independent(peer: Peers) -> None:
    one, other = peer("p"), peer("q", account="b")
    assert one.ask("a").given and not one.ask("b").given
    assert one.ask("c", model="n").given and not one.ask("d", model="n").given
    assert other.ask("a").given and not other.ask("b").given
    one.give_back("c", model="n")
    assert one.told() == ["d"] and other.told() == []


# -- signs of life -----------------------------------------------------------------------------------------------------


def test_a_slot_that_nobody_renews_comes_free(peer: Peers, inside: Redis) -> None:
    assert scripts.HELD == 4 * SECOND
    dead, here = peer("dead"), peer("here")
    dead.ask("a")
    inside.elapse(3)
    assert not here.ask("b").given and list(inside.slots()) == ["dead.a"]
    inside.elapse(1.5)
    assert here.ask("b").given and list(inside.slots()) == ["here.b"]


def test_a_slot_that_is_renewed_stays(peer: Peers, inside: Redis) -> None:
    alive, here = peer("alive"), peer("here")
    alive.ask("a")
    for _ in range(3):
        inside.elapse(3)
        assert alive.renew("a") == []
    assert not here.ask("b").given


def test_a_stream_that_runs_on_after_its_slot_ran_out_is_counted_again(peer: Peers, inside: Redis) -> None:
    """Its process stood still for a while. There is one stream too many, and no further one is added."""
    still, here = peer("still"), peer("here")
    still.ask("a")
    inside.elapse(4.5)
    assert here.ask("b").given
    still.renew("a")
    here.give_back("b")
    assert not here.ask("c").given and list(inside.slots()) == ["still.a"]


def test_while_redis_was_away_no_slot_ran_out_whoever_comes_by_first(peer: Peers, inside: Redis) -> None:
    assert scripts.SILENCE == 2 * SECOND < scripts.HELD
    there, here = peer("there", streams=2), peer("here", streams=2)
    for first in ("asks", "renews"):
        there.ask("a")
        here.ask("b")
        inside.elapse(30, alone=True)
        if first == "renews":
            here.renew("b")
        assert not here.ask("c").given and sorted(inside.slots()) == ["here.b", "there.a"], first
        here.give_back("c")
        inside.elapse(3)
        assert not here.ask("d").given
        inside.elapse(1.5)
        assert here.ask("d").given, "those who did not come back with Redis are gone"
        here.give_back("d")
        for one, ticket in ((there, "a"), (here, "b")):
            one.give_back(ticket)


def test_a_sign_of_life_of_anybody_is_none_of_silence(peer: Peers, inside: Redis) -> None:
    one = peer()
    one.ask("a")
    for act in (
        lambda: one.renew(),
        lambda: one.ask("b"),
        lambda: one.ledger.turn("m"),
        lambda: one.ledger.put_off("m", 0, 0.1),
        lambda: one.ledger.look("m"),
    ):
        inside.elapse(1.5, alone=True)
        before = inside.now()
        act()
        assert before <= inside.lane()["seen"] <= inside.now()


def test_who_waits_is_served_when_a_slot_has_run_out_by_whoever_looks(peer: Peers, inside: Redis) -> None:
    dead, here = peer("dead"), peer("here")
    dead.ask("a")
    look_in = here.ask("b").look_in
    assert look_in is not None and 0 < look_in <= 4.1
    inside.elapse(4.5)
    assert here.ledger.look("m") is None and here.told() == ["b"]


# -- a stream that was broken off --------------------------------------------------------------------------------------


def test_a_slot_whose_stream_was_broken_off_stays_taken_for_a_while(peer: Peers, inside: Redis) -> None:
    one = peer()
    one.ask("a")
    one.ask("b")
    before = inside.now()
    one.give_back("a", linger=1.0)
    assert one.told() == [] and list(inside.slots()) == ["p.a"]
    assert before + SECOND <= inside.slots()["p.a"] <= inside.now() + SECOND
    inside.elapse(1.1)
    one.ledger.look("m")
    assert one.told() == ["b"]


def test_who_never_had_a_slot_leaves_none_behind(peer: Peers, inside: Redis) -> None:
    one = peer()
    one.give_back("a", linger=1.0)
    assert inside.slots() == {}


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_what_nobody_touches_is_forgotten_after_a_day(peer: Peers, client: redis.Redis, inside: Redis) -> None:
    one = peer()
    one.ask("a")
    one.ask("b")
    keys = inside.client.keys("stenopool:quota:*")
    assert len(keys) == 4  # the lane, its slots, its flows and a line
    assert all(0 < inside.client.ttl(key) <= 86_400 for key in keys)


def test_all_keys_of_an_account_are_on_one_node_of_a_cluster() -> None:
    assert account_key("a") == "stenopool:quota:{a}" and lane_key("a", "m") == "stenopool:quota:{a}:lane:m"
