import math
from collections import deque

import pytest

from tests.fakes import FakeClock
from tests.worker.recognition.flows import (
    FINISHED,
    HEARTBEAT,
    START,
    STARTED,
    begun,
    bring,
    conversation,
    final,
    finishing,
    news_of,
    partial,
    said,
    say,
    spaced,
)
from worker.recognition import (
    Chunk,
    ConnectionLost,
    DeadlinePassed,
    Final,
    Finished,
    Limits,
    Partial,
    RemoteProtocolError,
    Started,
    Throttled,
    UpstreamSilent,
)
from worker.recognition.conversation import AHEAD, FAST_AHEAD, MOST_UNREAD, RECHECK, REPORT_EVERY
from worker.recognition.load import LEAST_CHUNKS, Load


def test_the_defaults():
    assert Limits() == Limits(started=10.0, finished=60.0, quiet=20.0, pong=10.0, write=10.0)
    assert (AHEAD, FAST_AHEAD, RECHECK, MOST_UNREAD, REPORT_EVERY) == (48_000, 192_000, 0.005, 256, 1.0)


def test_a_task_from_its_first_message_to_its_last_word():
    talk = conversation()
    assert not talk.wants_audio and talk.due() <= START
    assert say(talk, START) == ["run-task"]
    talk.hear(STARTED, START)
    assert talk.news.get() == Started("t1") and talk.news.get() is None
    assert talk.wants_audio and talk.waits_for_audio
    talk.offer(Chunk(0.0, b"hush"))
    talk.end_audio()
    assert not talk.wants_audio and not talk.sent_all
    assert say(talk, START) == [b"hush", "finish-task"]
    assert (talk.sent_bytes, talk.sent_all, talk.over) == (4, True, False)
    for text in (partial(), HEARTBEAT, final(), FINISHED):
        talk.hear(text, START)
    assert talk.over
    talk.end(None, START)
    assert [type(news) for news in news_of(talk)] == [Partial, Final, Finished]


def test_nothing_is_asked_again_before_something_is_due():
    talk = begun(limits=Limits(quiet=math.inf))
    assert say(talk, START) == [] and talk.due() == math.inf  # it was never told of audio
    talk.offer(Chunk(2.0, b"hush"))
    talk.look()
    assert say(talk, START) == [] and talk.due() == START + 2
    assert say(talk, START + 2) == [b"hush"]


# --------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(("after", "silent"), [(2.9, False), (3.0, True), (9.0, True)])
def test_a_service_that_does_not_start_is_silent(after, silent):
    talk = conversation(limits=Limits(started=3.0))
    say(talk, START)
    assert talk.due() == START + 3
    if not silent:
        assert talk.message(START + after) is None
        return
    with pytest.raises(UpstreamSilent, match="no task-started within 3 s"):
        talk.message(START + after)


def test_silence_is_counted_from_the_last_word_after_finish_task():
    talk = finishing(limits=Limits(finished=5.0))
    assert talk.due() == START + 5
    for word in (partial(), HEARTBEAT, final()):
        talk.hear(word, START + 4)
        assert talk.due() == START + 9
    talk.hear(said("result-generated", task="another"), START + 8)
    with pytest.raises(UpstreamSilent, match="nothing within 5 s after finish-task"):
        talk.message(START + 9)


def test_while_audio_is_sent_the_service_may_say_nothing():
    talk = begun(limits=Limits(started=3.0, finished=5.0, quiet=math.inf))
    assert talk.message(START + 3600) is None


@pytest.mark.parametrize("at", ["beginning", "streaming", "finishing", "held"])
def test_the_deadline_holds_at_every_moment(at):
    deadline = START + 2
    make = {"beginning": conversation, "streaming": begun, "finishing": finishing, "held": begun}[at]
    talk = make(deadline=deadline)
    if at == "held":
        talk.held(START)
    talk.message(START + 1)
    assert talk.due() == deadline
    with pytest.raises(DeadlinePassed):
        talk.message(deadline)


def test_a_network_that_takes_nothing_ends_it_after_the_write_limit():
    talk = begun(limits=Limits(write=4.0))
    talk.offer(Chunk(0.0, b"hush"))
    assert say(talk, START) == [b"hush"]
    talk.held(START)
    talk.held(START + 3)  # still, and not anew
    assert talk.due() == START + 4
    talk.offer(Chunk(0.0, b"more"))
    talk.look()
    assert talk.message(START + 3.9) is None and talk.due() == START + 4
    with pytest.raises(ConnectionLost, match="TimeoutError while sending"):
        talk.message(START + 4)


def test_what_was_held_goes_on_when_the_network_takes_it():
    talk = begun(limits=Limits(write=4.0, quiet=math.inf))
    talk.offer(Chunk(0.0, b"hush"))
    say(talk, START)
    talk.held(START)
    talk.released(START + 1)
    talk.offer(Chunk(0.0, b"more"))
    assert talk.due() <= START + 1
    assert say(talk, START + 1) == [b"more"]
    talk.released(START + 2)  # of nothing that was held: harmless
    assert talk.message(START + 100) is None


@pytest.mark.parametrize("make", [conversation, finishing])
def test_a_command_that_was_held_leaves_nothing_to_do_but_wait(make):
    talk = make(limits=Limits(started=7.0, finished=7.0))
    say(talk, START)
    talk.held(START)
    talk.released(START + 1)
    assert talk.message(START + 1) is None
    assert talk.due() == START + 7


# --------------------------------------------------------------------------------------------------------------- events


def test_only_the_first_partial_is_handed_out_to_who_wants_none():
    talk = begun(partials=False)
    news_of(talk)
    for text in (partial("a"), partial("ab"), final("abc"), partial("d"), final("de")):
        talk.hear(text, START)
    assert [type(news) for news in news_of(talk)] == [Partial, Final, Final]


def test_an_event_of_another_task_says_nothing():
    talk = conversation(limits=Limits(started=3.0))
    say(talk, START)
    talk.hear(said("task-started", task="another"), START + 1)
    assert talk.news.empty() and talk.due() == START + 3


def test_a_refusal_is_raised_as_what_it_means():
    talk = begun()
    with pytest.raises(Throttled):
        talk.hear(said("task-failed", error_code="Throttling.RateQuota"), START)


@pytest.mark.parametrize("text", ["{", said("task-started"), FINISHED])
def test_what_cannot_be_now_breaks_the_protocol(text):
    with pytest.raises(RemoteProtocolError):
        begun().hear(text, START)


@pytest.mark.parametrize("word", [final(), HEARTBEAT, FINISHED, "{"])
def test_words_after_the_last_one_make_the_connection_not_reusable(word):
    talk = finishing()
    talk.hear(FINISHED, START)
    assert talk._session.state.value == "ready"
    news_of(talk)
    talk.hear(word, START)
    assert talk._session.state.value == "broken" and talk.news.empty()
    talk.end(None, START)
    assert news_of(talk) == [Finished("t1")]


def test_how_it_failed_is_the_last_of_the_news():
    talk, error = begun(), ConnectionLost("so")
    talk.end(error, START)
    assert talk.over and news_of(talk) == [Started("t1"), error]


@pytest.mark.parametrize(("started", "code"), [(False, "invalid_request"), (True, "connection_lost")])
def test_1007_is_about_the_request_until_that_was_accepted(started, code):
    talk = begun() if started else conversation()
    talk.end(ConnectionLost("close code 1007", 1007), START)
    assert news_of(talk)[-1].code == code


# --------------------------------------------------------------------------------------------------------------- unread


def test_what_a_slow_reader_leaves_is_bounded_and_he_asks_for_more_once():
    talk = begun()
    told = 1  # started
    while not talk.is_unread:
        talk.hear(final(), START)
        told += 1
    assert told == MOST_UNREAD
    assert [talk.read_one() for _ in range(told)].index(True) == MOST_UNREAD // 2 - 1
    assert not talk.is_unread


def test_a_call_for_audio_is_not_among_the_unread():
    talk, chunks = begun(), deque(spaced(600, 0.0))
    while talk.sent_bytes < 600 * 3200:
        bring(talk, chunks)
        talk.look()
        say(talk, START)
        assert not talk.is_unread
    assert talk.news.qsize() > 2


def test_who_reads_late_is_not_taken_for_a_silent_service():
    """Nothing is read for him meanwhile, so that nobody can know what the service says."""
    talk = finishing(limits=Limits(finished=5.0))
    while not talk.is_unread:
        talk.hear(final(), START)
    assert talk.message(START + 5) is None and START + 5 < talk.due() < math.inf
    assert talk.message(START + 60) is None
    while not talk.read_one():
        pass
    with pytest.raises(UpstreamSilent):
        talk.message(START + 65)


# --------------------------------------------------------------------------------------------------------------- strain


@pytest.fixture
def clock():
    return FakeClock(START)


def streamed(load, *, count=2 * LEAST_CHUNKS, late=0.0, held=0.0):
    """A stream of which each chunk is sent so late, and each tenth is held so long."""
    talk, chunks, now = begun(load=load), deque(spaced(count)), START
    bring(talk, chunks)
    talk.look()
    for number in range(count):
        now = max(now, START + number * 0.1 + late, talk.due())
        assert talk.message(now) is not None
        if number % 10 == 5 and held:
            talk.held(now)
            now += held
            talk.released(now)
        bring(talk, chunks)
    return talk, now


def test_strain_is_reported_each_second_and_at_the_end(clock):
    load = Load(clock)
    talk, now = streamed(load, late=0.06)
    assert 2 * LEAST_CHUNKS - 11 < load._window()[0].chunks < 2 * LEAST_CHUNKS - 1
    talk.end(None, now)
    assert load._window()[0].chunks == 2 * LEAST_CHUNKS - 1  # the first has no moment
    assert load.limits() == ("cpu",)


def test_what_the_network_held_is_its_fault_alone(clock):
    load = Load(clock)
    talk, now = streamed(load, held=0.09)
    talk.held(now)
    talk.end(ConnectionLost(), now + 2)  # held to the last
    assert load.limits() == ("bandwidth",)
    assert load.figures()["blocked_ms_max"] == 2000


def test_a_source_that_brings_its_chunks_late_is_nobody_s_limit(clock):
    load = Load(clock)
    talk = begun(load=load)
    for chunk in spaced(2 * LEAST_CHUNKS):
        talk.offer(chunk)
        assert talk.waits_for_audio
        talk.look()
        now = START + chunk.due + 0.09
        assert talk.message(now) is not None
        assert talk.message(now + 0.001) is None and talk.message(now + 0.006) is None
    talk.end(None, now)
    assert load.limits() == () and load.figures()["late_ms_max"] == 0
