"""One upstream conversation after the other over one connection: what its borrower sees, an iterator of events."""

import queue
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from worker.recognition.conversation import Chunk, Conversation, Interruption, Limits, Ready
from worker.recognition.errors import RecognitionError, Throttled
from worker.recognition.load import Load
from worker.recognition.loop import Driver
from worker.recognition.messages import Event, Finished, Start, encode
from worker.recognition.session import Session, State
from worker.recognition.transport import Transport


def _fresh_id() -> str:
    return uuid.uuid4().hex  # 32 hex digits, like the Python SDK's


class Recognizer:
    """Turns chunks of audio into events, one task after the other. Knows no pool, no job and no file.

    Belongs to one thread at a time, and to the process that connected, at the moment `connected_at` of the clock. While
    a task lasts, `loop` owns its connection. `tasks` counts those finished. Of the last task: `took_audio`, whether it
    came to take a chunk from its source (if not, it can be run anew without a loss); `sent_bytes`, the audio that the
    service was given; `sent_all`, whether it was told that this is all.
    """

    def __init__(
        self,
        transport: Transport,
        limits: Limits | None = None,
        *,
        loop: Driver,
        load: Load | None = None,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = _fresh_id,
    ) -> None:
        self.tasks = 0
        self.connected_at = clock()
        self._transport = transport
        self._limits = limits or Limits()
        self._loop = loop
        self._load = load or Load()
        self._new_id = new_id
        self._session = Session()
        self._conversation: Conversation | None = None

    def __repr__(self) -> str:
        open_ = "open" if self._transport.is_open() else "not open"
        return f"<Recognizer {self._session.state.value}, {open_}, tasks {self.tasks}>"

    @property
    def took_audio(self) -> bool:
        return self._conversation is not None and self._conversation.took_audio

    @property
    def sent_bytes(self) -> int:
        return self._conversation.sent_bytes if self._conversation else 0

    @property
    def sent_all(self) -> bool:
        return self._conversation is not None and self._conversation.sent_all

    def transcribe(
        self,
        *,
        model: str,
        parameters: Mapping[str, Any],
        resources: Sequence[Mapping[str, Any]] = (),
        chunks: Iterable[Chunk],
        deadline: float,
        partials: bool = True,
        ready: Ready = tuple,
    ) -> Generator[Event, None, None]:
        """Run one task: Started first, Finished last, in between what the service recognises, as it comes.

        Chunks are taken in the caller's thread while he iterates, a second or two before they are sent; and in the
        loop's, as far as `ready` gives some without any wait. Without `partials` only the first one is handed
        out, and the others cost little. `deadline` is absolute on the clock.
        Raises the service's refusal, what the transport raises, UpstreamSilent, DeadlinePassed, what `interrupt` is
        told, and whatever `chunks` raises. After any of these, or when the caller stops before Finished, the recognizer
        is not reusable.
        """
        start = Start(self._new_id(), model, parameters, resources)
        opening = encode(start)
        self._session.sending(start)
        self._conversation = conversation = Conversation(
            self._session,
            opening,
            limits=self._limits,
            deadline=deadline,
            load=self._load,
            partials=partials,
            ready=ready,
        )
        try:
            self._loop.begin(self._transport, conversation)
            yield from self._events(conversation, iter(chunks))
        except Throttled:
            self._load.throttled()
            raise
        finally:
            self._take_back()

    def is_healthy(self) -> bool:
        """Before lending: idle, open, and nothing unread. Does not wait; answers a ping that came meanwhile.

        A message on an idle connection means that we do not know what the service believes; it is given up.
        """
        try:
            healthy = self.is_reusable() and next(self._transport.receive(), None) is None and self._transport.is_open()
        except RecognitionError:
            healthy = False
        if not healthy:
            self._session.abandon()
        return healthy

    def is_reusable(self) -> bool:
        """After lending: whether the last task's own task-finished was read and the connection stands."""
        if self._session.state is not State.READY or not self._transport.is_open():
            return False
        self._take_back()  # its last event is heard, but the loop may just be about to let go
        return self._transport.is_open()

    def interrupt(self, why: Exception) -> None:
        """End the task in flight, from any thread: its caller gets `why` as soon as he looks for an event, at once if
        he waits for one.

        It belongs to this task. Is there none, or is it just over, then nothing happens, to the next one either.
        """
        conversation = self._conversation
        if conversation is not None:
            conversation.news.put(Interruption(why))  # past the loop, so that he wakes at once

    def abort(self) -> None:
        """Take the connection from whoever uses it, at once and from any thread: his task ends with ConnectionLost.

        It is not reusable any more, and still to be closed by its owner. Never raises.
        """
        self._transport.abort()  # and no word to the session, which is its thread's alone

    def close(self) -> None:
        """Close the connection, in bounded time. Never raises."""
        self._take_back()
        self._session.abandon()
        self._transport.close()

    def _take_back(self) -> None:
        """Have the loop let go of the connection, also where a caller has left a task suspended."""
        if self._conversation is None:
            return
        try:
            self._loop.end(self._conversation)
        except queue.Empty:
            self._transport.abort()  # it is the loop's until it finds that out
        except BaseException:  # a time limit strikes
            self._transport.abort()
            raise
        finally:
            if self._session.state is not State.READY:
                self._session.abandon()

    def _events(self, conversation: Conversation, chunks: Iterator[Chunk]) -> Iterator[Event]:
        while True:
            if conversation.wants_audio and conversation.news.empty():
                self._bring(conversation, chunks)
                continue
            news = self._loop.wait(conversation)
            if isinstance(news, Interruption):
                self._take_back()
                self._session.abandon()  # though its task-finished may have come in between: like any failed task
                raise news.why
            if isinstance(news, Exception):
                raise news
            if news is None:
                continue
            if conversation.read_one():
                self._loop.prod(conversation)
            if isinstance(news, Finished):
                self.tasks += 1
            yield news
            if isinstance(news, Finished):
                return

    def _bring(self, conversation: Conversation, chunks: Iterator[Chunk]) -> None:
        chunk = next(chunks, None)
        if chunk is None:
            conversation.end_audio()
        else:
            conversation.offer(chunk)
        if conversation.waits_for_audio:
            self._loop.prod(conversation)
