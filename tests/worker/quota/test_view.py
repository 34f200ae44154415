import time
from collections.abc import Callable, Iterator

import pytest
import redis

from config.queues import BULK, INTERACTIVE, PLAIN_QUEUE, QUEUE
from emulator.stack import free_port
from worker.quota.ledger import Allowance, Ledger, Wish, account_key, lane_key, slots_key
from worker.quota.scripts import CALM, MAIL
from worker.quota.view import Account, Lane, Overview, View, estimate, recent

MODEL = "paraformer-realtime-v2"
LISTS = {QUEUE: (QUEUE, f"{QUEUE}\x06\x163"), BULK: (BULK,)}
FAST = Allowance(streams=2, starts_per_second=1000, opens_per_second=5)


@pytest.fixture
def ledger(client: redis.Redis) -> Ledger:
    return Ledger(client, "default", FAST)


@pytest.fixture
def mail(client: redis.Redis) -> Iterator[str]:
    """The name of a mailbox that somebody listens at."""
    with client.pubsub() as pubsub:
        pubsub.subscribe(f"{MAIL}m")
        assert pubsub.get_message(timeout=10)
        yield "m"


@pytest.fixture
def look(client: redis.Redis) -> Callable[[], Overview]:
    view = View(client, LISTS)
    return lambda: view.read(view.names())


def ask(ledger: Ledger, ticket: str, queue: str = "", model: str = MODEL, tenant: str = "") -> bool:
    return ledger.ask(f"m.{ticket}", Wish(model=model, queue=queue, tenant=tenant), 1.0, "wait").given


def fill(ledger: Ledger, count: int = 2) -> None:
    """Take so many slots."""
    until = time.monotonic() + 10
    for number in range(count):
        while not ask(ledger, f"s{number}"):
            assert time.monotonic() < until


def lane(found: Overview) -> Lane:
    (only,) = found.lanes
    return only


def account(found: Overview) -> Account:
    (only,) = found.accounts
    return only


# -- what is found -----------------------------------------------------------------------------------------------------


def test_nothing_is_found_as_nothing(look: Callable[[], Overview]) -> None:
    assert look() == Overview(accounts=(), lanes=(), queued={QUEUE: 0, BULK: 0})


def test_a_lane_is_found_by_account_and_model(look: Callable[[], Overview], ledger: Ledger) -> None:
    fill(ledger, 1)
    found = lane(look())
    assert (found.account, found.model) == ("default", MODEL)
    assert (found.slots, found.most_slots, found.starts_per_second, found.refused) == (1, 2, 1000.0, 0)
    assert (found.cool_down, found.slower) == (0.0, 1.0)
    assert found.waiting == {INTERACTIVE: 0, QUEUE: 0, BULK: 0}


@pytest.mark.parametrize("model", ["m", "m:slots", "m:flows", "a:b", "{x}", "模型", "two\nlines", ":"])
def test_a_model_may_be_called_anything(look: Callable[[], Overview], ledger: Ledger, model: str) -> None:
    ask(ledger, "a", model=model)
    assert lane(look()).model == model


def test_what_is_below_a_lane_is_none(
    look: Callable[[], Overview], ledger: Ledger, client: redis.Redis, mail: str
) -> None:
    fill(ledger)
    ask(ledger, "a", tenant="acme")
    assert client.type(f"{account_key('default')}:flows:{MODEL}") == b"hash"
    assert [one.model for one in look().lanes] == [MODEL]


def test_what_is_of_somebody_else_is_none(look: Callable[[], Overview], client: redis.Redis) -> None:
    client.hset("stenopool:quota:{}", "seen", 1)
    client.hset("stenopool:quota:{odd}x", "seen", 1)
    client.hset("stenopool:pool:{celery@h:1}", "seen", 1)
    client.set(account_key("odd"), "no hash")
    assert look() == Overview(accounts=(), lanes=(), queued={QUEUE: 0, BULK: 0})


def test_what_has_gone_since_it_was_found_is_left_out(ledger: Ledger, client: redis.Redis) -> None:
    view = View(client, {})
    fill(ledger, 1)
    names = view.names()
    client.flushdb()
    assert view.read(names) == Overview(accounts=(), lanes=(), queued={})


def test_accounts_and_lanes_are_in_order(look: Callable[[], Overview], client: redis.Redis) -> None:
    for name, model in (("b", "m"), ("a", "n"), ("a", "m")):
        ask(Ledger(client, name, FAST), "a", model=model)
    Ledger(client, "c", FAST).open(urgent=True)
    found = look()
    assert [(one.account, one.model) for one in found.lanes] == [("a", "m"), ("a", "n"), ("b", "m")]
    assert [one.name for one in found.accounts] == ["a", "b", "c"]


def test_without_a_limit_there_is_no_most(look: Callable[[], Overview], client: redis.Redis) -> None:
    allowed = Allowance(streams=None, starts_per_second=0.1, opens_per_second=5)
    fill(Ledger(client, "default", allowed), 1)
    found = lane(look())
    assert (found.slots, found.most_slots, found.starts_per_second) == (1, None, 0.1)


def test_a_slot_that_has_run_out_is_not_counted(
    look: Callable[[], Overview], ledger: Ledger, client: redis.Redis
) -> None:
    fill(ledger)
    client.zadd(slots_key("default", MODEL), {"m.s0": 1})
    assert lane(look()).slots == 1


def test_those_who_wait_are_counted_by_class(look: Callable[[], Overview], ledger: Ledger, mail: str) -> None:
    fill(ledger)
    for number, queue in enumerate((INTERACTIVE, QUEUE, PLAIN_QUEUE, "", BULK, BULK)):
        ask(ledger, f"w{number}", queue)
    assert lane(look()).waiting == {INTERACTIVE: 1, QUEUE: 3, BULK: 2}


def test_jobs_in_the_queues_are_counted_whatever_their_priority(
    look: Callable[[], Overview], client: redis.Redis
) -> None:
    client.rpush(QUEUE, "a", "b")
    client.rpush(f"{QUEUE}\x06\x163", "c")
    assert look().queued == {QUEUE: 3, BULK: 0}


def test_looking_changes_nothing(look: Callable[[], Overview], ledger: Ledger, client: redis.Redis, mail: str) -> None:
    fill(ledger)
    ask(ledger, "a")
    ledger.open(urgent=True)
    keys = sorted(client.keys())
    before = [client.dump(key) for key in keys]
    look()
    assert sorted(client.keys()) == keys and [client.dump(key) for key in keys] == before


def test_a_redis_that_is_away_is_told() -> None:
    with redis.Redis(port=free_port()) as nowhere, pytest.raises(redis.ConnectionError):
        View(nowhere, LISTS).names()


# -- a pace ------------------------------------------------------------------------------------------------------------


def test_a_refusal_is_a_cool_down_of_the_lane(look: Callable[[], Overview], ledger: Ledger) -> None:
    fill(ledger, 1)
    ledger.refused(MODEL, retry_after=30)
    ledger.refused(MODEL, retry_after=None)
    found = lane(look())
    assert found.refused == 2 and 25 < found.cool_down <= 30 and 1.5 < found.slower <= 2
    assert (account(look()).cool_down, account(look()).slower) == (0.0, 1.0)


def test_a_slow_down_wears_off(look: Callable[[], Overview], ledger: Ledger, client: redis.Redis) -> None:
    fill(ledger, 1)
    ledger.refused(MODEL, retry_after=None)
    moment = float(client.hget(lane_key("default", MODEL), "slow_at") or 0)
    client.hset(lane_key("default", MODEL), mapping={"slow_at": moment - 2 * CALM, "hold": moment})
    assert lane(look()).slower == pytest.approx(1.25, abs=0.02) and lane(look()).cool_down == 0.0


def test_an_account_s_opens_are_told_without_the_margin(look: Callable[[], Overview], ledger: Ledger) -> None:
    assert ledger.open(urgent=True)[0]
    found = account(look())
    assert found.opens_per_second == pytest.approx(5.0) and not found.is_out and found.probe_in == 0.0


def test_an_account_that_has_opened_nothing_has_no_pace_yet(look: Callable[[], Overview], ledger: Ledger) -> None:
    fill(ledger, 1)
    assert account(look()) == Account(
        name="default",
        opens_per_second=None,
        cool_down=0.0,
        slower=1.0,
        is_out=False,
        is_probing=False,
        probe_in=0.0,
    )


def test_a_refused_open_is_a_cool_down_of_the_account(look: Callable[[], Overview], ledger: Ledger) -> None:
    ledger.open_failed(refused=True, retry_after=30)
    found = account(look())
    assert 25 < found.cool_down <= 30 and 1.5 < found.slower <= 2 and not found.is_out


def test_an_outage_is_told_with_its_next_probe(look: Callable[[], Overview], ledger: Ledger) -> None:
    ledger.open(urgent=True)
    for _ in range(3):
        ledger.open_failed(refused=False, retry_after=30)
    found = account(look())
    assert found.is_out and not found.is_probing and 25 < found.probe_in <= 30

    ledger.opened()
    assert not account(look()).is_out and account(look()).probe_in == 0.0


def test_a_probe_that_is_under_way_is_told(look: Callable[[], Overview], ledger: Ledger, client: redis.Redis) -> None:
    for _ in range(3):
        ledger.open_failed(refused=False, retry_after=None)
    client.hset(account_key("default"), "probe", 1)
    assert account(look()).is_out and account(look()).probe_in == 0.0
    assert ledger.open(urgent=True) == (True, 0.0)
    assert account(look()).is_probing


# -- how fast it is ----------------------------------------------------------------------------------------------------


def test_starts_are_counted(look: Callable[[], Overview], ledger: Ledger) -> None:
    fill(ledger)
    assert 0 < lane(look()).started_per_second <= 2


@pytest.mark.parametrize(
    ("elapsed", "turns", "before", "rate"),
    [
        (0.0, 1, 0, 1.0),  # the first
        (0.01, 20, 0, 20.0),  # not 2000 a second
        (4.0, 20, 0, 5.0),
        (5.0, 10, 20, 2.0),
        (9.9, 0, 199, 10.0),
        (10.0, 20, 1000, 2.0),  # what was before is too long ago
        (19.9, 199, 0, 10.0),
        (20.0, 1000, 0, 0.0),
        (1e9, 1000, 1000, 0.0),
        (-1.0, 3, 0, 3.0),  # Redis' clock was put back
    ],
)
def test_a_rate_is_of_two_windows_at_most(elapsed: float, turns: int, before: int, rate: float) -> None:
    assert recent(elapsed=elapsed, turns=turns, before=before) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 0.0),
        ({"least": 9.0}, 0.0),  # nobody waits for it
        ({"rate": 0.0, "all_rates": 0.0}, 0.0),
        ({"in_line": 1}, 0.5),
        ({"in_line": 10}, 5.0),
        ({"queued": 10}, 2.5),  # other lanes take their part
        ({"in_line": 10, "queued": 10}, 7.5),
        ({"in_line": 10, "least": 4.9}, 5.0),
        ({"in_line": 10, "least": 5.1}, 5.1),
        ({"in_line": 1, "rate": 0.0}, None),
        ({"queued": 1, "rate": 0.0, "all_rates": 0.0}, None),
        ({"in_line": 1, "rate": 0.0, "least": 9.0}, None),
    ],
)
def test_a_wait_is_those_who_wait_by_the_rate_at_which_they_go(given: dict[str, float], seconds: float | None) -> None:
    usual = {"in_line": 0, "queued": 0, "rate": 2.0, "all_rates": 4.0, "least": 0.0}
    assert estimate(**usual | given) == seconds  # type: ignore[arg-type]


def test_a_wait_takes_the_queues_and_the_cool_down_in(
    look: Callable[[], Overview], ledger: Ledger, client: redis.Redis, mail: str
) -> None:
    fill(ledger)
    assert look().wait(lane(look())) == 0.0
    client.rpush(BULK, *range(100))
    ask(ledger, "a")
    found = look()
    assert found.wait(lane(found)) == pytest.approx(101 / lane(found).started_per_second)

    ledger.refused(MODEL, retry_after=1000)
    found = look()
    assert found.wait(lane(found)) == lane(found).cool_down > 200


def test_nobody_begins_before_the_next_probe(look: Callable[[], Overview], ledger: Ledger, mail: str) -> None:
    fill(ledger)
    for _ in range(3):
        ledger.open_failed(refused=False, retry_after=1000)
    ask(ledger, "a")
    found = look()
    assert found.wait(lane(found)) == account(found).probe_in > 200


def test_a_wait_is_unknown_where_nothing_has_begun_of_late(
    look: Callable[[], Overview], ledger: Ledger, client: redis.Redis, mail: str
) -> None:
    fill(ledger)
    ask(ledger, "a")
    seconds, _ = client.time()
    client.hset(lane_key("default", MODEL), "since", (seconds - 21) * 1_000_000)
    assert lane(look()).started_per_second == 0.0 and look().wait(lane(look())) is None
