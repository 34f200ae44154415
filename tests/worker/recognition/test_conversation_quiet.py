"""A service that says nothing in mid-stream: whether it is still there."""

import math
from collections.abc import Callable

import pytest

from tests.worker.recognition.flows import (
    HEARTBEAT,
    START,
    begun,
    conversation,
    final,
    finishing,
    partial,
    said,
    say,
)
from worker.recognition import Chunk, DeadlinePassed, Limits, UpstreamSilent
from worker.recognition.conversation import Conversation

LIMITS = Limits(started=100.0, finished=100.0, quiet=20.0, pong=10.0, write=100.0)


def streaming(**options) -> Conversation:
    return begun(**{"limits": LIMITS} | options)


def pinged() -> Conversation:
    """One that has just asked by a ping, at START + 20."""
    talk = streaming()
    assert say(talk, START + 20) == ["ping"]
    return talk


def test_after_a_while_without_any_sign_of_life_one_ping_is_sent():
    talk = streaming()
    assert say(talk, START + 19.9) == [] and talk.due() == START + 20
    assert say(talk, START + 20) == ["ping"] and talk.due() == START + 30
    assert say(talk, START + 29.9) == [] and talk.due() == START + 30


def test_who_does_not_answer_it_is_silent():
    with pytest.raises(UpstreamSilent, match="no answer to a ping within 10 s") as caught:
        pinged().message(START + 30)
    assert caught.value.retryable


def note(talk: Conversation, now: float) -> None:
    """What is no message: a pong, a ping, a part of a message."""
    talk.heard = now


def hear(text: str) -> Callable[[Conversation, float], None]:
    return lambda talk, now: talk.hear(text, now)


SIGNS = {
    "a pong": note,
    "a partial": hear(partial()),
    "a final": hear(final()),
    "a heartbeat": hear(HEARTBEAT),
    "a word of another task": hear(said("result-generated", task="another")),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_any_sign_of_life_counts_the_time_anew(sign):
    talk = streaming()
    for _ in range(3):
        SIGNS[sign](talk, START + 15)
    assert say(talk, START + 20) == [] and talk.due() == START + 35
    assert say(talk, START + 35) == ["ping"]


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("after", [0.0, 0.1, 9.9])
def test_any_sign_of_life_answers_a_ping(sign, after):
    talk = pinged()
    SIGNS[sign](talk, START + 20 + after)
    assert say(talk, START + 30) == [] and talk.due() == pytest.approx(START + 40 + after)
    assert say(talk, START + 40 + after) == ["ping"]
    with pytest.raises(UpstreamSilent):
        talk.message(START + 50 + after)


def test_a_service_that_answers_each_ping_may_say_nothing_for_an_hour():
    talk, now, pings = streaming(), START, 0
    while now < START + 3600:
        now = talk.due()
        if say(talk, now):
            pings += 1
            talk.heard = now + 0.02
    assert 150 < pings <= 180


def test_a_chunk_that_is_due_goes_right_after_the_ping():
    talk = streaming()
    talk.offer(Chunk(20.0, b"hush"))
    talk.look()
    assert say(talk, START + 20) == ["ping", b"hush"]


def test_without_a_limit_nobody_is_asked():
    talk = streaming(limits=Limits(quiet=math.inf))
    assert say(talk, START + 1e6) == [] and talk.due() == math.inf


def test_the_deadline_comes_first():
    talk = streaming(deadline=START + 20)
    with pytest.raises(DeadlinePassed):
        talk.message(START + 20)


# ------------------------------------------------------------------------------------------- where other limits hold


@pytest.mark.parametrize(("make", "why"), [(conversation, "no task-started"), (finishing, "nothing within")])
def test_before_and_after_the_audio_there_are_no_pings_and_the_limits_are_those_of_the_task(make, why):
    talk = make(limits=LIMITS)
    say(talk, START)
    talk.heard = START + 50  # a pong
    assert say(talk, START + 99.9) == [] and talk.due() == START + 100
    with pytest.raises(UpstreamSilent, match=why):
        talk.message(START + 100)


def test_a_ping_that_is_unanswered_when_all_is_sent_is_forgotten():
    talk = pinged()
    talk.end_audio()
    talk.look()
    assert say(talk, START + 29) == ["finish-task"]
    assert say(talk, START + 31) == [] and talk.due() == START + 129


def test_while_the_network_takes_nothing_its_own_limit_holds():
    talk = streaming()
    talk.held(START + 1)
    assert talk.message(START + 20) is None and talk.message(START + 60) is None
    assert START + 60 < talk.due() < math.inf
    talk.released(START + 70)
    assert say(talk, START + 89.9) == []
    assert say(talk, START + 90) == ["ping"]


@pytest.mark.parametrize("until", [29.0, 35.0])
def test_an_answer_that_waits_behind_what_was_held_is_not_late(until):
    talk = pinged()
    talk.held(START + 21)
    assert talk.message(START + 22) is None
    assert talk.message(START + until) is None
    talk.released(START + until)
    assert say(talk, START + until + 19.9) == []
    assert say(talk, START + until + 20) == ["ping"]


def test_while_the_caller_leaves_so_much_unread_that_nothing_is_read_nobody_is_asked():
    talk = streaming()
    while not talk.is_unread:
        talk.hear(final(), START)
    for now in (START + 20, START + 40, START + 60):
        assert say(talk, now) == [] and talk.due() == now + 20
    while not talk.read_one():
        pass
    assert say(talk, START + 79.9) == []
    assert say(talk, START + 80) == ["ping"]
