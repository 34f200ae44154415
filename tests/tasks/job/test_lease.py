from collections.abc import Callable
from typing import Any

import pytest
import redis

from tasks.job.checkpoint import KEEP
from tasks.job.lease import GONE, OK, OVER, TAKEN, Lease, event, fenced
from tasks.job.pulse import RENEW
from tasks.job.record import JobRecord
from tasks.job.view import JobView
from tests.tasks.job.conftest import KEYS, LEASE, TTL, Make, claimed, everything, lapse, said
from worker.stops import LeaseLost

ADD = fenced("redis.call('RPUSH', KEYS[2], ARGV[4])")
ALL = tuple(KEYS)


def lease() -> Lease:
    return Lease(ALL, seconds=LEASE, ttl=TTL)


def job(client: redis.Redis, holder: Lease | None, token: str, state: str = "running") -> None:
    """A job whose hash has this token, and whose lease, if there is one, is this holder's."""
    client.hset(KEYS.job, mapping={"state": state, "token": token})
    if holder is not None:
        client.set(KEYS.lease, holder.token, px=1000)


# -- the fence ---------------------------------------------------------------------------------------------------------


def test_the_holder_writes_and_has_the_lease_for_its_whole_time_again(client: redis.Redis) -> None:
    mine = lease()
    job(client, mine, mine.token)
    assert mine.call(ADD, "x").run(client) == OK
    assert client.lrange(KEYS.sentences, 0, -1) == [b"x"]
    assert 9_000 < int(str(client.pttl(KEYS.lease))) <= 10_000
    assert all(90 < int(str(client.ttl(key))) <= TTL for key in (KEYS.job, KEYS.sentences))


def test_a_lease_that_ran_out_while_nobody_came_is_its_holder_s_again(client: redis.Redis) -> None:
    mine = lease()
    job(client, None, mine.token)
    assert mine.call(ADD, "x").run(client) == OK
    assert client.get(KEYS.lease) == mine.token.encode()


@pytest.mark.parametrize(
    ("holds", "last", "state", "answer"),
    [
        ("other", "other", "running", TAKEN),  # another works on it
        ("other", "mine", "running", TAKEN),  # and the hash is older than the lease
        (None, "other", "running", TAKEN),  # another had it, and was lost
        (None, "other", "queued", TAKEN),  # another had it, and left it
        (None, "other", "succeeded", TAKEN),  # another has ended it
        (None, "mine", "queued", OVER),  # we have left it
        (None, "mine", "succeeded", OVER),  # we have ended it
        (None, "", "queued", TAKEN),  # it was sent anew
    ],
)
def test_who_is_not_the_holder_writes_nothing(
    client: redis.Redis, holds: str | None, last: str, state: str, answer: bytes
) -> None:
    mine, other = lease(), lease()
    token = {"mine": mine.token, "other": other.token, "": ""}[last]
    job(client, other if holds else None, token, state)
    before = everything(client)
    assert mine.call(ADD, "x").run(client) == answer
    assert everything(client) == before


def test_a_job_that_redis_does_not_know_is_not_made(client: redis.Redis) -> None:
    assert lease().call(ADD, "x").run(client) == GONE and client.keys("*") == []


def test_what_is_told_is_an_event_of_which_about_the_newest_are_kept(client: redis.Redis) -> None:
    mine, tell = lease(), fenced(event("ARGV[4]", "ARGV[5]"))
    job(client, mine, mine.token)
    assert mine.call(tell, "partial", "{}").run(client) == OK
    events: Any = client.xrange(KEYS.events)
    assert events[0][1] == {b"type": b"partial", b"data": b"{}"}
    assert "'MAXLEN', '~', 10000" in tell.text


def test_each_lease_has_a_token_of_its_own_and_shows_but_its_beginning() -> None:
    first, second = lease(), lease()
    assert first.token != second.token
    assert repr(first) == f"<Lease {first.token[:8]}, 10 s>"


# -- every write passes it ---------------------------------------------------------------------------------------------

Write = Callable[[JobRecord], Any]


def saved(record: JobRecord) -> None:
    """What has waited for Redis is written."""
    record.checkpoint.add(said(9))
    record.save()


def went(record: JobRecord) -> None:
    """As one goes who has told that he waits for quota."""
    record._is_waiting = True
    record.goes()


WRITES: dict[str, Write] = {
    "note": lambda record: record.note(duration_ms=7),
    "partial": lambda record: record.partial(said(9)),
    "final": lambda record: record.final(said(9)),
    "save": saved,
    "succeeded": lambda record: record.succeeded({"duration_ms": 7}),
    "failed": lambda record: record.failed("not_audio", "Give audio."),
    "cancelled": lambda record: record.cancelled(),
    "waiting": lambda record: record.waiting("throttled", "Later."),
    "cut": lambda record: record.cut(1),
    "waits": lambda record: record.waits(),
    "goes": went,
    "not_begun": lambda record: record.not_begun("default 7"),
    "postponed": lambda record: record.postponed(),
    "heard_out": lambda record: record.heard_out({0}),
    "handed_back": lambda record: record.handed_back(),
}

ENDS: dict[str, Write] = {
    "works on it": lambda record: record.final(said(0)),
    "was lost": lambda record: lapse(record._client),
    "left it": lambda record: record.waiting("throttled", "Later."),
    "left it uncounted": lambda record: record.waiting("throttled", "Later.", counted=False),
    "waits for quota": lambda record: record.not_begun("default 7"),
    "gave it back": lambda record: record.handed_back(),
    "succeeded": lambda record: record.succeeded({"duration_ms": 80}),
    "failed": lambda record: record.failed("not_audio", "Give audio."),
    "was cancelled": lambda record: record.cancelled(),
}


def test_every_method_that_writes_is_looked_at_here() -> None:
    others = {"queued", "claim", "following"}
    public = {name for name, thing in vars(JobRecord).items() if callable(thing) and not name.startswith("_")}
    assert public == set(WRITES) | others


@pytest.mark.parametrize("then", ENDS)
@pytest.mark.parametrize("write", WRITES)
def test_a_loser_s_write_raises_and_changes_nothing(
    client: redis.Redis, record: JobRecord, make: Make, write: str, then: str
) -> None:
    lapse(client)
    winner = make()
    claimed(winner)
    ENDS[then](winner)
    before = everything(client)
    with pytest.raises(LeaseLost):
        WRITES[write](record)
    assert everything(client) == before


@pytest.mark.parametrize("write", WRITES)
def test_who_was_only_late_goes_on_as_the_holder(
    client: redis.Redis, record: JobRecord, make: Make, write: str
) -> None:
    lapse(client)
    WRITES[write](record)
    assert JobView(client, "j").fields()["attempts"] == ("0" if write in ("not_begun", "postponed") else "1")


@pytest.mark.parametrize("end", list(ENDS)[2:])
@pytest.mark.parametrize(
    "late",
    [(RENEW, (9_000, 9_000, 9, 9)), (KEEP, (0, b'{"text":"late"}')), (ADD, ("late",))],
    ids=["RENEW", "KEEP", "ADD"],
)
def test_after_the_end_what_was_still_on_its_way_changes_nothing_and_makes_no_key(
    client: redis.Redis, record: JobRecord, late: Any, end: str
) -> None:
    ENDS[end](record)
    before = everything(client)
    script, given = late
    assert record.lease.call(script, *given).run(client) == OVER
    assert everything(client) == before and not client.exists(KEYS.lease)


@pytest.mark.parametrize("late", [(RENEW, (9, 9, 9, 9)), (KEEP, (0, b"{}"))], ids=["RENEW", "KEEP"])
def test_a_record_that_has_expired_is_not_made_anew_by_the_heartbeat(
    client: redis.Redis, record: JobRecord, late: Any
) -> None:
    record.succeeded({"duration_ms": 80})
    client.flushdb()
    script, given = late
    assert record.lease.call(script, *given).run(client) == GONE
    assert client.keys("*") == []


@pytest.mark.parametrize("end", list(ENDS)[2:])
def test_an_end_whose_answer_was_lost_is_written_again_without_harm(
    client: redis.Redis, record: JobRecord, end: str
) -> None:
    ENDS[end](record)
    before = everything(client)
    ENDS[end](record)
    assert everything(client) == before
