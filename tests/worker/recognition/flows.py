"""Conversations without a network: the service's messages, and a transport that does as a test says."""

import contextlib
import json
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from worker.recognition import Chunk, Limits
from worker.recognition.conversation import Conversation, Ping, Ready
from worker.recognition.load import Load
from worker.recognition.messages import Start, encode
from worker.recognition.session import Session

TASK = "t1"
START = 1000.0
EPSILON = 1e-6


def said(event: str, task: str = TASK, sentence: object = None, **header: str) -> str:
    """A message of the service."""
    payload = {"output": {"sentence": sentence}} if sentence else {}
    return json.dumps({"header": {"task_id": task, "event": event, **header}, "payload": payload})


def partial(text: str = "wo") -> str:
    return said("result-generated", sentence={"begin_time": 0, "text": text})


def final(text: str = "words") -> str:
    return said("result-generated", sentence={"begin_time": 0, "end_time": 100, "text": text, "sentence_end": True})


PONG = "a pong"
"""In an inbox: what is heard there is no message."""

STARTED, FINISHED = said("task-started"), said("task-finished")
HEARTBEAT = said("result-generated", sentence={"heartbeat": True})


def conversation(
    *,
    limits: Limits | None = None,
    deadline: float = math.inf,
    load: Load | None = None,
    partials: bool = True,
    ready: Ready = tuple,
    task: str = TASK,
) -> Conversation:
    """One whose first message is to be sent next."""
    session, start = Session(), Start(task, "m", {})
    session.sending(start)
    return Conversation(
        session,
        encode(start),
        limits=limits or Limits(),
        deadline=deadline,
        load=load or Load(),
        partials=partials,
        ready=ready,
    )


def action(message: Any) -> Any:
    """Which command a message is; audio as it is."""
    if isinstance(message, Ping):
        return "ping"
    return json.loads(message)["header"]["action"] if isinstance(message, str) else bytes(message)


def news_of(talk: Conversation) -> list[Any]:
    """All that the caller could take now, and takes; without the calls for audio."""
    taken = []
    while not talk.news.empty():
        news = talk.news.get()
        if news is not None:
            talk.read_one()
            taken.append(news)
    return taken


def begun(**options: Any) -> Conversation:
    """A task that the service has started, at the moment START."""
    talk = conversation(**options)
    assert action(talk.message(START)) == "run-task"
    talk.hear(STARTED, START)
    return talk


def finishing(**options: Any) -> Conversation:
    """A task without audio, of which the service knows that this is all."""
    talk = begun(**options)
    talk.end_audio()
    talk.look()
    assert action(talk.message(START)) == "finish-task"
    return talk


def say(talk: Conversation, now: float) -> list[Any]:
    """All that is to be said now."""
    messages = []
    while (message := talk.message(now)) is not None:
        messages.append(action(message))
    return messages


def spaced(count: int, spacing: float = 0.1) -> list[Chunk]:
    """So many chunks of 3,200 bytes."""
    return [Chunk(number * spacing, bytes([number % 251]) * 3200) for number in range(count)]


def bring(talk: Conversation, chunks: deque[Chunk]) -> None:
    """As many as are wanted."""
    while chunks and talk.wants_audio:
        talk.offer(chunks.popleft())


class ScriptedTransport:
    """Hears what is in its `inbox`, sends into `sent`, takes nothing while `stuck`.

    It has a socket that a selector can wait for, which is readable while `other` has said something that was not taken.
    """

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.inbox: list[str | Exception] = []
        self.stuck = False
        self.open = True
        self.fails: BaseException | None = None  # what sending raises
        self.on_turn: Callable[[str], None] = lambda what: None
        self.ours, self.other = socket.socketpair()
        for end in (self.ours, self.other):
            end.setblocking(False)
        self._left = self._has_heard = False

    def hears(self, *messages: str | Exception) -> None:
        """These come, and the selector sees it."""
        self.inbox += messages
        self.ring()

    def ring(self) -> None:
        """The selector finds it readable."""
        with contextlib.suppress(BlockingIOError):  # full of calls already
            self.other.send(b"!")

    def send(self, data: str | bytes | memoryview) -> bool:
        self.on_turn("send")
        if self.fails is not None:
            raise self.fails
        self.sent.append(action(data))
        self._left = self.stuck
        return not self.stuck

    def ping(self) -> bool:
        self.sent.append("ping")
        self._left = self.stuck
        return not self.stuck

    def flush(self) -> bool:
        if self.fails is not None:
            raise self.fails
        self._left = self.stuck
        return not self.stuck

    def receive(self) -> Iterator[str]:
        self.on_turn("receive")
        with contextlib.suppress(BlockingIOError):
            self.ours.recv(4096)
        coming, self.inbox = self.inbox, []
        self._has_heard = bool(coming)
        for message in coming:
            if message == PONG:
                continue
            if isinstance(message, Exception):
                self.open = False
                raise message
            yield message

    def has_heard(self) -> bool:
        return self._has_heard

    def is_blocked(self) -> bool:
        return self._left

    def fileno(self) -> int:
        return self.ours.fileno()

    def is_open(self) -> bool:
        return self.open

    def abort(self) -> None:
        self.open = False

    def close(self) -> None:
        self.open = False
        self.ours.close()
        self.other.close()


def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait until it holds, with a bound."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.001)


class Gate:
    """Holds the thread that comes to it until it is opened."""

    def __init__(self) -> None:
        self._came, self._opened = threading.Event(), threading.Event()

    def __call__(self, what: str = "") -> None:
        self._came.set()
        assert self._opened.wait(20)

    def wait(self) -> None:
        assert self._came.wait(20)

    def open(self) -> None:
        self._opened.set()


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))
