import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from emulator.stack import free_port
from worker import beat
from worker.beat import Beat, impatient
from worker.script import Call, Script

SET = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
WRONG = Script("return redis.call('LLEN', KEYS[1])")
Eventually = Callable[..., None]


class FakePulse:
    """Adds one to its key with each beat, as long as it has something to tell."""

    def __init__(self, key: str, script: Script = SET) -> None:
        self.key = key
        self.news = True
        self.asked = 0
        self.answers: list[Any] = []
        self._script = script

    def tell(self) -> Call | None:
        self.asked += 1
        return self._script.call([self.key], 1) if self.news else None

    def told(self, answer: Any) -> None:
        self.answers.append(answer)


class BrokenPulse(FakePulse):
    """Cannot be asked, or cannot hear."""

    def __init__(self, key: str, asks: bool = False) -> None:
        super().__init__(key)
        self._asks = asks

    def tell(self) -> Call | None:
        if not self._asks:
            raise KeyError(self.key)
        return super().tell()

    def told(self, answer: Any) -> None:
        raise ValueError(answer)


@pytest.fixture
def make(valkey: str, client: redis.Redis) -> Iterator[Callable[..., Beat]]:
    """Makes a heartbeat that stops with the test."""
    made: list[Beat] = []

    def new(url: str = valkey) -> Beat:
        made.append(Beat(impatient(url)))
        return made[-1]

    yield new
    for one in made:
        stop(one)
        one._redis.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats follow each other at once."""
    assert beat.BEAT_EVERY == 1.0
    monkeypatch.setattr(beat, "BEAT_EVERY", 0.01)


def stop(beating: Beat) -> None:
    beating.stop()
    beating.join(10)
    assert beating._thread is None or not beating._thread.is_alive()


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [one.message for one in caplog.records if one.name == "worker.beat" and one.levelno == level]


def stat(client: redis.Redis, name: str) -> int:
    figures: Any = client.info("stats")
    return int(figures[name])


# -- one beat ----------------------------------------------------------------------------------------------------------


def test_a_beat_is_one_round_trip_whatever_it_carries(make: Callable[..., Beat], client: redis.Redis) -> None:
    beating, pulses = make(), [FakePulse(f"k{number}") for number in range(20)]
    beating._beat(pulses)  # which also connects
    before = stat(client, "total_reads_processed")
    beating._beat(pulses)
    assert stat(client, "total_reads_processed") - before == 2  # and one for asking
    assert all(pulse.answers == [1, 2] for pulse in pulses)


def test_who_has_nothing_to_tell_costs_no_round_trip(make: Callable[..., Beat]) -> None:
    beating, pulse = make(f"redis://127.0.0.1:{free_port()}/0"), FakePulse("k")
    pulse.news = False
    beating._beat([pulse])
    assert beating._well and pulse.answers == []


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_when_many_have_something_to_tell_they_take_turns_and_those_carried_are_always_heard(
    make: Callable[..., Beat], monkeypatch: pytest.MonkeyPatch, turn: int, hasty: None, eventually: Eventually
) -> None:
    assert beat.TURN == 400
    monkeypatch.setattr(beat, "TURN", 1 + turn)
    beating, carried, pulses = make(), FakePulse("c"), [FakePulse(f"k{number}") for number in range(5)]
    beating.carry(carried)
    with (
        beating.follow(pulses[0]),
        beating.follow(pulses[1]),
        beating.follow(pulses[2]),
        beating.follow(pulses[3]),
        beating.follow(pulses[4]),
    ):
        eventually(lambda: min(len(pulse.answers) for pulse in pulses) >= 10, "everybody was heard")
    stop(beating)
    counts = [len(pulse.answers) for pulse in pulses]
    assert len(carried.answers) >= max(counts)
    assert max(counts) - min(counts) <= turn + 2  # those who came first began a beat or two before the others


def test_a_quiet_one_takes_nobody_s_turn(
    make: Callable[..., Beat], monkeypatch: pytest.MonkeyPatch, client: redis.Redis
) -> None:
    monkeypatch.setattr(beat, "TURN", 1)
    beating, quiet, loud = make(), FakePulse("q"), FakePulse("l")
    quiet.news = False
    beating._beat([quiet, loud])
    assert loud.answers == [1]


# -- scripts -----------------------------------------------------------------------------------------------------------


def test_a_redis_that_forgot_the_scripts_is_taught_them_in_the_same_beat(
    make: Callable[..., Beat], client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    beating, pulse = make(), FakePulse("k")
    client.script_flush()
    beating._beat([pulse])
    client.script_flush()
    before = stat(client, "total_reads_processed")
    beating._beat([pulse])
    assert (
        stat(client, "total_reads_processed") - before == 3
    )  # the question, the answer with the script, and this look
    assert pulse.answers == [1, 2] and not said(caplog, logging.WARNING)


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [BrokenPulse("b"), BrokenPulse("b", asks=True), FakePulse("k", WRONG)])
def test_a_fault_of_one_is_told_once_and_harms_no_other(
    make: Callable[..., Beat], caplog: pytest.LogCaptureFixture, broken: FakePulse, client: redis.Redis
) -> None:
    caplog.set_level(logging.INFO)
    client.set("k", 0)
    beating, first, last = make(), FakePulse("k"), FakePulse("l")
    for _ in range(3):
        beating._beat([first, broken, last])
    assert first.answers == [1, 2, 3] and last.answers == [1, 2, 3]
    assert len(said(caplog, logging.WARNING)) == 1 and said(caplog, logging.INFO) == []
    beating._beat([first, last])
    assert said(caplog, logging.INFO) == ["the heartbeat reaches Redis again"]


def test_an_outage_of_redis_is_told_once_and_what_was_not_heard_is_told_again(
    make: Callable[..., Beat], valkey: str, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    beating, pulse = make(f"redis://:secret@127.0.0.1:{free_port()}/0"), FakePulse("k")
    for _ in range(3):
        beating._beat([pulse])
    refused = "the heartbeat does not reach Redis as a whole (ConnectionError); trying on"
    assert said(caplog, logging.WARNING) == [refused] and said(caplog, logging.INFO) == []
    assert pulse.answers == [] and "secret" not in caplog.text

    beating._redis = impatient(valkey)
    beating._beat([pulse])
    assert pulse.answers == [1] and said(caplog, logging.INFO) == ["the heartbeat reaches Redis again"]


# -- a life ------------------------------------------------------------------------------------------------------------


def test_making_a_heartbeat_starts_and_opens_nothing(valkey: str, client: redis.Redis) -> None:
    threads, connections = set(threading.enumerate()), stat(client, "total_connections_received")
    beating = Beat(impatient(valkey))
    beating.stop()
    beating.join(0)
    assert set(threading.enumerate()) <= threads
    assert stat(client, "total_connections_received") == connections
    assert repr(beating) == "<Beat carried 0, followed 0>"


def test_the_first_who_is_followed_starts_it_and_who_has_left_is_not_asked(
    make: Callable[..., Beat], hasty: None, eventually: Eventually
) -> None:
    beating, gone, here = make(), FakePulse("gone"), FakePulse("here")
    with beating.follow(here):
        with pytest.raises(ValueError), beating.follow(gone):
            eventually(lambda: gone.answers, "it is heard")
            raise ValueError
        began = here.asked
        eventually(lambda: here.asked >= began + 2, "the beat in which it left is over")
        asked, began = gone.asked, here.asked
        eventually(lambda: here.asked >= began + 3, "some beats")
        assert gone.asked == asked
    assert repr(beating) == "<Beat carried 0, followed 0>"


def test_those_carried_are_asked_a_last_time_when_it_stops(make: Callable[..., Beat], eventually: Eventually) -> None:
    beating, pulse = make(), FakePulse("k")
    beating.carry(pulse)
    eventually(lambda: pulse.answers, "the first beat comes at once")
    stop(beating)
    assert pulse.asked == 2 and pulse.answers == [1, 2]


def test_who_is_carried_twice_is_asked_once(make: Callable[..., Beat], eventually: Eventually) -> None:
    beating, pulse = make(), FakePulse("k")
    for _ in range(2):
        beating.carry(pulse)
    eventually(lambda: pulse.answers, "the first beat")
    stop(beating)
    assert repr(beating) == "<Beat carried 1, followed 0>" and pulse.answers == [1, 2]


def test_a_redis_that_is_away_is_not_asked_a_last_time(make: Callable[..., Beat], eventually: Eventually) -> None:
    beating, pulse = make(f"redis://127.0.0.1:{free_port()}/0"), FakePulse("k")
    beating.carry(pulse)
    eventually(lambda: not beating._answered, "the first try")
    stop(beating)
    assert pulse.asked == 1


def test_a_heartbeat_that_has_stopped_starts_no_more(make: Callable[..., Beat]) -> None:
    beating = make()
    beating.stop()
    with beating.follow(FakePulse("k")):
        assert beating._thread is None


def test_a_redis_that_never_answers_holds_up_neither_a_job_nor_the_stop(make: Callable[..., Beat]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        beating = make(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0")
        began = time.monotonic()
        with beating.follow(FakePulse("k")):
            pass
        beating.stop()
        beating.join(0.1)
        assert time.monotonic() - began < 0.9
        stop(beating)
