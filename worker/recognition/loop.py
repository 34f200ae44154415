"""The process's I/O loop, as its users see it: there when it is needed, and anew after a fork or a fault."""

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from worker.recognition.conversation import Conversation, News
from worker.recognition.errors import ConnectionLost, DeadlinePassed
from worker.recognition.flow import Flow
from worker.recognition.messages import Finished
from worker.recognition.reactor import Reactor
from worker.recognition.transport import Transport

TRIES: Final = 3

LOOK_EVERY: Final = 30.0
"""Seconds without any news, after which a caller looks whether there is still a loop."""

PATIENCE: Final = 5.0
"""Seconds for the loop to let go of a connection. A turn takes less than a thousandth of one."""

LAST: Final = (Finished, Exception)
"""What the last of a conversation's news is."""


class Driver(Protocol):
    """Who moves conversations."""

    def begin(self, transport: Transport, conversation: Conversation) -> None:
        """Own the transport until the conversation is over, and tell its news. ConnectionLost: nobody can."""
        ...

    def prod(self, conversation: Conversation) -> None:
        """There is something new for it: audio, or room for its news."""
        ...

    def wait(self, conversation: Conversation) -> News:
        """The next of its news. Not to be asked after the last."""
        ...

    def end(self, conversation: Conversation) -> None:
        """Let go of its transport now; returns when that is done. Again, or after the last news, it is harmless.

        queue.Empty: it did not let go in time, and still owns the transport.
        """
        ...


class Loop:
    """One reactor for the process, made when the first stream begins. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._reactor: Reactor | None = None
        self._restarts = 0
        self._closed = False
        self._messages = self._audio_bytes = 0

    def __repr__(self) -> str:
        return f"<Loop {self.figures()['loop_streams']} streams>"

    def begin(self, transport: Transport, conversation: Conversation) -> None:
        flow = Flow(transport, conversation)
        for _ in range(TRIES):
            reactor = self._running()
            if reactor.begin(flow):
                return
            self._forget(reactor)
        raise ConnectionLost("the I/O loop cannot be started")

    def prod(self, conversation: Conversation) -> None:
        reactor = self._reactor
        if reactor is not None:
            reactor.prod(conversation)

    def wait(self, conversation: Conversation) -> News:
        while True:
            try:
                return conversation.news.get(timeout=LOOK_EVERY)
            except queue.Empty:
                # A reactor that ends says so. This is for one that could not even do that.
                reactor = self._reactor
                if reactor is None or not reactor.is_alive():
                    raise ConnectionLost("the I/O loop is gone") from None
                if conversation.is_past(self._clock() - LOOK_EVERY):  # which the loop should have said itself
                    raise DeadlinePassed from None

    def end(self, conversation: Conversation) -> None:
        reactor = self._reactor
        if reactor is None or self._pid != os.getpid() or reactor.is_current() or not reactor.end(conversation):
            return
        deadline = self._clock() + PATIENCE
        while not isinstance(conversation.news.get(timeout=max(0.0, deadline - self._clock())), LAST):
            pass

    def close(self, timeout: float) -> None:
        """End all streams, retryably, and the thread."""
        with self._lock:
            self._closed = True
            reactor = self._reactor
        if reactor is not None:
            reactor.stop(timeout)

    def figures(self) -> dict[str, int | float]:
        """Streams now, messages and bytes of audio in all, the worst lag, how often it had to be started again."""
        reactor = self._reactor
        flows = reactor.flows() if reactor else []
        messages = self._messages + (reactor.messages if reactor else 0)
        audio_bytes = self._audio_bytes + (reactor.audio_bytes if reactor else 0)
        return {
            "loop_streams": len(flows),
            "loop_messages": messages + sum(flow.messages for flow in flows),
            "loop_audio_bytes": audio_bytes + sum(flow.conversation.sent_bytes for flow in flows),
            "loop_lag_ms_max": round(1000 * reactor.lag(), 1) if reactor else 0.0,
            "loop_restarts": self._restarts,
        }

    def _running(self) -> Reactor:
        with self._lock:
            if self._pid != os.getpid():  # the parent's thread did not come along, and its selector is not ours to use
                self._pid, self._reactor = os.getpid(), None
                self._messages = self._audio_bytes = self._restarts = 0
            if self._closed:
                raise ConnectionLost("the process stops")
            if self._reactor is None:
                self._reactor = self._started()
            return self._reactor

    def _started(self) -> Reactor:
        try:
            reactor = Reactor(self._clock)
        except OSError as error:  # no descriptor is left
            raise ConnectionLost(f"the I/O loop cannot be made, {type(error).__name__}") from None
        try:
            reactor.start()
        except RuntimeError:  # no thread is left
            reactor.discard()
            raise ConnectionLost("the I/O loop cannot be started") from None
        return reactor

    def _forget(self, dead: Reactor) -> None:
        with self._lock:
            if self._reactor is dead:
                self._messages += dead.messages
                self._audio_bytes += dead.audio_bytes
                self._restarts += 1
                self._reactor = None
