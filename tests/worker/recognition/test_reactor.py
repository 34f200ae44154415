import queue

import pytest

from tests.worker.recognition.flows import (
    FINISHED,
    STARTED,
    final,
    until,
)
from tests.worker.recognition.reactors import Throng, running_streams
from worker.recognition import Chunk, ConnectionLost, Final, Finished, Limits, Started
from worker.recognition.conversation import MOST_UNREAD, News
from worker.recognition.reactor import AWAKE, SLICE


@pytest.fixture
def streams():
    with running_streams() as streams:
        yield streams


def test_a_task_from_start_to_finish(streams):
    stream = streams.begin().started()
    stream.offer(Chunk(0.0, b"hush"))
    stream.talk.end_audio()
    streams.reactor.prod(stream.talk)
    until(lambda: stream.transport.sent == ["run-task", b"hush", "finish-task"], "all is sent")
    assert [flow.conversation for flow in streams.reactor.flows()] == [stream.talk]
    stream.transport.hears(final(), FINISHED)
    assert isinstance(stream.next(), Final) and isinstance(stream.next(), Finished)
    assert streams.reactor.flows() == []
    assert (streams.reactor.messages, streams.reactor.audio_bytes, streams.reactor.streams_max) == (6, 4, 1)


def test_audio_is_sent_when_it_is_due(streams):
    stream = streams.begin().started()
    stream.offer(Chunk(5.0, b"hush"))
    other = streams.begin().started()
    assert stream.transport.sent == ["run-task"]
    streams.clock.advance(5.0)
    streams.reactor.prod(other.talk)  # any wake-up will do: time itself stands still here
    until(lambda: stream.transport.sent == ["run-task", b"hush"], "the chunk is sent")


@pytest.mark.parametrize("more", [0, 1, AWAKE + 1])
def test_callers_are_woken_some_at_a_time_each_with_all_its_news(streams, more):
    reactor = streams.reactor
    reactor.stop(20)  # only its mail is looked at
    boxes = [queue.SimpleQueue[News]() for _ in range(AWAKE + more)]
    for box in boxes:
        for _ in range(3):
            reactor._post(box, None)
    full = []
    while reactor._mail:
        reactor._deliver()
        full.append(sum(box.qsize() == 3 for box in boxes))
    portions = [min(AWAKE * (turn + 1), len(boxes)) for turn in range(len(full))]
    assert all(portion - 1 <= count <= portion for count, portion in zip(full, portions, strict=True))
    assert full[-1] == len(boxes) and len(full) in {-(-len(boxes) // AWAKE), len(boxes) // AWAKE + 1}


def test_no_news_is_left_lying_when_many_hear_something_in_one_moment(streams):
    talkers = [streams.begin().started() for _ in range(5 * AWAKE)]
    gate = streams.hold()
    for talker in talkers:
        talker.transport.hears(final())
    gate.open()
    assert all(isinstance(talker.next(), Final) for talker in talkers)
    assert streams.idles()


# ------------------------------------------------------------------------------------------------------------- fairness


def noted(streams, count):
    """So many streams, and the list into which they and others write what they do."""
    log: list[str] = []
    talkers = [streams.begin().started() for _ in range(count)]
    for talker in talkers:
        talker.transport.on_turn = lambda what: log.append(what)
    return talkers, log


def test_what_is_due_goes_before_what_can_be_read(streams):
    talkers, log = noted(streams, 100)
    punctual = streams.begin().started()
    punctual.transport.on_turn = lambda what: log.append("punctual")
    punctual.offer(Chunk(1.0, b"hush"))
    gate = streams.hold()
    for talker in talkers:
        talker.transport.hears(final())
    streams.clock.advance(3.0)
    gate.open()
    until(lambda: len(log) == 101, "all have had their turn")
    assert log.index("punctual") <= SLICE


def test_what_becomes_due_during_a_burst_of_events_waits_for_a_slice_of_them_at_most(streams):
    """Each event costs a millisecond of this clock; the chunk is due after ten."""
    talkers, log = noted(streams, 200)
    punctual = streams.begin().started()
    punctual.transport.on_turn = lambda what: log.append("punctual")

    def cost(what):
        log.append(what)
        streams.clock.advance(0.001)

    for talker in talkers:
        talker.transport.on_turn = cost
    punctual.offer(Chunk(0.010, b"hush"))
    gate = streams.hold()
    for talker in talkers:
        talker.transport.hears(final())
    gate.open()
    until(lambda: len(log) == 201, "all have had their turn")
    assert 10 <= log.index("punctual") <= 10 + SLICE


def test_streams_that_always_have_something_to_do_take_turns(streams):
    """One of two streams without a pace hears something in each turn, too: it may not get ever more turns for that."""
    sent = []
    quiet, lively = streams.begin().started(), streams.begin().started()
    gate = streams.hold()
    quiet.transport.on_turn = lambda what: sent.append("quiet")

    def again(what):
        lively.transport.ring()
        if what == "send":
            sent.append("lively")

    lively.transport.on_turn = again
    lively.transport.ring()
    for stream in (lively, quiet):
        stream.offer(*[Chunk(0.0, b".")] * 2000)
    gate.open()
    until(lambda: len(quiet.transport.sent) == len(lively.transport.sent) == 2001, "both have sent all")
    lively.transport.on_turn = quiet.transport.on_turn = lambda what: None
    half = [place for place, who in enumerate(sent) if who == "lively"][1000]
    assert sent[:half].count("quiet") >= 400


def test_one_that_came_in_the_midst_of_a_round_has_its_first_turn_before_it_is_looked_at(streams):
    gate = streams.hold()
    late = streams.begin()
    streams.clock.advance(5.0)  # all others are looked at for what has come near
    gate.open()
    late.started()


# --------------------------------------------------------------------------------------------------------------- bounds


def test_a_slow_reader_stalls_himself_alone(streams):
    slow, quick = streams.begin().started(), streams.begin().started()
    for _ in range(3 * MOST_UNREAD):
        slow.transport.hears(final())
        quick.transport.hears(final())
        quick.next()
    assert slow.talk.is_unread and slow.talk.news.qsize() <= MOST_UNREAD + len(slow.transport.inbox)
    until(lambda: slow.transport.inbox, "the rest waits where it is")
    quick.offer(Chunk(0.0, b"hush"))
    until(lambda: quick.transport.sent[-1] == b"hush", "another goes on")
    assert [type(slow.next()) for _ in range(3 * MOST_UNREAD)] == [Final] * (3 * MOST_UNREAD)


def test_a_slow_reader_s_audio_is_sent_all_the_same(streams):
    slow = streams.begin().started()
    for _ in range(2 * MOST_UNREAD):
        slow.transport.hears(final())
    until(lambda: slow.talk.is_unread, "nothing more is read for him")
    slow.offer(Chunk(0.0, b"hush"))
    until(lambda: slow.transport.sent[-1] == b"hush", "his audio is sent")


@pytest.fixture
def throng():
    throng = Throng()
    yield throng
    throng.other.close()


def test_an_upstream_that_takes_nothing_blocks_itself_alone_and_ends_by_the_write_limit(streams, throng):
    stuck = streams.begin(throng.transport, limits=Limits(write=7.0))
    throng.hears(STARTED)
    assert isinstance(stuck.next(), Started)
    stuck.offer(*[Chunk(0.0, bytes(3200))] * 100)
    until(throng.transport.is_blocked, "nothing more is taken")
    other = streams.begin().started()
    other.offer(Chunk(0.0, b"hush"))
    until(lambda: other.transport.sent[-1] == b"hush", "another goes on")
    assert stuck.talk in [flow.conversation for flow in streams.reactor.flows()]
    streams.clock.advance(6.9)
    streams.reactor.prod(stuck.talk)
    other.transport.hears(final())
    assert isinstance(other.next(), Final)
    streams.clock.advance(0.1)
    streams.reactor.prod(stuck.talk)
    error = stuck.ended()
    assert isinstance(error, ConnectionLost) and "TimeoutError while sending" in str(error)


def test_an_upstream_that_takes_again_gets_all(streams, throng):
    stuck = streams.begin(throng.transport)
    throng.hears(STARTED)
    assert isinstance(stuck.next(), Started)
    stuck.offer(*[Chunk(0.0, bytes(3200))] * 20)
    stuck.talk.end_audio()
    until(throng.transport.is_blocked, "nothing more is taken")
    throng.other.settimeout(20)
    heard = 0
    while heard < 20 * 3208:
        heard += len(throng.other.recv(65536))
    until(lambda: stuck.talk.sent_all, "all is sent")
    throng.hears(FINISHED)
    assert isinstance(stuck.ended(), Finished)


@pytest.mark.parametrize("at", ["started", "blocked", "unread", "finishing"])
def test_waiting_costs_nothing(streams, throng, at):
    stream = streams.begin(throng.transport)
    if at == "blocked":
        stream.transport = throng.transport
        throng.hears(STARTED)
        stream.offer(*[Chunk(0.0, bytes(3200))] * 100)
        until(throng.transport.is_blocked, "nothing more is taken")
    elif at == "unread":
        throng.hears(STARTED, *[final()] * MOST_UNREAD)
        until(lambda: stream.talk.is_unread, "nothing more is read for him")
        throng.hears(final())
    elif at == "finishing":
        throng.hears(STARTED)
        stream.talk.end_audio()
        streams.reactor.prod(stream.talk)
        until(lambda: stream.talk.sent_all, "the service is told that this is all")
    else:
        throng.hears(STARTED)
        stream.next()
    assert streams.idles()


def test_a_finish_that_was_held_up_is_waited_for_like_any_other(streams):
    stream, other = streams.begin().started(), streams.begin().started()
    stream.transport.stuck = True
    stream.talk.end_audio()
    streams.reactor.prod(stream.talk)
    until(lambda: stream.transport.sent[-1] == "finish-task", "the finish is sent")
    stream.transport.stuck = False
    until(lambda: not stream.transport.is_blocked(), "and taken")
    other.transport.hears(final())
    assert isinstance(other.next(), Final)
    assert streams.idles()


# ------------------------------------------------------------------------------------------------------------------ lag


def test_the_worst_lag_of_the_last_minute_is_noted(streams):
    streams.clock.now = 900.0
    stream = streams.begin().started()
    stream.offer(Chunk(1.0, b"hush"))
    gate = streams.hold()
    streams.clock.advance(3.5)
    gate.open()
    until(lambda: stream.transport.sent[-1] == b"hush", "it is sent")
    until(lambda: streams.reactor.lag() == pytest.approx(2.5), "the lag is noted")
    streams.clock.now = 931.0
    assert streams.reactor.lag() == pytest.approx(2.5)
    streams.clock.now = 961.0
    assert streams.reactor.lag() == 0.0


def test_after_a_long_silence_an_old_lag_is_forgotten(streams):
    streams.clock.now = 900.0
    stream = streams.begin().started()
    stream.offer(Chunk(1.0, b"hush"))
    gate = streams.hold()
    streams.clock.advance(3.5)
    gate.open()
    until(lambda: streams.reactor.lag() > 0, "the lag is noted")
    streams.clock.now = 9000.0
    assert streams.reactor.lag() == 0.0
