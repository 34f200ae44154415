"""The state of one connection's conversation, as two tables. No socket, no thread, no clock.

One connection serves tasks one after the other, never two at a time (the vendor's connection-reuse guide):

             Start              Started              Finish               Finished
    READY ─────────▶ STARTING ─────────▶ STREAMING ─────────▶ FINISHING ─────────▶ READY
                         │                   │ ▲                  │ ▲
                         │                   └─┘ Audio,           └─┘ Partial, Final, Heartbeat
                         │                   │   Partial, Final, Heartbeat
                         │                   │                    │
                         └──── Refused, fail(), anything else ────┴────▶ BROKEN

Three facts make the tables:

1. Only its own task-finished makes a connection reusable. Start on a connection whose last task the service believes
   to be running is answered by "Invalid action('run-task')! Please follow the protocol!"; the vendor's cure is to close
   the WebSocket. So READY is reached by Finished alone, and nothing leads out of BROKEN.
2. After task-failed the service closes the connection. Refused is therefore a proper event in every state with a task
   in flight, it leads to BROKEN, and what it says is for the caller to judge.
3. Events carry the task's id. An event of another id is a late one of an earlier task: it cannot belong to the current
   transcript and says nothing about the current state, so it is put aside. (The Java SDK does not look at the id and
   takes such events for its own.)
"""

import enum
import logging
from collections.abc import Mapping
from typing import Final as Constant

from worker.recognition.errors import LocalProtocolError, RemoteProtocolError
from worker.recognition.messages import (
    Audio,
    Command,
    Event,
    Final,
    Finish,
    Finished,
    Heartbeat,
    Partial,
    Refused,
    Start,
    Started,
)

logger = logging.getLogger("worker.recognition")


class State(enum.Enum):
    READY = "ready"  # nothing in flight: the only state in which a recognizer may be pooled
    STARTING = "starting"
    STREAMING = "streaming"
    FINISHING = "finishing"  # all audio sent, waiting for the last final
    BROKEN = "broken"  # we no longer know what upstream believes: discard


S = State

COMMANDS: Constant[Mapping[tuple[State, type[Command]], State]] = {
    (S.READY, Start): S.STARTING,
    (S.STREAMING, Audio): S.STREAMING,
    (S.STREAMING, Finish): S.FINISHING,
}

EVENTS: Constant[Mapping[tuple[State, type[Event]], State]] = {
    (S.STARTING, Started): S.STREAMING,
    (S.STARTING, Refused): S.BROKEN,
    (S.STREAMING, Partial): S.STREAMING,
    (S.STREAMING, Final): S.STREAMING,
    (S.STREAMING, Heartbeat): S.STREAMING,
    (S.STREAMING, Refused): S.BROKEN,
    (S.FINISHING, Partial): S.FINISHING,
    (S.FINISHING, Final): S.FINISHING,
    (S.FINISHING, Heartbeat): S.FINISHING,
    (S.FINISHING, Finished): S.READY,
    (S.FINISHING, Refused): S.BROKEN,
}


class Session:
    """Knows what may be said next. Refuses to know how it travels, and when."""

    def __init__(self) -> None:
        self.state = State.READY
        self.task_id: str | None = None  # of the task in flight, else of the last one

    def __repr__(self) -> str:
        return f"<Session {self.state.value}, task {self.task_id}>"

    def sending(self, command: Command) -> None:
        """Ask before sending. LocalProtocolError, which changes nothing, when the command does not fit."""
        after = COMMANDS.get((self.state, type(command)))
        if after is None:
            raise LocalProtocolError(f"cannot send {type(command).__name__} when {self.state.value}")
        if isinstance(command, Start):
            if command.task_id == self.task_id:
                raise LocalProtocolError("cannot send Start with the id of the last task")
            self.task_id = command.task_id
        if isinstance(command, Finish) and command.task_id != self.task_id:
            raise LocalProtocolError("cannot send Finish for another task")
        logger.debug("> %s", _Size(command))
        self._become(after)

    def received(self, event: Event) -> bool:
        """Tell what has come. False: it is of another task, ignore it. RemoteProtocolError when it cannot be."""
        if event.task_id != self.task_id and not (isinstance(event, Refused) and not event.task_id):
            logger.debug("< %s of another task, ignored", _Size(event))
            return False
        logger.debug("< %s", _Size(event))
        before = self.state
        after = EVENTS.get((before, type(event)))
        self._become(after or State.BROKEN)
        if after is None:
            raise RemoteProtocolError(f"got {type(event).__name__} when {before.value}")
        return True

    def abandon(self) -> None:
        """Give the connection up: whatever happens next, it must not be used again."""
        self._become(State.BROKEN)

    def _become(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            logger.debug("= session is %s", state.value)


class _Size:
    """A message for the log: its name and size, made only if the line is written, and never its content."""

    def __init__(self, message: Command | Event) -> None:
        self.message = message

    def __str__(self) -> str:
        name = type(self.message).__name__
        match self.message:
            case Audio(data):
                return f"{name} [{len(data)} bytes]"
            case Partial(sentence=sentence) | Final(sentence=sentence):
                return f"{name} [{len(sentence.text)} chars]"
            case _:
                return name
