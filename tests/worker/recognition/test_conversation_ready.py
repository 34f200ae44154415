"""Audio that is at hand: the loop takes it from its source itself, and the caller sleeps on."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.recognition.flows import START, begun, final, news_of, say, spaced
from tests.worker.recognition.reactors import running_streams
from worker.recognition import Chunk
from worker.recognition.conversation import AHEAD, FAST_AHEAD, Conversation


class Source:
    """Chunks of which some are at hand, as `patterns` says: how many, each time that it is asked.

    Fails if two ask it at once.
    """

    def __init__(self, count: int, patterns: Iterator[int], spacing: float = 0.1) -> None:
        self.chunks = spaced(count, spacing)
        self.taken = self.waited = 0
        self._patterns = patterns
        self._asked = threading.Lock()

    def ready(self) -> list[Chunk]:
        return self._take(next(self._patterns))

    def __next__(self) -> Chunk:
        for chunk in self._take(1):
            self.waited += 1
            return chunk
        raise StopIteration

    def _take(self, count: int) -> list[Chunk]:
        assert self._asked.acquire(blocking=False), "two at once"
        try:
            taken = self.chunks[self.taken : self.taken + count]
            self.taken += len(taken)
            return taken
        finally:
            self._asked.release()


def bring(talk: Conversation, source: Source) -> None:
    """What a caller does when he is awake."""
    while talk.wants_audio:
        bring_one(talk, source)


def bring_one(talk: Conversation, source: Source) -> None:
    chunk = next(source, None)
    if chunk is None:
        talk.end_audio()
    else:
        talk.offer(chunk)


def streamed(source: Source, talk: Conversation) -> list[tuple[float, bytes]]:
    """All the audio with its moments; the caller is awake whenever he was called."""
    now, sent = START, []
    while not talk.sent_all:
        called = False
        while not talk.news.empty():
            called = talk.news.get() is None or called
        if called:
            bring(talk, source)
        talk.look()
        message = talk.message(now)
        if message is None:
            now = max(now, talk.due())
        elif isinstance(message, bytes | memoryview):
            sent.append((round(now - START, 3), bytes(message)))
    return sent


def always(count: int) -> Iterator[int]:
    while True:
        yield count


def test_of_a_source_that_is_at_hand_the_caller_brings_nothing_and_is_called_at_its_end():
    source = Source(200, always(4))
    talk = begun(ready=source.ready)
    calls = []

    def post(news):
        calls.append(source.taken)
        talk.news.put(news)

    talk.post = post
    sent = streamed(source, talk)
    assert sent == [(round(chunk.due, 3), chunk.data) for chunk in source.chunks]
    assert source.waited == 0
    assert calls == [200]
    assert talk.took_audio


@pytest.mark.parametrize("count", [1, 4])
def test_it_takes_no_more_than_a_moment_s_audio(count):
    source = Source(200, always(count))
    talk = begun(ready=source.ready)
    now, most = START, 0
    while source.taken < 190:
        most = max(most, source.taken * 3200 - talk.sent_bytes)
        if talk.message(now) is None:
            now = talk.due()
    assert most <= AHEAD // 3 + count * 3200


def test_without_a_pace_it_keeps_more_in_hand():
    source = Source(400, always(1), spacing=0.0)
    talk = begun(ready=source.ready)
    assert len(say(talk, START)) == 400
    assert source.waited == 0
    assert FAST_AHEAD // 6 > AHEAD // 3


@given(st.lists(st.integers(0, 5), max_size=60), st.sampled_from([0.0, 0.1]))
def test_whatever_is_at_hand_all_is_sent_once_in_order_and_at_its_moment(pattern, spacing):
    source = Source(60, iter(pattern + [0] * 1000), spacing)
    sent = streamed(source, begun(ready=source.ready))
    assert sent == [(round(chunk.due, 3), chunk.data) for chunk in source.chunks]


def test_the_caller_is_asked_in_good_time_when_nothing_is_at_hand_any_more():
    source = Source(100, iter([4] * 10 + [0] * 1000))
    talk, now = begun(ready=source.ready), START
    while talk.sent_bytes < 35 * 3200:
        if talk.message(now) is None:
            now = talk.due()
    assert talk.news.get_nowait() is not None  # task-started
    while talk.news.empty():
        if talk.message(now) is None:
            now = talk.due()
    assert talk.news.get_nowait() is None
    assert source.taken * 3200 - talk.sent_bytes >= 2 * 3200  # two tenths of a second to bring the next
    assert talk.wants_audio


def test_a_source_that_has_nothing_at_hand_any_more_is_asked_for_as_early_as_any_other():
    source = Source(300, iter([1] + [0] * 1000))  # as a fetched file, of which only the head is here
    talk, now, asked_at = begun(ready=source.ready), START, []
    while talk.sent_bytes < 250 * 3200:
        while not talk.news.empty():
            if talk.news.get() is None and talk.sent_bytes:
                asked_at.append(source.taken * 3200 - talk.sent_bytes)
        bring(talk, source)
        talk.look()
        if talk.message(now) is None:
            now = max(now, talk.due())
    assert asked_at
    assert min(asked_at[1:]) >= AHEAD // 3 - 3200


def test_an_event_does_not_make_the_caller_bring_what_is_at_hand():
    source = Source(100, always(4))
    talk = begun(ready=source.ready)
    say(talk, START)
    talk.hear(final(), START)
    news_of(talk)
    assert not talk.wants_audio


def test_a_source_has_one_who_asks_it_at_a_time():
    pattern = [int(number % 7 != 0) * 2 for number in range(4000)]
    with running_streams() as streams:
        source = Source(3000, iter(pattern + [0] * 10_000), spacing=0.0)
        stream = streams.begin(ready=source.ready).started()
        talk = stream.talk
        while not talk.sent_all:
            if talk.wants_audio:
                bring_one(talk, source)
                if talk.waits_for_audio:
                    streams.reactor.prod(talk)
        sent = [message for message in stream.transport.sent if isinstance(message, bytes)]
        assert sent == [chunk.data for chunk in source.chunks]
        assert 0 < source.waited < 3000
