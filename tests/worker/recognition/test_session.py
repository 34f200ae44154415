import logging

import pytest

from worker.recognition.errors import LocalProtocolError, RemoteProtocolError
from worker.recognition.messages import (
    Audio,
    Final,
    Finish,
    Finished,
    Heartbeat,
    Partial,
    Refused,
    Sentence,
    Start,
    Started,
)
from worker.recognition.session import Session, State

SENTENCE = Sentence(0, 100, "hush hush hush")
COMMANDS = {"Start": Start("new", "m", {}), "Audio": Audio(b"12"), "Finish": Finish("t")}
EVENTS = {
    "Started": Started("t"),
    "Partial": Partial("t", SENTENCE),
    "Final": Final("t", SENTENCE),
    "Heartbeat": Heartbeat("t"),
    "Finished": Finished("t"),
    "Refused": Refused("t", "code", "hush hush hush"),
}
ALLOWED = """
    ready      Start     starting
    streaming  Audio     streaming
    streaming  Finish    finishing
    starting   Started   streaming
    starting   Refused   broken
    streaming  Partial   streaming
    streaming  Final     streaming
    streaming  Heartbeat streaming
    streaming  Refused   broken
    finishing  Partial   finishing
    finishing  Final     finishing
    finishing  Heartbeat finishing
    finishing  Finished  ready
    finishing  Refused   broken
"""
TABLE = {(before, message): after for before, message, after in map(str.split, ALLOWED.strip().splitlines())}
STATES = ["ready", "starting", "streaming", "finishing", "broken"]


def session_in(state):
    """A session that came to its state by the proper way, with the task t."""
    session = Session()
    session.sending(Start("t", "m", {}))
    if state in ("streaming", "finishing", "ready"):
        session.received(Started("t"))
    if state in ("finishing", "ready"):
        session.sending(Finish("t"))
    if state == "ready":
        session.received(Finished("t"))
    if state == "broken":
        session.abandon()
    assert session.state.value == state
    return session


def test_the_states_are_those_of_the_table():
    assert [state.value for state in State] == STATES


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_every_state(state, name):
    session = session_in(state)
    after = TABLE.get((state, name))
    if after:
        session.sending(COMMANDS[name])
        assert session.state.value == after
    else:
        before = repr(session)
        with pytest.raises(LocalProtocolError, match=f"cannot send {name} when {state}"):
            session.sending(COMMANDS[name])
        assert repr(session) == before


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", EVENTS)
def test_every_event_in_every_state(state, name):
    session = session_in(state)
    after = TABLE.get((state, name))
    if after:
        assert session.received(EVENTS[name]) is True
        assert session.state.value == after
    else:
        with pytest.raises(RemoteProtocolError, match=f"got {name} when {state}"):
            session.received(EVENTS[name])
        assert session.state is State.BROKEN


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", [Started, Heartbeat, Finished])
def test_an_event_of_another_task_is_put_aside_in_every_state(state, kind):
    session = session_in(state)
    assert session.received(kind("earlier")) is False
    assert session.state.value == state


def test_a_fresh_session_knows_no_task():
    assert repr(Session()) == "<Session ready, task None>"
    assert Session().received(Finished("earlier")) is False


def test_a_task_id_serves_once_on_a_connection():
    session = session_in("ready")
    with pytest.raises(LocalProtocolError, match="id of the last task"):
        session.sending(Start("t", "m", {}))
    assert repr(session) == "<Session ready, task t>"


def test_finish_is_for_the_task_in_flight():
    session = session_in("streaming")
    with pytest.raises(LocalProtocolError, match="another task"):
        session.sending(Finish("other"))
    assert session.state is State.STREAMING


def test_the_log_tells_sizes_and_never_content(caplog):
    caplog.set_level(logging.DEBUG, "worker.recognition")
    session = session_in("streaming")
    session.sending(Audio(b"x" * 3200))
    session.received(Partial("t", SENTENCE))
    session.received(Heartbeat("earlier"))
    session.sending(Finish("t"))
    session.received(Final("t", SENTENCE))
    session.received(Finished("t"))
    assert [record.getMessage() for record in caplog.records] == [
        "> Start",
        "= session is starting",
        "< Started",
        "= session is streaming",
        "> Audio [3200 bytes]",
        "< Partial [14 chars]",
        "< Heartbeat of another task, ignored",
        "> Finish",
        "= session is finishing",
        "< Final [14 chars]",
        "< Finished",
        "= session is ready",
    ]
    session.abandon()
    session.abandon()
    assert caplog.text.count("= session is broken") == 1
    assert "hush" not in caplog.text


def test_a_refusal_without_an_id_is_of_the_task_in_flight():
    session = Session()
    session.sending(Start("t", "m", {}))
    assert session.received(Refused("", "InvalidParameter", "no task"))
    assert session.state is State.BROKEN
