"""How streams leave a reactor: by a fault, by its death, because their callers want no more."""

import pytest

from tests.worker.recognition.flows import (
    STARTED,
    ScriptedTransport,
    conversation,
    final,
    until,
)
from tests.worker.recognition.reactors import running_streams
from worker.recognition import Chunk, ConnectionLost, Final
from worker.recognition.flow import Flow
from worker.recognition.reactor import LetGo


@pytest.fixture
def streams():
    with running_streams() as streams:
        yield streams


# --------------------------------------------------------------------------------------------------------------- faults


class Fault(Exception):
    pass


@pytest.mark.parametrize("where", ["send", "receive"])
def test_a_fault_in_one_stream_is_raised_there_and_touches_no_other(streams, where):
    others = [streams.begin().started() for _ in range(3)]
    faulty = streams.begin().started()
    fault = Fault("a bug")

    def strike(what):
        if what == where:
            raise fault

    faulty.transport.on_turn = strike
    if where == "send":
        faulty.offer(Chunk(0.0, b"hush"))
    else:
        faulty.transport.hears(final())
    assert faulty.ended() is fault
    for other in others:
        other.transport.hears(final())
        assert isinstance(other.next(), Final)
    assert len(streams.reactor.flows()) == 3


def test_a_fault_of_a_source_is_raised_in_its_stream_and_touches_no_other(streams):
    other, fault = streams.begin().started(), Fault("a disk")

    def ready():
        raise fault

    faulty = streams.begin(ready=ready)
    faulty.transport.hears(STARTED)
    assert faulty.ended() is fault
    other.transport.hears(final())
    assert isinstance(other.next(), Final)


def test_a_descriptor_that_the_selector_refuses_is_one_stream_s_fault_alone(streams):
    first, other = streams.begin().started(), streams.begin().started()

    class Same(ScriptedTransport):
        def fileno(self):
            return first.transport.fileno()

    doubled = streams.begin(Same())
    assert isinstance(doubled.ended(), Exception)
    other.transport.hears(final())
    assert isinstance(other.next(), Final)
    first.transport.hears(final())
    assert isinstance(first.next(), Final)


def test_a_connection_that_is_closed_already_is_lost(streams):
    transport = ScriptedTransport()
    transport.close()
    error = streams.begin(transport).ended()
    assert isinstance(error, ConnectionLost) and error.retryable


def test_its_death_ends_all_streams_so_that_they_are_tried_again(streams, caplog):
    others = [streams.begin().started() for _ in range(3)]
    fatal = streams.begin().started()
    fatal.transport.fails = SystemExit("not an Exception")
    fatal.offer(Chunk(0.0, b"hush"))
    for stream in (fatal, *others):
        error = stream.ended()
        assert isinstance(error, ConnectionLost) and error.retryable and "SystemExit" in str(error)
    until(lambda: not streams.reactor.is_alive(), "the thread has ended")
    assert "the I/O loop ended" in caplog.text
    assert not streams.reactor.begin(Flow(fatal.transport, conversation()))
    assert not streams.reactor.end(fatal.talk)
    streams.reactor.prod(fatal.talk)
    streams.reactor._call(lambda: None)  # one that had begun before: nobody is there to be woken


def test_a_clock_that_fails_is_a_death_too(streams):
    stream = streams.begin().started()
    now = streams.clock

    def fail():
        streams.clock = now
        raise SystemExit

    streams.clock = fail
    streams.reactor.prod(stream.talk)
    assert isinstance(stream.ended(), ConnectionLost)


def test_stop_ends_all_streams(streams):
    several = [streams.begin().started() for _ in range(3)]
    streams.reactor.stop(20)
    assert not streams.reactor.is_alive()
    assert [str(stream.ended()) for stream in several] == [str(ConnectionLost("the process stops"))] * 3


def test_it_may_be_stopped_from_its_own_thread(streams):
    stream = streams.begin().started()
    stream.transport.on_turn = lambda what: streams.reactor.stop(20)
    stream.transport.hears(final())
    assert isinstance(stream.ended(), ConnectionLost)
    until(lambda: not streams.reactor.is_alive(), "the thread has ended")


# ----------------------------------------------------------------------------------------------------------- letting go


def test_who_wants_no_more_has_his_connection_to_himself(streams):
    stream, other = streams.begin().started(), streams.begin().started()
    stream.offer(*[Chunk(0.0, b"."), Chunk(0.0, b"."), Chunk(100.0, b".")])
    for _ in range(50):
        stream.transport.hears(final())
    assert streams.reactor.end(stream.talk)
    assert isinstance(stream.ended(), LetGo)
    touched: list[str] = []
    stream.transport.on_turn = touched.append
    stream.transport.hears(final())
    stream.offer(Chunk(0.0, b"late"))
    streams.clock.advance(200.0)
    other.transport.hears(final())
    assert isinstance(other.next(), Final)
    assert touched == [] and not streams.reactor.end(stream.talk)
    assert streams.idles()  # what comes there is nothing to wake up for


def test_a_connection_may_come_back_with_another_task(streams):
    first = streams.begin().started()
    assert streams.reactor.end(first.talk)
    assert isinstance(first.ended(), LetGo)
    second = streams.begin(first.transport).started()
    assert first.transport.sent == ["run-task", "run-task"]
    second.transport.hears(final())
    assert isinstance(second.next(), Final)


def test_calls_that_were_under_way_when_it_was_let_go_do_nothing(streams):
    stream = streams.begin().started()
    gate = streams.hold()
    touched: list[str] = []
    stream.transport.on_turn = touched.append
    for _ in range(2):
        assert streams.reactor.end(stream.talk)
    stream.offer(Chunk(0.0, b"late"))
    gate.open()
    assert isinstance(stream.ended(), LetGo)
    other = streams.begin().started()
    assert touched == [] and stream.talk.news.empty() and other


def test_a_stream_that_has_something_to_send_at_once_may_be_let_go_in_between(streams):
    stream, sent = streams.begin().started(), []

    def leave(what):
        sent.append(what)
        if len(sent) == 3:
            streams.reactor.end(stream.talk)

    stream.transport.on_turn = leave
    stream.offer(*[Chunk(0.0, b".")] * 1000)
    assert isinstance(stream.ended(), LetGo)
    assert len(sent) < 50
