"""With real messages of real queues, over kombu's connections; Celery's consumer is the few attributes it is asked."""

import json
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Connection, Consumer, Exchange, Queue
from redis.exceptions import ResponseError

from worker import intake
from worker.intake import LOOK_EVERY, Bell, Intake, by_weight

NOTES = "unacked"
Eventually = Callable[..., None]


class Reader:
    """Who takes the messages of these queues, with room for so many."""

    def __init__(self, url: str, *queues: str, room: int = 1, plain: bool = False, **transport: Any) -> None:
        self.connection = connected(url, transport)
        self.channel: Any = self.connection.default_channel
        self.channel.basic_qos(0, room, False)
        self.came: list[Any] = []
        declared = [Queue(name, Exchange(name), routing_key=name) for name in queues]
        self.consumer = Consumer(self.channel, declared, on_message=self.came.append)
        self.parent = SimpleNamespace(
            task_consumer=SimpleNamespace(channel=self.channel, queues=declared),
            connection=self.connection,
            conninfo=self.connection,
        )
        if not plain:
            Intake(self.parent).start(self.parent)
        self.consumer.consume()

    def read(self, seconds: float = 5.0) -> Any:
        """The next message; None when none has come in time."""
        until, had = time.monotonic() + seconds, len(self.came)
        while len(self.came) == had and (left := until - time.monotonic()) > 0:
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=left)
        return self.came[-1] if len(self.came) > had else None

    @property
    def taker(self) -> Any:
        return self.channel._brpop_start.__self__

    @property
    def bells(self) -> list[Bell]:
        lines = [channel._brpop_start.__self__ for channel in self.connection.transport.channels]
        return [line for line in lines if isinstance(line, Bell)]

    def ids(self, number: int) -> list[str]:
        """Of the next messages, each done before the next is asked for."""
        found = []
        for _ in range(number):
            message = self.read()
            found.append(message.headers["id"])
            message.ack()
        return found


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is looked for again and again."""
    assert LOOK_EVERY == 1.0
    monkeypatch.setattr(intake, "LOOK_EVERY", 0.2)


def connected(url: str, transport: dict[str, Any]) -> Any:
    return Connection(url, transport_options=transport)


@pytest.fixture
def reader(valkey: str, client: redis.Redis) -> Iterator[Callable[..., Reader]]:
    made: list[Reader] = []

    def new(*queues: str, url: str = valkey, **how: Any) -> Reader:
        made.append(Reader(url, *queues, **how))
        return made[-1]

    yield new
    for one in made:
        one.connection.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for that no bell has rung for."""
    assert LOOK_EVERY == 1.0
    monkeypatch.setattr(intake, "LOOK_EVERY", 60.0)


def sent(url: str, *ids: str, queue: str = "q", **options: Any) -> None:
    with Celery("web", broker=url, set_as_current=False) as app:
        app.conf.task_queues = [Queue(queue, Exchange(queue), routing_key=queue)]
        app.conf.broker_transport_options = {"global_keyprefix": options.pop("prefix", "")}
        for one in ids:
            app.send_task("t", task_id=one, queue=queue, **options)


GOOD = {"delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": ""}}


def made(*, body: object = "", **properties: object) -> bytes:
    return json.dumps({"body": body, "properties": GOOD | properties}).encode()


def noted(client: redis.Redis, key: str = NOTES) -> dict[str, Any]:
    """What is held, by tag."""
    raw: Any = client.hgetall(key)
    return {tag.decode(): json.loads(note) for tag, note in raw.items()}


def commands(client: redis.Redis) -> Counter[str]:
    """How often each was given, to all databases; those that were given to none are there as 0."""
    raw: Any = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): figures["calls"] for name, figures in raw.items()})


# -- a message ---------------------------------------------------------------------------------------------------------


def test_a_message_is_noted_as_kombu_does_it(valkey: str, client: redis.Redis, reader: Callable[..., Reader]) -> None:
    notes = []
    for plain in (True, False):
        sent(valkey, "a")
        (raw,) = client.lrange("q", 0, -1)
        other = reader("q", plain=plain)
        message = other.read()
        note = noted(client)[message.delivery_tag]
        assert note[0] == json.loads(raw)
        notes.append(note[1:])
        if plain:
            message.ack()
            other.connection.close()
    assert notes[0] == notes[1] == ["", "q"]
    score: Any = client.zscore("unacked_index", message.delivery_tag)
    assert score == pytest.approx(time.time(), abs=5)
    assert not client.exists("q")

    message.ack()
    assert not client.exists(NOTES, "unacked_index")


def test_it_is_noted_once(valkey: str, client: redis.Redis, reader: Callable[..., Reader]) -> None:
    taker = reader("q")
    before = commands(client)
    sent(valkey, "a")
    assert taker.read()
    after = commands(client)
    assert after.get("hset", 0) - before.get("hset", 0) == 1


def test_one_that_is_given_back_is_there_for_the_next(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader]
) -> None:
    sent(valkey, "a", "b", priority=3)
    taker = reader("q")
    first = taker.read()
    first.reject(requeue=True)
    assert {taker.read().headers["id"] for _ in range(1)} == {"b"}
    other = reader("q")
    again = other.read()
    assert again.headers["id"] == "a" and again.headers["redelivered"] and again.body == first.body


def test_no_more_are_taken_than_there_is_room_for(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader]
) -> None:
    sent(valkey, "a", "b", "c", queue="q")
    sent(valkey, "d", queue="r")
    taker = reader("q", "r", room=2)
    assert taker.read() and taker.read() and taker.read(0.3) is None
    assert len(noted(client)) == 2
    taker.came[0].ack()
    assert taker.read()
    assert len(noted(client)) == 2


# -- order -------------------------------------------------------------------------------------------------------------


def test_the_more_urgent_come_first_and_those_of_a_queue_in_its_order(
    valkey: str, reader: Callable[..., Reader]
) -> None:
    sent(valkey, "late", queue="q", priority=9)
    sent(valkey, "q1", "q2", "q3", queue="q")
    sent(valkey, "r1", "r2", queue="r")
    sent(valkey, "between", queue="r", priority=4)
    found = reader("q", "r").ids(7)
    assert [one for one in found if one.startswith("q")] == ["q1", "q2", "q3"]
    assert [one for one in found if one.startswith("r")] == ["r1", "r2"]
    assert found[5:] == ["between", "late"]


@pytest.mark.parametrize("is_upside_down", [False, True])
def test_of_the_queues_that_have_something_the_first_that_was_drawn_is_taken_from(
    valkey: str, reader: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch, is_upside_down: bool
) -> None:
    monkeypatch.setattr(random, "expovariate", lambda rate: rate if is_upside_down else 1 / rate)
    for queue in ("transcribe.bulk", "transcribe", "transcribe.interactive"):
        sent(valkey, f"{queue} 1", f"{queue} 2", queue=queue)
    found = reader("transcribe", "transcribe.bulk", "transcribe.interactive", "q").ids(6)
    order = ["transcribe.interactive", "transcribe", "transcribe.bulk"]
    queues = order[::-1] if is_upside_down else order
    assert found == [f"{queue} {number}" for queue in queues for number in (1, 2)]


DRAWN = 20_000
"""Draws of an order that a test looks at. A share of them is off by no more than 0.004, with the usual luck."""


@pytest.mark.parametrize(
    ("queues", "shares"),
    [
        (["transcribe.interactive", "transcribe", "transcribe.bulk"], [8 / 13, 4 / 13, 1 / 13]),
        (["transcribe.bulk", "transcribe.interactive"], [1 / 9, 8 / 9]),
        (["transcribe.bulk", "celery"], [1 / 5, 4 / 5]),
        (["q", "r", "celery", "transcribe"], [1 / 4] * 4),
        (["q"], [1.0]),
    ],
)
def test_a_queue_is_the_first_as_often_as_its_weight_says(queues: list[str], shares: list[float]) -> None:
    random.seed(1)
    drawn = [by_weight(queues) for _ in range(DRAWN)]
    assert all(sorted(order) == sorted(queues) for order in drawn)
    for queue, share in zip(queues, shares, strict=True):
        assert sum(order[0] == queue for order in drawn) / DRAWN == pytest.approx(share, abs=0.015)


def test_nobody_starves_behind_a_queue_that_is_never_empty(valkey: str, reader: Callable[..., Reader]) -> None:
    urgent = [str(number) for number in range(160)]  # of which all come before it once in a hundred million runs
    sent(valkey, *urgent, queue="transcribe.interactive")
    sent(valkey, "bulk", queue="transcribe.bulk")
    found = reader("transcribe.interactive", "transcribe.bulk").ids(161)
    assert found.index("bulk") < 160 and [one for one in found if one != "bulk"] == urgent


def test_where_there_is_no_queue_there_is_no_order() -> None:
    assert by_weight([]) == []


@pytest.mark.parametrize("queue", ["q", "r"])
def test_a_message_for_whoever_waits_comes_at_once_from_any_queue(
    valkey: str, reader: Callable[..., Reader], patient: None, queue: str
) -> None:
    taker = reader("q", "r")
    assert taker.read(0.2) is None
    sent(valkey, "a", queue=queue)
    assert taker.read().headers["id"] == "a"


@pytest.mark.parametrize("how", [{"priority": 6}, {"queue": "late"}])
def test_what_rings_no_bell_is_found_all_the_same(
    valkey: str, reader: Callable[..., Reader], hasty: None, how: Any
) -> None:
    taker = reader("q")
    assert taker.read(0.1) is None
    taker.consumer.add_queue(Queue("late", Exchange("late"), routing_key="late"))
    taker.consumer.consume()
    sent(valkey, "a", **how)
    assert taker.read(3 * intake.LOOK_EVERY).headers["id"] == "a"


def test_keys_may_have_a_prefix(valkey: str, client: redis.Redis, reader: Callable[..., Reader], patient: None) -> None:
    taker = reader("q", global_keyprefix="p:")
    assert taker.read(0.1) is None
    sent(valkey, "a", prefix="p:")
    assert taker.read().headers["id"] == "a"
    assert len(noted(client, "p:unacked")) == 1 and not client.exists(NOTES)


def test_a_bell_leaves_its_queue_as_it_is(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader], patient: None
) -> None:
    sent(valkey, "a", "b", "c", "d")
    raw: Any = client.lrange("q", 0, -1)
    client.delete("q")
    takers = [reader("q") for _ in range(3)]
    assert [taker.read(0.1) for taker in takers] == [None] * 3
    client.lpush("q", *reversed(raw))
    assert takers[0].ids(4) == ["a", "b", "c", "d"]


def test_what_is_less_urgent_is_taken_without_a_pause(
    valkey: str, reader: Callable[..., Reader], patient: None
) -> None:
    sent(valkey, *"abcde", priority=6)
    assert reader("q").ids(5) == [*"abcde"]


def test_names_may_hold_anything(valkey: str, client: redis.Redis, reader: Callable[..., Reader]) -> None:
    odd = 'a "quoted\\" name'
    client.lpush("q", made(delivery_info={"exchange": odd, "routing_key": odd}))
    message = reader("q").read()
    assert noted(client)[message.delivery_tag][1:] == [odd, odd]


# -- cost --------------------------------------------------------------------------------------------------------------


def test_who_waits_asks_no_more_than_every_queue_at_each_look(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader], hasty: None
) -> None:
    sent(valkey, "a")
    taker = reader("q", "r")
    assert taker.ids(1) == ["a"] and taker.read(0.2) is None
    before = commands(client)
    assert taker.read(2.5 * intake.LOOK_EVERY) is None
    spent = {name: number - before[name] for name, number in commands(client).items()}
    assert 2 <= spent["blmove"] <= 8 and 1 <= spent["eval"] <= 4


def test_no_bell_waits_while_there_is_something_to_take(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader]
) -> None:
    sent(valkey, *"abcdefgh")
    taker = reader("q", "r")
    before = commands(client)
    assert taker.ids(8) == [*"abcdefgh"]
    spent = {name: number - before[name] for name, number in commands(client).items()}
    assert spent["eval"] in (8, 9) and spent.get("blmove", 0) <= 2  # before the first look, or after the last


def test_a_queue_that_is_not_read_any_more_is_left_in_peace(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader], hasty: None
) -> None:
    taker = reader("q", "r")
    assert taker.read(0.2) is None
    taker.consumer.cancel_by_queue("r")
    sent(valkey, "a", queue="r")
    assert taker.read(0.3) is None
    before = commands(client)
    assert taker.read(1.5 * intake.LOOK_EVERY) is None
    assert client.llen("r") == 1 and commands(client)["blmove"] - before["blmove"] <= 3


# -- who dies, and what breaks -----------------------------------------------------------------------------------------


def test_who_waits_and_dies_takes_nothing_with_him(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader], eventually: Eventually
) -> None:
    """He never reads what Redis has answered: it is as if he were dead, or his connection cut."""
    taker = reader("q")
    assert taker.read(0.1) is None
    taker.connection.transport.cycle.on_poll_start()
    before = commands(client)["lpush"]
    sent(valkey, "a")
    eventually(lambda: commands(client)["lpush"] > before, "it was sent")
    assert client.llen("q") == 1 and not client.exists(NOTES)
    assert reader("q").read().headers["id"] == "a"


def test_who_asks_and_dies_leaves_a_note(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader], eventually: Eventually
) -> None:
    sent(valkey, "a")
    taker = reader("q")
    taker.connection.transport.cycle.on_poll_start()
    eventually(lambda: not client.exists("q"), "Redis has given it")
    assert not taker.came
    ((tag, (raw, *_)),) = noted(client).items()
    assert raw["headers"]["id"] == "a" and client.zscore("unacked_index", tag) is not None

    other = reader("q")
    other.channel.qos.restore_by_tag(tag)  # as is done when nobody has renewed it for long enough
    assert other.read().headers["id"] == "a"


def cut(client: redis.Redis, *commands: str) -> int:
    """Cut the connections whose last command was one of these, and say how many. Other tests keep some, too."""
    listed: Any = client.client_list(_type="normal")
    found = [one["id"] for one in listed if one["cmd"] in commands]
    return sum(client.client_kill_filter(_id=one) for one in found)


def test_a_cut_connection_is_replaced(valkey: str, client: redis.Redis, reader: Callable[..., Reader]) -> None:
    taker = reader("q", "r")
    assert taker.read(0.1) is None
    assert cut(client, "blmove", "eval") >= 3
    sent(valkey, "a", queue="r")
    for _ in range(5):
        with suppress(redis.ConnectionError):
            if taker.read():
                break
    assert [message.headers["id"] for message in taker.came] == ["a"]


def test_a_redis_that_does_not_note_it_keeps_it(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader]
) -> None:
    client.acl_setuser(
        "reader", enabled=True, passwords=["+p"], keys=["*"], channels=["*"], categories=["+@all"], commands=["-hset"]
    )
    try:
        sent(valkey, "a")
        taker = reader("q", url=valkey.replace("redis://", "redis://reader:p@"))
        with pytest.raises(ResponseError, match="hset"):
            taker.read()
        assert client.llen("q") == 1 and not taker.came
    finally:
        client.acl_deluser("reader")


def test_who_has_no_room_does_not_mind_that_silent_connections_are_closed(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader], hasty: None
) -> None:
    """Which would lose him all connections, and have all that he holds done twice."""
    taker = reader("q", "r")
    assert taker.read(0.1) is None
    sent(valkey, "a", "b", queue="q")
    assert taker.read().headers["id"] == "a"
    assert taker.read(0.5) is None  # what the bells still waited for has been answered
    assert cut(client, "blmove") == 2
    for queue in ("q", "r", "q", "r"):
        taker.came[-1].ack()
        sent(valkey, "c", queue=queue)
        assert taker.read()
        cut(client, "blmove")


def test_a_bell_of_a_queue_that_is_not_read_any_more_may_be_cut(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader], hasty: None
) -> None:
    taker = reader("q", "r")
    taker.consumer.cancel_by_queue("r")
    assert taker.read(0.5) is None
    cut(client, "blmove")
    with suppress(redis.ConnectionError):  # the bell of the other queue was waiting
        assert taker.read(0.5) is None
    sent(valkey, "a")
    assert taker.read().headers["id"] == "a"


def test_what_room_there_is_is_asked_anew_each_time(valkey: str, reader: Callable[..., Reader]) -> None:
    taker, is_open = reader("q", room=9), [False]
    taker.channel.qos.can_consume = lambda: is_open[0]  # as Celery and others do, also later
    sent(valkey, "a")
    assert taker.read(0.3) is None
    is_open[0] = True
    assert taker.read()


def test_a_full_redis_is_borne(valkey: str, client: redis.Redis, reader: Callable[..., Reader], hasty: None) -> None:
    taker = reader("q", "r")
    assert taker.read(0.1) is None
    client.config_set("maxmemory", 1)
    try:
        before = commands(client)
        assert taker.read(2.5 * intake.LOOK_EVERY) is None
        assert commands(client)["blmove"] - before["blmove"] <= 8
    finally:
        client.config_set("maxmemory", 0)
    sent(valkey, "a")
    client.config_set("maxmemory", 1)
    try:
        assert taker.read(1.5 * intake.LOOK_EVERY) is None and client.llen("q") == 1
    finally:
        client.config_set("maxmemory", 0)
    assert taker.read().headers["id"] == "a"


def test_a_bell_waits_only_when_there_is_nothing_to_take(reader: Callable[..., Reader]) -> None:
    it = reader("q")
    taker, (bell,) = it.taker, it.bells
    assert it.read(0.1) is None and bell.is_asking
    for rung, asking in ((True, None), (False, True)):
        bell.channel._in_poll = None
        taker.is_rung, taker.channel._in_poll = rung, asking
        bell.ask()
        assert not bell.is_asking
    taker.channel._in_poll = None


def test_what_one_bell_says_is_not_unsaid_by_another(reader: Callable[..., Reader], hasty: None) -> None:
    taker = reader("q", "r")
    first, _ = taker.bells
    assert taker.read(0.05) is None and first.is_asking
    taker.taker.is_rung = True
    with pytest.raises(Empty):
        first.read()
    assert taker.taker.is_rung


def test_a_bell_is_heard_also_without_room_and_waits_only_with_room(reader: Callable[..., Reader]) -> None:
    taker = reader("q")
    (bell,) = taker.bells
    assert taker.read(0.1) is None and bell.is_asking
    for room in (True, False):
        taker.channel.qos.can_consume = lambda room=room: room
        bell.channel._in_poll = True
        assert bell.channel.qos.can_consume()
        bell.channel._in_poll = None
        assert bell.channel.qos.can_consume() is room


def test_nothing_is_sent_over_a_closed_connection(
    client: redis.Redis, reader: Callable[..., Reader], hasty: None, eventually: Eventually
) -> None:
    taker = reader("q")
    (bell,) = taker.bells
    assert taker.read(0.05) is None
    with pytest.raises(Empty):
        bell.read()
    assert not bell.is_asking and cut(client, "blmove") == 1
    bell.ask()
    assert not bell.is_asking
    eventually(lambda: taker.read(0.05) is None and bell.is_asking, "it waits over a new one")


def test_kombu_knows_since_when_an_answer_is_waited_for(reader: Callable[..., Reader]) -> None:
    """By which it finds connections that are half-open, and replaces them."""
    taker, before = reader("q"), time.monotonic()
    taker.connection.transport.cycle.on_poll_start()
    waiting = [one._brpop_sent_at for one in taker.connection.transport.cycle._channels if one._in_poll]
    assert waiting and min(waiting) >= before


def test_a_connection_gets_its_new_password_between_two_commands(
    valkey: str, reader: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    taker, flushed = reader("q"), []
    monkeypatch.setattr(taker.channel, "_flush_brpop_reauth", lambda: flushed.append(taker.channel._in_poll))
    assert taker.read(0.1) is None
    assert flushed == [None]


@pytest.mark.parametrize("close", ["waits", "asks"])
def test_a_connection_is_closed_at_once_and_what_it_asked_for_goes_back(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader], patient: None, eventually: Eventually, close: str
) -> None:
    taker = reader("q", "r", "s")
    if close == "waits":
        assert taker.read(0.1) is None
    else:
        sent(valkey, "a")
        taker.connection.transport.cycle.on_poll_start()
        eventually(lambda: not client.exists("q"), "Redis has given it")
    began = time.monotonic()
    taker.connection.close()
    assert time.monotonic() - began < intake.LOOK_EVERY / 2
    assert close == "waits" or (client.llen("q") == 1 and not client.exists(NOTES))


# -- what is no message ------------------------------------------------------------------------------------------------

RUBBISH = [
    b"",
    b"no json",
    b"[]",
    b"7",
    b"{}",
    b'{"properties": null}',
    b"[" * 100_000,
    made(delivery_tag=None),
    made(delivery_info=None),
    made(body=7, body_encoding="base64"),
    made(body="!!x", body_encoding="base64"),
    made(body="x", body_encoding="unknown"),
    made().replace(b"body", b"\xff"),
    made().replace(b'"x"', b'"\xff"'),
]


@pytest.mark.parametrize("rubbish", RUBBISH, ids=lambda raw: repr(raw[:90]))
def test_what_is_no_message_is_thrown_away_and_harms_no_other(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader], caplog: pytest.LogCaptureFixture, rubbish: bytes
) -> None:
    client.lpush("r", rubbish)
    sent(valkey, "a", queue="r")
    taker = reader("q", "r", room=2)
    assert taker.ids(1) == ["a"]
    sent(valkey, "b")
    assert taker.ids(1) == ["b"]
    assert not client.exists("q", "r", NOTES, "unacked_index")
    assert [one.message for one in caplog.records if one.levelno == logging.ERROR] == [
        f"{len(rubbish)} bytes in the queue r are no message of Celery's; they are thrown away"
    ]


def test_rubbish_is_named_by_its_queue_whatever_its_priority(
    client: redis.Redis, reader: Callable[..., Reader], caplog: pytest.LogCaptureFixture
) -> None:
    client.lpush("r\x06\x163", b"")
    assert reader("q", "r").read(0.3) is None
    assert [one.message for one in caplog.records if one.levelno == logging.ERROR] == [
        "0 bytes in the queue r are no message of Celery's; they are thrown away"
    ]


@pytest.mark.parametrize("name", ["file:///srv/caf\udce9.wav", '\\ud800 "quoted" \\', "\U0001f600"])
def test_whatever_a_client_can_send_is_noted(
    valkey: str, client: redis.Redis, reader: Callable[..., Reader], name: str
) -> None:
    sent(valkey, "a", args=[name], headers={"x": name}, argsrepr=name)
    (raw,) = client.lrange("q", 0, -1)
    message = reader("q").read()
    assert noted(client)[message.delivery_tag] == [json.loads(raw), "", "q"]
    assert message.headers["x"] == name
    message.reject(requeue=True)
    assert reader("q").read().headers["x"] == name


# -- a worker ----------------------------------------------------------------------------------------------------------


def test_only_redis_has_such_queues() -> None:
    for url, included in (("redis://127.0.0.1:1/0", True), ("memory://", False)):
        parent = SimpleNamespace(conninfo=Connection(url))
        assert Intake(parent).include_if(parent) is included
