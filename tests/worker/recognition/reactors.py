"""Streams of a reactor of their own, whose time stands still; and recognizers of a loop, in real time."""

import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from tests.chaos import counted, sentences
from tests.fakes import FakeClock
from tests.worker.recognition.flows import (
    STARTED,
    Gate,
    ScriptedTransport,
    conversation,
    descriptors,
    final,
    until,
)
from worker.recognition import Chunk, Endpoint, Event, Final, Finished, Loop, Recognizer, Started, WebSocketTransport
from worker.recognition.flow import Flow
from worker.recognition.reactor import Reactor
from worker.recognition.wire import Wire

BYTES = 16_000
"""Of audio that a recognizer sends: half a second, five sentences."""


class Stream:
    """A conversation of a reactor, seen from its caller's side."""

    def __init__(self, reactor: Reactor, transport: Any = None, **options: Any) -> None:
        self.reactor = reactor
        self.transport: Any = transport or ScriptedTransport()
        self.talk = conversation(**options)
        assert reactor.begin(Flow(self.transport, self.talk))

    def next(self) -> Any:
        """The next of its news, but for calls for audio."""
        while (news := self.talk.news.get(timeout=20)) is None:
            pass
        if self.talk.read_one():
            self.reactor.prod(self.talk)
        return news

    def started(self) -> Self:
        self.transport.hears(STARTED)
        assert isinstance(self.next(), Started)
        return self

    def offer(self, *chunks: Chunk) -> None:
        for chunk in chunks:
            self.talk.offer(chunk)
        self.reactor.prod(self.talk)

    def ended(self) -> Any:
        """Its last news."""
        while not isinstance(news := self.next(), (Exception, Finished)):
            pass
        return news


class Streams(list[Stream]):
    """Makes streams of one reactor, whose time stands still unless it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.clock: Any = FakeClock()
        self.looks = 0
        self.reactor = Reactor(self._look_at_clock)
        self.reactor.start()

    def _look_at_clock(self) -> float:
        self.looks += 1
        now: float = self.clock()
        return now

    def begin(self, transport: Any = None, **options: Any) -> Stream:
        self.append(Stream(self.reactor, transport, **options))
        return self[-1]

    def hold(self) -> Gate:
        """The reactor stands still in a turn of a stream of its own, until the gate is opened."""
        held, gate = self.begin().started(), Gate()
        held.transport.on_turn = gate
        held.transport.hears(final())
        gate.wait()
        held.transport.on_turn = lambda what: None
        return gate

    def idles(self, seconds: float = 0.15) -> bool:
        """Whether the reactor does nothing for a while: a loop that spins looks at the clock thousands of times."""
        before = self.looks
        time.sleep(seconds)
        return self.looks - before < 20

    def stop(self) -> None:
        self.reactor.stop(20)
        assert not self.reactor.is_alive()
        for stream in self:
            stream.transport.close()


@contextmanager
def running_streams() -> Iterator[Streams]:
    """At the end neither a thread nor a descriptor is left."""
    gc.collect()  # else a socket that an earlier test left is closed in the midst of this one
    before, others = descriptors(), set(threading.enumerate())
    streams = Streams()
    try:
        yield streams
    finally:
        streams.stop()
    # Not at once, as threads of others may be about to close theirs; and fewer, if they did since the beginning.
    until(lambda: descriptors() <= before, "the descriptors are closed")
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name == "io-loop"]


class Throng:
    """A real connection whose other side reads nothing, after so many bytes of which nothing more is taken."""

    def __init__(self) -> None:
        ours, self.other = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.transport = WebSocketTransport(Wire(ours, write_timeout=1.0), 0.0)

    def hears(self, *texts: str) -> None:
        self.other.sendall(b"".join(framed(text.encode()) for text in texts))


def framed(data: bytes) -> bytes:
    length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    return b"\x81" + length + data


class Dialled:
    """A recognizer of the loop's, connected to the emulator, and what it can be asked to do."""

    def __init__(self, loop: Loop, url: str, first: int = 0) -> None:
        self.transport = WebSocketTransport.connect(Endpoint(url=url, api_key="k", close_timeout=5.0))
        self.recognizer = Recognizer(self.transport, loop=loop)
        self.first = first

    def events(self, spacing: float = 0.0, size: int = BYTES) -> Iterator[Event]:
        yield from self.recognizer.transcribe(
            model="paraformer-realtime-v2",
            parameters={"format": "pcm", "sample_rate": 16_000},
            chunks=counted(self.first, size, spacing=spacing),
            deadline=time.monotonic() + 60.0,
        )

    def text(self, spacing: float = 0.0) -> list[str]:
        try:
            return [event.sentence.text for event in self.events(spacing) if isinstance(event, Final)]
        finally:
            self.recognizer.close()

    def is_exact(self, spacing: float = 0.0) -> bool:
        return self.text(spacing) == sentences(self.first, BYTES)
