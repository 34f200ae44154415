"""A transport that follows a script, and an I/O loop without a thread, both on a fake clock."""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.fakes import FakeClock
from worker.recognition import RecognitionError, Transport
from worker.recognition.conversation import Conversation, News
from worker.recognition.flow import Flow
from worker.recognition.reactor import LetGo

PONG: Final = "a pong"
"""In a script: what comes is no message."""

MOST_STEPS: Final = 100_000
"""Of a conversation, between two of its news."""


class ScriptedTransport:
    """Answers by a script on a fake clock: `says(delay, message)` queues a text, or an exception to raise."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.sent: list[tuple[float, Any]] = []  # seconds since the start, the message
        self.pings: list[float] = []  # seconds since the start
        self.pong_after: float | None = 0.05  # the other side answers a ping so much later; None: it does not
        self.looks = 0
        self.on_send: Callable[[Any], None] = lambda message: None  # what it takes of the clock is our own slowness
        self.hold: Callable[[Any], float] = lambda message: 0.0  # for how long the network does not take all of it
        self.open = True
        self._start = clock.now
        self._script: list[tuple[float, Any]] = []
        self._held_until: float | None = None
        self._has_heard = False

    def says(self, delay: float, message: Any) -> None:
        self._script.append((self.clock.now + delay, message))
        self._script.sort(key=lambda item: item[0])

    def next_at(self) -> float:
        """The next moment at which the other side or the network does something."""
        said = (at for at, _ in self._script[:1])
        return min([*said] if self._held_until is None else [*said, self._held_until], default=math.inf)

    def send(self, data: str | bytes | memoryview) -> bool:
        assert self._held_until is None, "something is left, and has to be flushed first"
        message = json.loads(data) if isinstance(data, str) else bytes(data)
        self.sent.append((round(self.clock.now - self._start, 6), message))
        self.on_send(message)
        if seconds := self.hold(message):
            self._held_until = self.clock.now + seconds
        return not seconds

    def ping(self) -> bool:
        self.pings.append(round(self.clock.now - self._start, 6))
        if self.pong_after is not None:
            self.says(self.pong_after, PONG)
        return True

    def flush(self) -> bool:
        if self._held_until is not None and self.clock.now < self._held_until:
            return False
        self._held_until = None
        return True

    def receive(self) -> Iterator[str]:
        self.looks += 1
        self._has_heard = False
        while self._script and self._script[0][0] <= self.clock.now:
            _, message = self._script.pop(0)
            self._has_heard = True
            if message == PONG:
                continue
            if isinstance(message, Exception):
                self.open = False
                raise message
            yield json.dumps(message)

    def has_heard(self) -> bool:
        return self._has_heard

    def is_blocked(self) -> bool:
        return self._held_until is not None

    def fileno(self) -> int:
        return -1

    def is_open(self) -> bool:
        return self.open

    def abort(self) -> None:
        self.open = False

    def close(self) -> None:
        self.open = False


class Inline:
    """Moves conversations in their caller's own thread, on a fake clock: time passes while he waits, or is busy."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.lag = 0.0  # seconds after a due moment at which this process gets to run
        self._flows: dict[Conversation, tuple[Flow, ScriptedTransport]] = {}

    def begin(self, transport: Transport, conversation: Conversation) -> None:
        assert isinstance(transport, ScriptedTransport)
        self._flows[conversation] = Flow(transport, conversation), transport
        self._turn(conversation)

    def prod(self, conversation: Conversation) -> None:
        conversation.look()
        self._turn(conversation)

    def wait(self, conversation: Conversation) -> News:
        for _ in range(MOST_STEPS):
            if not conversation.news.empty():
                return conversation.news.get_nowait()
            if not self._turn(conversation) and conversation.news.empty():
                self._sleep(conversation, math.inf)
        raise AssertionError("it goes round in circles")

    def end(self, conversation: Conversation) -> None:
        self._release(conversation, LetGo())

    def elapse(self, seconds: float) -> None:
        """The only caller is busy elsewhere for so long, while the loop goes on."""
        until = self.clock.now + seconds
        while self._flows and self.clock.now < until:
            for conversation in list(self._flows):
                if not self._turn(conversation) and conversation in self._flows:
                    self._sleep(conversation, until)
        self.clock.now = max(self.clock.now, until)

    def _sleep(self, conversation: Conversation, until: float) -> None:
        due, next_at = conversation.due(), self._flows[conversation][1].next_at()
        at = min(due, math.inf if conversation.is_unread else next_at, until)
        assert at < math.inf, "nothing will ever happen"
        self.clock.now = max(self.clock.now, at + (self.lag if at == due else 0.0))

    def _turn(self, conversation: Conversation) -> bool:
        """As the reactor's: what ends the conversation is its last news, after its connection was let go."""
        if conversation not in self._flows:
            return False
        try:
            more = self._flows[conversation][0].turn(self.clock.now, not conversation.is_unread)
        except RecognitionError as error:
            self._release(conversation, error)
            return False
        if conversation.over:
            self._release(conversation, None)
        return more

    def _release(self, conversation: Conversation, why: Exception | None) -> None:
        if self._flows.pop(conversation, None):
            conversation.end(why, self.clock.now)
