import ssl
from typing import Any

import pytest

from tests.worker.recognition.flows import (
    FINISHED,
    HEARTBEAT,
    PONG,
    STARTED,
    ScriptedTransport,
    conversation,
    final,
    news_of,
    said,
)
from worker.recognition import (
    Chunk,
    ConnectionLost,
    DeadlinePassed,
    Final,
    Finished,
    Limits,
    RemoteProtocolError,
    ServerFault,
    Started,
    UpstreamSilent,
    WebSocketTransport,
)
from worker.recognition.flow import BURST, LAST_LOOKS, Flow
from worker.recognition.wire import Wire

NOW = 1000.0


@pytest.fixture
def transport():
    scripted = ScriptedTransport()
    yield scripted
    scripted.close()


def begun(transport, **options):
    """A flow whose task has been started, and that has nothing to send."""
    flow = Flow(transport, conversation(**options))
    assert not flow.turn(NOW, False)
    transport.hears(STARTED)
    assert not flow.turn(NOW, True)
    assert transport.sent == ["run-task"] and flow.messages == 2
    transport.sent.clear()
    return flow


def offer(flow, *chunks):
    for chunk in chunks:
        flow.conversation.offer(chunk)
    flow.conversation.look()


def test_a_task_turn_by_turn(transport):
    flow = begun(transport)
    offer(flow, Chunk(0.0, b"hush"), Chunk(0.0, b"more"))
    flow.conversation.end_audio()
    assert not flow.turn(NOW, False)
    transport.hears(final(), FINISHED)
    assert not flow.turn(NOW, True)
    assert transport.sent == [b"hush", b"more", "finish-task"]
    assert flow.conversation.over and flow.messages == 7
    flow.conversation.end(None, NOW)
    assert [type(news) for news in news_of(flow.conversation)] == [Started, Final, Finished]


def test_a_turn_sends_no_more_than_a_burst(transport):
    flow = begun(transport)
    offer(flow, *(Chunk(0.0, bytes([number])) for number in range(BURST + 2)))
    assert flow.turn(NOW, False)
    assert len(transport.sent) == BURST
    assert not flow.turn(NOW, False)
    assert transport.sent == [bytes([number]) for number in range(BURST + 2)]


def test_before_anything_is_due_nothing_is_touched(transport):
    flow = begun(transport)
    offer(flow, Chunk(1.0, b"hush"), Chunk(1.1, b"more"))
    assert not flow.turn(NOW, False) and not flow.turn(NOW + 0.9, False)
    assert transport.sent == []
    assert not flow.turn(NOW + 1, False)
    assert transport.sent == [b"hush"]


def test_a_blocked_transport_gets_nothing_more_and_is_given_up_in_time(transport):
    flow = begun(transport, limits=Limits(write=4.0))
    transport.stuck = True
    offer(flow, Chunk(0.0, b"hush"), Chunk(0.0, b"more"))
    assert not flow.turn(NOW, False) and not flow.turn(NOW + 1, True)
    assert transport.sent == [b"hush"] and flow.conversation.due() == NOW + 4
    with pytest.raises(ConnectionLost, match="TimeoutError while sending"):
        flow.turn(NOW + 4, False)


def test_a_transport_that_goes_on_before_that_has_lost_nothing(transport):
    flow = begun(transport, limits=Limits(write=4.0))
    transport.stuck = True
    offer(flow, Chunk(0.0, b"hush"), Chunk(0.0, b"more"))
    flow.turn(NOW, False)
    transport.stuck = False
    assert not flow.turn(NOW + 3.9, False)
    assert transport.sent == [b"hush", b"more"]
    assert not flow.turn(NOW + 60, False)


def test_a_transport_that_never_took_the_first_message_is_given_up_too(transport):
    transport.stuck = True
    flow = Flow(transport, conversation(limits=Limits(started=10.0, write=4.0)))
    assert not flow.turn(NOW, False)
    with pytest.raises(ConnectionLost):
        flow.turn(NOW + 4, False)


def test_a_blocked_transport_is_still_heard(transport):
    flow = begun(transport)
    transport.stuck = True
    offer(flow, Chunk(0.0, b"hush"))
    flow.turn(NOW, False)
    transport.hears(final())
    assert not flow.turn(NOW + 1, True)
    assert [type(news) for news in news_of(flow.conversation)] == [Started, Final]


def test_what_was_held_may_go_with_the_answer_to_a_ping(transport):
    flow = begun(transport)
    transport.stuck = True
    offer(flow, Chunk(0.0, b"hush"), Chunk(0.0, b"more"))
    flow.turn(NOW, False)
    transport.stuck = False
    transport.on_turn = lambda what: transport.flush()
    transport.hears(HEARTBEAT)
    assert not flow.turn(NOW + 1, True)
    assert transport.sent == [b"hush", b"more"]
    assert not flow.turn(NOW + 60, False)


def test_the_deadline_ends_a_blocked_flow(transport):
    flow = begun(transport, deadline=NOW + 2)
    transport.stuck = True
    offer(flow, Chunk(0.0, b"hush"))
    flow.turn(NOW, False)
    with pytest.raises(DeadlinePassed):
        flow.turn(NOW + 2, False)


# ------------------------------------------------------------------------------------------------------ last words


def broken(transport, *words):
    """A flow whose next send fails, after the service has said this."""
    flow = begun(transport)
    transport.fails = ConnectionLost("BrokenPipeError while sending")
    transport.hears(*words)
    offer(flow, Chunk(0.0, b"hush"))
    return flow


def test_after_a_broken_pipe_the_last_words_are_heard(transport):
    flow = broken(transport, final(), said("task-failed", error_code="InternalError"))
    with pytest.raises(ServerFault):
        flow.turn(NOW, False)
    assert [type(news) for news in news_of(flow.conversation)] == [Started, Final]


def test_without_last_words_the_broken_pipe_is_what_is_said(transport):
    with pytest.raises(ConnectionLost, match="BrokenPipe"):
        broken(transport).turn(NOW, False)


def test_sentences_are_kept_and_how_the_connection_ended_is_what_is_said(transport):
    flow = broken(transport, final(), ConnectionLost("closed with 1011"))
    with pytest.raises(ConnectionLost, match="1011"):
        flow.turn(NOW, False)
    assert [type(news) for news in news_of(flow.conversation)] == [Started, Final]


def test_there_is_an_end_to_last_words(transport):
    flow = broken(transport)
    looks = []

    def again(what):
        looks.append(what)
        transport.inbox.append(final())

    transport.on_turn = again
    with pytest.raises(ConnectionLost, match="BrokenPipe"):
        flow.turn(NOW, False)
    assert looks == ["send"] + ["receive"] * LAST_LOOKS


def test_a_task_that_finished_has_finished_even_if_the_pipe_broke(transport):
    """It cannot be used again, but its transcript is whole."""
    flow = begun(transport)
    flow.conversation.end_audio()
    flow.conversation.look()
    flow.turn(NOW, False)
    transport.hears(final(), FINISHED, ConnectionLost("closed with 1000"))
    assert not flow.turn(NOW, True)
    assert flow.conversation.over and not transport.is_open()


def test_a_service_that_says_nonsense_after_the_end_spoils_the_connection_only(transport):
    flow = begun(transport)
    flow.conversation.end_audio()
    flow.conversation.look()
    flow.turn(NOW, False)
    transport.hears(FINISHED, "{")
    assert not flow.turn(NOW, True)
    assert flow.conversation.over
    assert not flow.turn(NOW, False)  # nothing is said any more


def test_nonsense_before_the_end_is_raised(transport):
    flow = begun(transport)
    transport.hears("{")
    with pytest.raises(RemoteProtocolError):
        flow.turn(NOW, True)


# ------------------------------------------------------------------------------------------------------------- TLS


class Renegotiating:
    """A socket whose TLS has to write before it can read on, and the reverse: these calls are refused so."""

    def __init__(self, *moods):
        self.moods = list(moods)
        self.written = b""

    def setblocking(self, flag):
        assert not flag

    def fileno(self):
        return 99

    def _mood(self):
        mood = self.moods.pop(0)
        if isinstance(mood, Exception):
            raise mood
        return mood

    def recv(self, size):
        return self._mood()

    def send(self, data):
        taken = self._mood()
        self.written += data[:taken]
        return min(taken, len(data))


def over_tls(*moods):
    sock: Any = Renegotiating(*moods)
    return WebSocketTransport(Wire(sock, write_timeout=1.0), 1.0), sock


def test_a_read_that_has_to_write_first_waits_for_room_and_is_tried_again():
    transport, sock = over_tls(4096, ssl.SSLWantWriteError())
    flow = Flow(transport, conversation())
    flow.turn(NOW, False)
    assert not transport.is_blocked()
    assert not flow.turn(NOW, True)
    assert transport.is_blocked()
    word = STARTED.encode()
    sock.moods = [b"\x81\x7e" + len(word).to_bytes(2, "big") + word]
    assert not flow.turn(NOW, True)  # the selector found room to write
    assert not transport.is_blocked()
    assert [type(news) for news in news_of(flow.conversation)] == [Started]


@pytest.mark.parametrize("mood", [ssl.SSLWantWriteError(), BlockingIOError()])
def test_a_write_that_is_not_taken_is_kept_and_goes_later(mood):
    transport, sock = over_tls(mood)
    flow = Flow(transport, conversation())
    assert not flow.turn(NOW, False)
    # For a peer that has to say something first, room to write is nothing to wait for.
    assert transport.is_blocked() is not isinstance(mood, ssl.SSLWantReadError) and sock.written == b""
    sock.moods = [5, 4096]
    assert not flow.turn(NOW, False)
    assert transport.is_blocked() and len(sock.written) == 5
    assert not flow.turn(NOW, False)
    assert not transport.is_blocked()
    assert b"run-task" in unmasked(sock.written)


def test_a_write_that_has_to_read_first_does_not_wait_for_room_to_write():
    transport, sock = over_tls(ssl.SSLWantReadError())
    flow = Flow(transport, conversation())
    assert not flow.turn(NOW, False)
    assert not transport.is_blocked() and transport.is_open()
    sock.moods = [ssl.SSLWantReadError(), 4096]
    assert not flow.turn(NOW, True)
    assert b"run-task" in unmasked(sock.written)


def unmasked(frame):
    size = int.from_bytes(frame[2:4], "big")
    mask, body = frame[4:8], frame[8:]
    assert frame[:2] == b"\x81\xfe" and len(body) == size
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))


class Leaving:
    """Takes nothing any more, says a last word and is gone."""

    def is_blocked(self):
        return False

    def send(self, data):
        raise ConnectionLost("BrokenPipeError while sending")

    def receive(self):
        yield "finished"
        raise ConnectionLost("ConnectionResetError while receiving")


class Parting:
    """Has something to say, and is over as soon as it hears anything."""

    over = False

    def due(self):
        return NOW

    def message(self, now):
        return "more"

    def hear(self, text, now):
        self.over = True


def test_a_task_that_was_finished_by_the_last_words_is_no_failure():
    talk: Any = Parting()
    transport: Any = Leaving()
    assert Flow(transport, talk).turn(NOW, False) is False
    assert talk.over


# --------------------------------------------------------------------------------------------------------- silence

QUIET = Limits(started=3.0, finished=3.0, quiet=20.0, pong=10.0, write=4.0)


def pinged(transport):
    """A flow that has asked by a ping, at NOW + 20."""
    flow = begun(transport, limits=QUIET)
    assert not flow.turn(NOW + 20, False)
    assert transport.sent == ["ping"] and flow.messages == 2  # it is none
    return flow


def test_a_pong_is_a_sign_of_life_and_no_message(transport):
    flow = pinged(transport)
    transport.hears(PONG)
    assert not flow.turn(NOW + 21, True)
    assert not flow.turn(NOW + 30, False)
    assert flow.conversation.due() == NOW + 41 and flow.messages == 2
    assert [type(news) for news in news_of(flow.conversation)] == [Started]


def test_a_look_that_gives_nothing_is_no_sign_of_life(transport):
    flow = pinged(transport)
    assert not flow.turn(NOW + 21, True)
    with pytest.raises(UpstreamSilent, match="no answer to a ping"):
        flow.turn(NOW + 30, False)


def test_a_ping_that_the_network_does_not_take_is_given_up_like_any_message(transport):
    flow = begun(transport, limits=QUIET)
    transport.stuck = True
    assert not flow.turn(NOW + 20, False)
    assert transport.sent == ["ping"] and flow.blocked
    with pytest.raises(ConnectionLost, match="TimeoutError while sending"):
        flow.turn(NOW + 24, False)


def test_who_stood_still_himself_looks_before_he_calls_the_other_silent(transport):
    flow = pinged(transport)
    transport.hears(PONG)
    assert not flow.turn(NOW + 500, False)  # its time comes before what can be read
    assert flow.conversation.due() == NOW + 520


def test_so_he_does_before_the_start(transport):
    flow = Flow(transport, conversation(limits=QUIET))
    flow.turn(NOW, False)
    transport.hears(STARTED)
    flow.conversation.offer(Chunk(0.0, b"hush"))
    assert not flow.turn(NOW + 500, False)
    assert transport.sent == ["run-task", b"hush"]


@pytest.mark.parametrize(("words", "over"), [([final()], False), ([final(), FINISHED], True)])
def test_and_at_the_end(transport, words, over):
    flow = begun(transport, limits=QUIET)
    flow.conversation.end_audio()
    flow.conversation.look()
    flow.turn(NOW, False)
    transport.hears(*words)
    assert not flow.turn(NOW + 500, False)
    assert flow.conversation.over is over
    assert [type(news) for news in news_of(flow.conversation)] == [Started, Final]


def test_what_he_finds_then_may_be_worse(transport):
    flow = pinged(transport)
    transport.hears(ConnectionLost("closed with 1011"))
    with pytest.raises(ConnectionLost, match="1011"):
        flow.turn(NOW + 30, False)
