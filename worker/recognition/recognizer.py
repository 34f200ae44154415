"""One upstream conversation: the session's rules, a transport's bytes and one clock, in the caller's own thread."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.recognition.errors import ConnectionLost, DeadlinePassed, RecognitionError, Throttled, UpstreamSilent
from worker.recognition.load import Load
from worker.recognition.messages import Audio, Command, Event, Finish, Finished, Refused, Start, decode, encode
from worker.recognition.refusals import refusal
from worker.recognition.session import Session, State
from worker.recognition.transport import Transport


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio that may be sent `due` seconds after task-started, not earlier; 0.0: at once."""

    due: float
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long to wait for the service, in seconds. The vendor's own SDKs wait for ever, or 300 s."""

    started: float = 10.0  # from run-task to task-started
    finished: float = 60.0  # after finish-task: the longest silence, counted anew from each event


def _fresh_id() -> str:
    return uuid.uuid4().hex  # 32 hex digits, like the Python SDK's


class Recognizer:
    """Turns chunks of audio into events, one task after the other. Knows no pool, no job and no file.

    Belongs to one thread at a time, and to the process that connected, at the moment `connected_at` of the clock.
    `tasks` counts those finished. `took_audio`: whether the last task came to take a chunk from its source; a task that
    failed before can be run anew without a loss.
    """

    def __init__(
        self,
        transport: Transport,
        limits: Limits | None = None,
        *,
        load: Load | None = None,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = _fresh_id,
    ) -> None:
        self.tasks = 0
        self.took_audio = False
        self.connected_at = clock()
        self._transport = transport
        self._limits = limits or Limits()
        self._load = load or Load()
        self._late = self._blocked = 0.0  # seconds that the chunk in hand was held up, by us or by the other side
        self._clock = clock
        self._new_id = new_id
        self._session = Session()

    def __repr__(self) -> str:
        open_ = "open" if self._transport.is_open() else "not open"
        return f"<Recognizer {self._session.state.value}, {open_}, tasks {self.tasks}>"

    def transcribe(
        self,
        *,
        model: str,
        parameters: Mapping[str, Any],
        resources: Sequence[Mapping[str, Any]] = (),
        chunks: Iterable[Chunk],
        deadline: float,
    ) -> Iterator[Event]:
        """Run one task: Started first, Finished last, in between what the service recognises, as it comes.

        `deadline` is absolute on the recognizer's clock; one bounded send at most overruns it. Sending goes on only
        while the caller iterates. Raises the service's refusal, what the transport raises, UpstreamSilent,
        DeadlinePassed, and whatever `chunks` raises. After any of these, or when the caller stops before Finished,
        the recognizer is not reusable.
        """
        start = Start(self._new_id(), model, parameters, resources)
        opening = encode(start)
        self._session.sending(start)
        self.took_audio = False
        try:
            self._transport.send(opening)
            yield from self._task(start.task_id, chunks, deadline)
        except Throttled:
            self._load.throttled()
            raise
        finally:
            if self._session.state is not State.READY:
                self._session.abandon()

    def is_healthy(self) -> bool:
        """Before lending: idle, open, and nothing unread. Does not wait; answers a ping that came meanwhile.

        A message on an idle connection means that we do not know what the service believes; it is given up.
        """
        try:
            healthy = self.is_reusable() and self._transport.receive(0.0) is None and self._transport.is_open()
        except RecognitionError:
            healthy = False
        if not healthy:
            self._session.abandon()
        return healthy

    def is_reusable(self) -> bool:
        """After lending: whether the last task's own task-finished was read and the connection stands."""
        return self._session.state is State.READY and self._transport.is_open()

    def abort(self) -> None:
        """Take the connection from whoever uses it, at once and from any thread: his task ends with ConnectionLost.

        It is not reusable any more, and still to be closed by its owner. Never raises.
        """
        self._transport.abort()  # and no word to the session, which is its thread's alone

    def close(self) -> None:
        """Close the connection, in bounded time. Never raises."""
        self._session.abandon()
        self._transport.close()

    def _task(self, task_id: str, chunks: Iterable[Chunk], deadline: float) -> Iterator[Event]:
        started = self._event(self._clock() + self._limits.started, deadline)
        if started is None:
            raise UpstreamSilent(f"no task-started within {self._limits.started:g} s")
        zero = before = self._clock()  # before the caller takes its time over Started: all dues count from here
        yield started
        for chunk in chunks:
            self.took_audio = True
            self._late = self._blocked = 0.0
            if zero + chunk.due > self._clock():
                yield from self._events(zero + chunk.due, deadline)
            try:
                yield from self._say(Audio(chunk.data), deadline)
            finally:  # the worst of networks lets no send succeed
                if chunk.due > 0:
                    sent = self._clock()
                    self._load.sent(late=self._late, blocked=self._blocked, elapsed=sent - before)
                    before = sent
        yield from self._say(Finish(task_id), deadline)
        yield from self._ending(deadline)

    def _say(self, command: Command, deadline: float) -> Iterator[Event]:
        """Send, then hand out what has come meanwhile."""
        try:
            self._session.sending(command)
            self._send(encode(command))
        except ConnectionLost:
            # A service that hangs up says why first. Its last sentences, a task-failed and the close frame are
            # already here, and they are worth more than the broken pipe.
            yield from self._events(self._clock(), deadline)
            raise
        if self._session.state is State.STREAMING:
            yield from self._events(self._clock(), deadline)

    def _send(self, message: str | bytes) -> None:
        began = self._clock()
        try:
            self._blocked = self._transport.send(message)
        except ConnectionLost:
            self._blocked = self._clock() - began  # until it was cut off, or until our patience ended
            raise
        self._late += max(0.0, self._clock() - began - self._blocked)

    def _ending(self, deadline: float) -> Iterator[Event]:
        while self._session.state is not State.READY:
            event = self._event(self._clock() + self._limits.finished, deadline)
            if event is None:
                raise UpstreamSilent(f"nothing within {self._limits.finished:g} s after finish-task")
            yield event

    def _events(self, until: float, deadline: float) -> Iterator[Event]:
        while (event := self._event(until, deadline)) is not None:
            yield event

    def _event(self, until: float, deadline: float) -> Event | None:
        """The task's next event; None when none came until then. A moment in the past: only look."""
        while True:
            now = self._clock()
            if now >= deadline:
                raise DeadlinePassed
            end = max(now, min(until, deadline))
            text = self._transport.receive(end - now)
            if text is not None:
                if (event := self._judged(decode(text))) is not None:
                    return event
            elif (after := self._clock()) >= until:
                self._late += after - end
                return None

    def _judged(self, event: Event) -> Event | None:
        if not self._session.received(event):
            return None
        if isinstance(event, Refused):
            raise refusal(event.code, event.message)
        if isinstance(event, Finished):
            self.tasks += 1
        return event
