"""Jobs in several processes that share one account over a real Valkey."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from emulator.stack import free_port
from tests.worker.quota.conftest import Peers, Quotas
from tests.worker.quota.peers import MODEL, PATIENCE, SECOND, Peer, Redis
from worker.beat import impatient
from worker.quota import NoQuota, Quota, QuotaUnknown, Slot, Wish
from worker.quota import quota as quota_module
from worker.quota.ledger import lane_key, slots_key
from worker.quota.mailbox import Start
from worker.stops import Cancelled, Drained, Stop

Eventually = Callable[..., None]


class Job(threading.Thread):
    """Wants a slot, and has it until it is told to leave."""

    def __init__(self, quota: Quota, wish: Wish) -> None:
        super().__init__(daemon=True)
        self.stop = Stop()
        self.told = 0
        self.slot: Slot | None = None
        self.error: Exception | None = None
        self.has_slot = threading.Event()
        self._quota = quota
        self._wish = wish
        self._leave = threading.Event()

    def run(self) -> None:
        try:
            with self._quota.slot(self._wish, self.stop, self._hear) as self.slot:
                self.has_slot.set()
                assert self._leave.wait(PATIENCE)
        except Exception as error:
            self.error = error

    def end(self) -> Exception | None:
        self._leave.set()
        self.join(2 * PATIENCE)
        assert not self.is_alive()
        return self.error

    def _hear(self) -> None:
        self.told += 1


Jobs = Callable[..., Job]


@pytest.fixture
def job() -> Iterator[Jobs]:
    made: list[Job] = []

    def start(quota: Quota, **wish: Any) -> Job:
        made.append(Job(quota, Wish(**{"model": MODEL} | wish)))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.stop.ask(Cancelled())
        one.end()


@pytest.fixture
def other(peer: Peers) -> Peer:
    """A process that has the account's only slot."""
    one = peer("other")
    assert one.ask("a", mode="try").given
    return one


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that waits looks up again and again, and who finds Redis away tries soon."""
    assert (quota_module.TELL_AFTER, quota_module.ASK_EVERY, quota_module.RETRY_EVERY) == (1.0, 3.0, 1.0)
    for name in ("TELL_AFTER", "ASK_EVERY", "RETRY_EVERY"):
        monkeypatch.setattr(quota_module, name, 0.01)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that waits does nothing of itself: what becomes of it is others' doing."""
    for name in ("TELL_AFTER", "ASK_EVERY"):
        monkeypatch.setattr(quota_module, name, 1000.0)


def nowhere() -> str:
    return f"redis://:secret@127.0.0.1:{free_port()}/0"


def move(quota: Quota, client: redis.Redis) -> None:
    """Let it ask this Redis from now on."""
    quota.ledger._redis = client


# -- slots -------------------------------------------------------------------------------------------------------------


def test_however_many_want_slots_no_more_than_allowed_have_one_and_all_get_theirs(quota: Quotas, inside: Redis) -> None:
    processes = [quota(streams=3, patience=60.0) for _ in range(4)]
    lock, busy, most, served = threading.Lock(), 0, 0, 0

    def work(process: Quota) -> None:
        nonlocal busy, most, served
        for _ in range(4):
            with process.slot(Wish(model=MODEL), Stop(), lambda: None):
                with lock:
                    busy, served = busy + 1, served + 1
                    most = max(most, busy, len(inside.slots()))
                with lock:
                    busy -= 1

    threads = [threading.Thread(target=work, args=(process,), daemon=True) for process in processes for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (served, busy) == (64, 0) and 1 < most <= 3
    assert inside.slots() == {} and inside.waiting() == 0
    assert all(repr(process) == "<Quota a, slots 0, waiting 0>" for process in processes)


def test_a_job_that_waits_is_told_at_once_when_another_process_gives_back(
    quota: Quotas, job: Jobs, trusting: None
) -> None:
    here, there = quota(), quota()
    first = job(here)
    assert first.has_slot.wait(PATIENCE) and repr(here) == "<Quota a, slots 1, waiting 0>"
    second = job(there)
    assert not second.has_slot.wait(0.05)
    assert first.end() is None
    assert second.has_slot.wait(PATIENCE) and second.slot is not None
    assert repr(there) == "<Quota a, slots 1, waiting 0>" and second.told == 0


def test_a_job_that_waits_for_its_moment_is_served_by_who_is_on_duty(
    quota: Quotas, job: Jobs, trusting: None, inside: Redis
) -> None:
    here = quota(streams=None, starts_per_second=5.0)
    jobs = [job(here) for _ in range(3)]
    assert all(one.has_slot.wait(PATIENCE) for one in jobs)
    assert len(inside.slots()) == 3


def test_jobs_of_a_class_and_a_tenant_stand_as_their_queue_and_weight_say(
    quota: Quotas, job: Jobs, other: Peer, eventually: Eventually, inside: Redis
) -> None:
    here = quota(tenants={"heavy": 4.0})
    for number, (tenant, queue) in enumerate([("heavy", "transcribe.bulk"), ("light", "odd")], start=1):
        job(here, tenant=tenant, queue=queue)
        eventually(lambda wanted=number: inside.waiting() == wanted, "it waits")
    places = {
        name: inside.client.zrange(f"stenopool:quota:{{a}}:line:{name}:m", 0, -1, withscores=True)[0][1]
        for name in ("transcribe.bulk", "transcribe")
    }
    assert places == {"transcribe.bulk": 0.25, "transcribe": 1.0}


def test_mail_that_was_lost_is_asked_for(
    quota: Quotas, job: Jobs, other: Peer, trusting: None, eventually: Eventually, inside: Redis
) -> None:
    one = job(quota())
    eventually(lambda: inside.waiting() == 1, "it waits")
    inside.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    other.give_back("a")
    assert one.has_slot.wait(PATIENCE)


def test_a_job_that_hears_no_mail_asks_by_itself(
    quota: Quotas, job: Jobs, other: Peer, restless: None, eventually: Eventually, inside: Redis
) -> None:
    here = quota()
    here._mailbox.close()
    one = job(here)
    eventually(lambda: inside.waiting() == 1, "it waits")
    other.give_back("a")
    assert one.has_slot.wait(PATIENCE)


def test_a_stream_that_was_broken_off_keeps_its_slot_for_a_while(quota: Quotas, inside: Redis) -> None:
    here = quota()
    with pytest.raises(ZeroDivisionError), here.slot(Wish(model=MODEL), Stop(), lambda: None) as slot:
        slot.await_start(Stop())
        raise ZeroDivisionError
    assert len(inside.slots()) == 1
    inside.elapse(1.1)
    with here.slot(Wish(model=MODEL), Stop(), lambda: None) as slot:
        slot.await_start(Stop())
        slot.ended(well=True)
    assert inside.slots() == {}


def test_a_stream_that_ended_well_ends_an_outage(quota: Quotas, inside: Redis) -> None:
    here = quota()
    for well in (False, True):
        with here.slot(Wish(model=MODEL), Stop(), lambda: None) as slot:
            for _ in range(3):
                here.ledger.open_failed(refused=False, retry_after=None)
            slot.ended(well=well)
        assert inside.account()["is_out"] == (not well)
        here.ledger.opened()


def test_a_refusal_slows_all_down_and_is_counted(quota: Quotas, inside: Redis) -> None:
    here = quota()
    with here.slot(Wish(model=MODEL), Stop(), lambda: None) as slot:
        before = inside.now()
        slot.refused(30.0)
    assert inside.lane()["hold"] >= before + 30 * SECOND
    assert here.figures()["quota_refused"] == 1 and inside.slots() == {}


def test_another_turn_is_waited_for(quota: Quotas, inside: Redis, restless: None) -> None:
    here = quota(streams=None, starts_per_second=5.0)
    with here.slot(Wish(model=MODEL), Stop(), lambda: None) as slot:
        slot.await_start(Stop())
        before = inside.lane()["next"]
        slot.await_start(Stop())
        assert inside.now() >= before and inside.lane()["next"] >= before + SECOND / 5


# -- late to the service -----------------------------------------------------------------------------------------------


def begin(quota: Quota, took: float, shift: int = 0) -> None:
    """A stream has begun, so many seconds after its moment."""
    quota.began(MODEL, Start(time.monotonic() - took, shift))


def test_one_that_takes_longer_than_usual_puts_off_those_that_follow(quota: Quotas, inside: Redis) -> None:
    assert (quota_module.USUAL, quota_module.SLACK) == (32, 0.02)
    here = quota()
    begin(here, 100.0)
    assert inside.lane() == {} and here.figures()["quota_put_off"] == 0
    begin(here, 100.5)
    assert 0.3 * SECOND < inside.lane()["shift"] < 0.7 * SECOND and here.figures()["quota_put_off"] == 1
    begin(here, 50.0)
    assert here.figures()["quota_put_off"] == 1
    shift = inside.lane()["shift"]
    begin(here, 150.0, int(shift))
    assert inside.lane()["shift"] == shift + quota_module.MOST_LATE * SECOND


def test_what_is_usual_is_what_the_newest_starts_took(quota: Quotas) -> None:
    here = quota()
    begin(here, 0.0)
    for count in range(1, 32):
        begin(here, 1000.0)
        assert here.figures()["quota_put_off"] == count
    begin(here, 900.0)
    begin(here, 800.0)
    assert here.figures()["quota_put_off"] == 31


def test_a_job_is_told_with_its_slot_how_far_all_were_put_off(
    quota: Quotas, job: Jobs, other: Peer, trusting: None, eventually: Eventually, inside: Redis
) -> None:
    here = quota()
    other.ledger.put_off(MODEL, 0, 0.01)
    other.ledger.put_off("n", 0, 0.02)
    waits = job(here)
    eventually(lambda: inside.waiting() == 1, "it waits")
    other.give_back("a")
    assert waits.has_slot.wait(PATIENCE)
    with here.slot(Wish(model="n"), Stop(), lambda: None) as asks:
        assert waits.slot is not None and (waits.slot._start.shift, asks._start.shift) == (10_000, 20_000)


# -- no more patience --------------------------------------------------------------------------------------------------


def test_a_job_without_patience_leaves_the_line_and_takes_its_place_along(
    quota: Quotas, other: Peer, inside: Redis, restless: None
) -> None:
    here, told = quota(patience=0.05), list[str]()
    with pytest.raises(NoQuota) as first, here.slot(Wish(model=MODEL), Stop(), lambda: told.append("waits")):
        pytest.fail("it began")
    assert told and inside.waiting() == 0 and float(first.value.place) > 0
    other.ask("later")
    wish = Wish(model=MODEL, place=first.value.place)
    with pytest.raises(NoQuota) as second, here.slot(wish, Stop(), lambda: None):
        pytest.fail("it began")
    assert second.value.place == first.value.place
    figures = here.figures()
    assert (figures["quota_waits"], figures["quota_returned"], figures["quota_waiting"]) == (2, 2, 0)
    assert figures["quota_wait_seconds_total"] >= 0.1


def test_who_follows_a_job_is_told_again_and_again_that_it_waits(
    quota: Quotas, job: Jobs, other: Peer, restless: None, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_module, "ASK_EVERY", 1000.0)
    one = job(quota())
    eventually(lambda: one.told >= 3, "it is told")
    other.give_back("a")
    assert one.has_slot.wait(PATIENCE)


def test_one_that_does_not_wait_is_turned_away_at_once_and_not_counted(
    quota: Quotas, other: Peer, inside: Redis, trusting: None
) -> None:
    here = quota()
    with pytest.raises(NoQuota) as caught, here.slot(Wish(model=MODEL), Stop(), pytest.fail, wait=False):
        pytest.fail("it began")
    assert caught.value.place == "" and inside.waiting() == 0
    assert (here.figures()["quota_waits"], here.figures()["quota_returned"]) == (0, 0)


# -- asked to stop -----------------------------------------------------------------------------------------------------


def test_who_is_asked_to_stop_at_once_waits_no_more_and_leaves_the_line(
    quota: Quotas, job: Jobs, other: Peer, trusting: None, eventually: Eventually, inside: Redis
) -> None:
    here = quota(patience=1000.0)
    one = job(here)
    eventually(lambda: inside.waiting() == 1, "it waits")
    one.stop.ask(Cancelled())
    assert isinstance(one.end(), Cancelled)
    assert inside.waiting() == 0 and repr(here) == "<Quota a, slots 0, waiting 0>"


def test_who_is_asked_to_stop_with_time_waits_no_more_when_it_looks_up(
    quota: Quotas, job: Jobs, other: Peer, restless: None, eventually: Eventually, inside: Redis
) -> None:
    one = job(quota())
    eventually(lambda: inside.waiting() == 1, "it waits")
    one.stop.ask(Drained(), at_once=False)
    assert isinstance(one.end(), Drained) and inside.waiting() == 0


def test_who_is_asked_to_stop_when_its_mail_comes_gives_the_slot_back(
    quota: Quotas, job: Jobs, other: Peer, trusting: None, eventually: Eventually, inside: Redis
) -> None:
    one = job(quota())
    eventually(lambda: inside.waiting() == 1, "it waits")
    one.stop.ask(Drained(), at_once=False)
    other.give_back("a")
    assert isinstance(one.end(), Drained) and inside.slots() == {}


# -- Redis is away -----------------------------------------------------------------------------------------------------


def test_a_job_waits_for_a_redis_that_is_away(quota: Quotas, job: Jobs, client: redis.Redis, restless: None) -> None:
    here = quota(url=nowhere())
    one = job(here)
    assert not one.has_slot.wait(0.05)
    move(here, client)
    assert one.has_slot.wait(PATIENCE)


def test_a_redis_that_stays_away_is_not_waited_for_for_ever(
    quota: Quotas, restless: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    here = quota(url=nowhere(), redis_patience=0.05)
    with pytest.raises(QuotaUnknown, match="ConnectionError"), here.slot(Wish(model=MODEL), Stop(), lambda: None):
        pytest.fail("it began")
    assert "account a: Redis was not told (ConnectionError)" in caplog.messages and "secret" not in caplog.text
    assert repr(here) == "<Quota a, slots 0, waiting 0>"


def test_who_is_asked_to_stop_does_not_wait_for_redis(quota: Quotas, job: Jobs) -> None:
    one = job(quota(url=nowhere(), redis_patience=1000.0))
    one.stop.ask(Cancelled())
    assert isinstance(one.end(), Cancelled)


def test_a_slot_can_be_left_while_redis_is_away(quota: Quotas, inside: Redis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    here = quota()
    with impatient(nowhere()) as away, here.slot(Wish(model=MODEL), Stop(), lambda: None) as slot:
        slot.await_start(Stop())
        move(here, away)
        slot.refused(1.0)
    assert repr(here) == "<Quota a, slots 0, waiting 0>" and len(inside.slots()) == 1
    assert caplog.messages.count("account a: Redis was not told (ConnectionError)") == 2
    inside.elapse(4.5)
    Peer(inside.client, "p", here.ledger.allowance).ask("next")
    assert list(inside.slots()) == ["p.next"]


# -- for what can wait -------------------------------------------------------------------------------------------------


def test_what_can_wait_gets_a_slot_that_nobody_wants(quota: Quotas, inside: Redis) -> None:
    with quota().calm_slot(MODEL, 0.0) as slot:
        assert slot is not None and slot.linger == quota_module.LINGER and len(inside.slots()) == 1
        slot.ended(well=True)
    assert inside.slots() == {}


def test_what_can_wait_gets_none_while_jobs_want_them(quota: Quotas, other: Peer, inside: Redis) -> None:
    with quota().calm_slot(MODEL, 0.0) as slot:
        assert slot is None and inside.waiting() == 0


def test_what_can_wait_gets_a_slot_that_comes_free_within_its_time(quota: Quotas, other: Peer) -> None:
    leaving = threading.Timer(0.05, other.give_back, ["a"])
    leaving.start()
    with quota().calm_slot(MODEL, 60.0) as slot:
        assert slot is not None
    leaving.join(PATIENCE)


def test_what_can_wait_gets_none_while_redis_is_away(quota: Quotas) -> None:
    with quota(url=nowhere(), redis_patience=0.0).calm_slot(MODEL, 0.0) as slot:
        assert slot is None


# -- figures and signs of life -----------------------------------------------------------------------------------------


def test_figures_tell_of_now_and_of_what_has_been(
    quota: Quotas, job: Jobs, other: Peer, eventually: Eventually, inside: Redis
) -> None:
    here = quota(streams=2)
    assert set(here.figures().values()) == {0}
    with here.slot(Wish(model=MODEL), Stop(), lambda: None):
        job(here)
        job(here, model="n")
        eventually(lambda: here.figures()["quota_slots"] == 2 and inside.waiting() == 1, "one waits")
        here.count("late_starts")
        assert {name: value for name, value in here.figures().items() if value and "seconds" not in name} == {
            "quota_slots": 2,
            "quota_waiting": 1,
            "quota_waits": 1,
            "quota_late_starts": 1,
        }
        assert (here.pressure(MODEL), here.pressure("n"), here.pressure("o")) == (1.0, 0.5, 0.0)


def test_where_slots_are_not_limited_it_is_the_pace_that_presses(quota: Quotas) -> None:
    here = quota(streams=None, starts_per_second=4.0)
    with here.slot(Wish(model=MODEL), Stop(), lambda: None):
        assert here.pressure(MODEL) == 0.25


def test_a_beat_looks_after_a_lane_for_a_while_and_gives_back_what_was_returned_while_it_was_under_way(
    quota: Quotas, inside: Redis, eventually: Eventually
) -> None:
    here = quota()
    with here.slot(Wish(model=MODEL), Stop(), lambda: None):
        late = here.tell()
    assert late is not None and not inside.slots()
    here.told(late.run(inside.client))
    eventually(lambda: all(at < inside.now() + 2 * SECOND for at in inside.slots().values()), "it is free soon")
    again = here.tell()
    assert again is not None and again.given == (2, lane_key("a", MODEL), slots_key("a", MODEL), 0)


def test_a_beat_renews_what_a_process_has_and_nothing_where_it_has_nothing(
    quota: Quotas, inside: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_module, "IN_USE", 0.0)
    here = quota()
    assert here.tell() is None
    with here.slot(Wish(model=MODEL), Stop(), lambda: None):
        with here.slot(Wish(model="n"), Stop(), lambda: None):
            inside.elapse(3)
            call = here.tell()
            assert call is not None and call.run(inside.client) == []
            for model in (MODEL, "n"):
                (moment,) = inside.slots(model).values()
                assert moment > inside.now() + 2 * SECOND
        call = here.tell()
        assert call is not None and call.given[0] == 2  # the keys of one lane
    assert here.tell() is None


def test_a_beat_finds_a_line_that_nobody_looks_after_and_has_it_looked_after(
    quota: Quotas, job: Jobs, peer: Peers, trusting: None, eventually: Eventually, inside: Redis
) -> None:
    """Both the process that has the slot and the one that was on duty are gone."""
    dead, here = peer("dead"), quota()
    dead.ask("a", model="n")
    dead.ask("b", model="n")
    dead.go()
    with here.slot(Wish(model=MODEL), Stop(), lambda: None):
        one = job(here, model="n")
        eventually(lambda: inside.waiting("n") == 2, "it waits")
        inside.elapse(5)
        call = here.tell()
        assert call is not None
        here.told(call.run(inside.client))
        assert one.has_slot.wait(PATIENCE)
