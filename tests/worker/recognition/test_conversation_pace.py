"""When a conversation sends its audio, and how much of it may wait."""

import math
from collections import deque

import pytest

from tests.worker.recognition.flows import (
    EPSILON,
    START,
    begun,
    bring,
    news_of,
    say,
    spaced,
)
from worker.recognition import (
    Chunk,
    Limits,
)
from worker.recognition.conversation import AHEAD, FAST_AHEAD

ALIVE = Limits(quiet=math.inf)
"""The service, which says nothing here, is taken for alive."""

# ----------------------------------------------------------------------------------------------------------------- pace


def test_an_undisturbed_stream_keeps_each_moment_exactly():
    talk, chunks, now = begun(limits=ALIVE), deque(spaced(2000)), START
    for number in range(2000):
        bring(talk, chunks)
        talk.look()
        now = max(now, talk.due())
        while talk.message(now) is None:
            now = talk.due()
        assert now == pytest.approx(START + number * 0.1, abs=EPSILON)


@pytest.mark.parametrize("stall", [0.05, 0.1, 1.0, 1.4])
def test_after_a_stall_it_catches_up_without_a_burst(stall):
    sent: list[float] = []
    talk, chunks, now = begun(), deque(spaced(100)), START
    while len(sent) < 100:
        bring(talk, chunks)
        talk.look()
        if talk.message(now) is None:
            now = talk.due()
            continue
        sent.append(now - START)
        if len(sent) == 20:
            now += stall
    gaps = [after - before for before, after in zip(sent, sent[1:], strict=False)]
    assert min(gaps) >= 0.05 - EPSILON
    assert sent[-1] == pytest.approx(9.9, abs=EPSILON)  # and the delay is made up for


def test_chunks_without_a_moment_are_sent_as_fast_as_they_are_taken():
    talk = begun()
    for number in range(5):
        talk.offer(Chunk(0.0, bytes([number])))
    assert say(talk, START) == [bytes([number]) for number in range(5)]


# --------------------------------------------------------------------------------------------------------------- credit


@pytest.mark.parametrize(("spacing", "ahead"), [(0.1, AHEAD), (0.0, FAST_AHEAD)])
def test_the_caller_is_asked_for_audio_in_good_time_and_seldom(spacing, ahead):
    talk, now, asked, chunks = begun(limits=ALIVE), START, 0, deque(spaced(1000, spacing))
    total = len(chunks)
    while talk.sent_bytes < total * 3200:
        while not talk.news.empty():
            asked += talk.news.get() is None
        bring(talk, chunks)
        talk.look()
        if talk.message(now) is None:
            now = max(now, talk.due())
    assert asked <= 3 + total * 3200 / (ahead * 0.6)


@pytest.mark.parametrize(("spacing", "ahead"), [(0.1, AHEAD), (0.0, FAST_AHEAD)])
def test_no_more_waits_to_be_sent_than_the_credit_and_a_chunk(spacing, ahead):
    talk, chunks, most = begun(), deque(spaced(1000, spacing)), 0
    for _ in range(100):
        bring(talk, chunks)
        most = max(most, (1000 - len(chunks)) * 3200 - talk.sent_bytes)
        talk.look()
        talk.message(max(START, talk.due()))
    assert ahead * 0.9 < most < ahead + 3200


def test_who_has_ended_is_asked_for_no_more():
    talk = begun()
    for chunk in (Chunk(0.0, bytes(AHEAD)), Chunk(0.0, b"")):
        talk.offer(chunk)
    news_of(talk)
    talk.end_audio()
    assert [len(message) for message in say(talk, START)[:-1]] == [AHEAD, 0]
    assert talk.news.empty() and not talk.wants_audio
