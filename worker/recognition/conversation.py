"""One task over time: what is to be said next and when, and what has come. No socket, no thread, no clock.

Two sides use it, each in a thread of its own: the caller, who has audio and wants events, and the I/O loop, which asks
what to do now. Between them are chunks and news, both bounded:

    caller ── offer ──▶ chunks ── message(now) ──▶ I/O loop ──▶ service
    caller ◀── news ◀───────── hear(text, now) ◀── I/O loop ◀── service

Audio comes on credit, as in TCP: the loop says up to which byte it wants to have some, and the caller brings about that
much. So he is woken for the next second of audio and not for each frame, and nobody can pile up more. Has he brought it
all, then the loop itself takes what the source gives without a wait, and the caller sleeps on, until there is none.
Every field has one writer, so that none needs a lock.
"""

import math
import queue
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from worker.recognition.errors import ConnectionLost, DeadlinePassed, UpstreamSilent
from worker.recognition.load import Load, Strain
from worker.recognition.messages import (
    Event,
    Finish,
    Finished,
    Heartbeat,
    Partial,
    Refused,
    Started,
    decode,
    encode,
)
from worker.recognition.refusals import not_started, refusal
from worker.recognition.session import Session, State

AHEAD: Final = 48_000
"""Bytes of audio that may wait to be sent: one second and a half at 16 kHz, so that the caller wakes once a second."""

FAST_AHEAD: Final = 4 * AHEAD
"""The same for audio that is sent as fast as the service takes it. A few such streams fill a process."""

RECHECK: Final = 0.005
"""Seconds after which a stream that has run out of audio looks again by itself, before it asks to be called."""

MOST_UNREAD: Final = 256
"""Events that a caller may leave unread, before nothing more is read from the service."""

REPORT_EVERY: Final = 1.0
"""Seconds between two reports of a stream's strain."""

Ready: TypeAlias = Callable[[], Sequence["Chunk"]]
"""Some next chunks of the source that the caller brings from, if they can be had without any wait, else none. It is
asked in the loop's thread, and only while the caller has nothing to bring.
"""


class Interruption:
    """Somebody wants the caller to stop, and why. It may come at any time, and never is the last of the news."""

    def __init__(self, why: Exception) -> None:  # compiled, a dataclass cannot have a field of this type
        self.why = why


News: TypeAlias = Event | Exception | Interruption | None
"""An event; how it failed, or ended; that the caller is to stop; or None: more audio is wanted."""


class Ping:
    """No message, but a question to the other end's WebSocket, which must answer (RFC 6455, 5.5.2)."""


PING: Final = Ping()


@dataclass(slots=True)
class Chunk:
    """Audio that may be sent `due` seconds after task-started, not earlier; 0.0: at once."""

    due: float
    data: bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long to wait for the service, in seconds. The vendor's own SDKs wait for ever, or 300 s."""

    started: float = 10.0  # from run-task to task-started
    finished: float = 60.0  # after finish-task: the longest silence, counted anew from each event
    quiet: float = 20.0  # while audio is sent: without any sign of life, before a ping asks for one (the SDK's: 30)
    pong: float = 10.0  # from the ping to any sign of life
    write: float = 10.0  # until the network has taken a message that it did not take at once


class Conversation:
    """A task from run-task to task-finished. `session` is about to start it; `opening` is its first message.

    `sent_bytes` and `sent_all` say how much audio the service was given. `heard` is the moment of the last sign of
    life; the loop writes it for what is no message. Raises only on the loop's side: what ends the task is raised there
    once and reaches the caller as the last of the `news`.
    """

    def __init__(
        self,
        session: Session,
        opening: str,
        *,
        limits: Limits,
        deadline: float,
        load: Load,
        partials: bool = True,
        ready: Ready = tuple,
    ) -> None:
        self.news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.post: Callable[[News], None] = self.news.put  # how the loop delivers them
        self.sent_bytes = 0
        self.sent_all = False
        self.over = False
        self.heard = -math.inf
        self.parked = True  # the loop waits for audio, and will not look again before it is told to
        self._session = session
        self._opening = opening
        self._limits = limits
        self._deadline = deadline
        self._load = load
        self._strain = Strain()
        self._partials = partials
        self._ready = ready
        self._heard_partial = False
        # Audio: what the caller has brought, what the loop has taken itself, and up to where it wants the caller's.
        self._chunks: deque[Chunk] = deque()
        self._offered = self._taken = self._asked = 0
        self._at_hand = False  # what the loop looked for last, it found
        self._ended = False
        self._told = self._read = 0
        # Moments.
        self._due = -math.inf
        self._limit = self._held_until = math.inf
        self._patience = deadline
        self._pinged = -math.inf
        self._zero = self._spoke = self._reported = 0.0
        self._paced = self._resumed = -math.inf
        self._last_due = 0.0
        self._recheck: float | None = None
        self._held_since: float | None = None
        self._started = False
        self._finished: Finished | None = None

    # -- the caller's side -----------------------------------------------------------------------------------------

    @property
    def wants_audio(self) -> bool:
        """Whether another chunk may be offered."""
        return self._offered + self._taken < self._asked and not self._ended

    @property
    def took_audio(self) -> bool:
        """Whether a chunk has come out of its source."""
        return self._offered + self._taken > 0

    @property
    def waits_for_audio(self) -> bool:
        """Whether the loop must be told now that there is some: it has gone to sleep over it, or all it wanted is here.

        In between it looks again by itself, so that it need not be told of each chunk.
        """
        return self.parked or (self._recheck is not None and not self.wants_audio)

    def offer(self, chunk: Chunk) -> None:
        """Give the next chunk. If it `waits_for_audio` afterwards, the loop must be told."""
        self._chunks.append(chunk)
        self._offered += len(chunk.data)

    def end_audio(self) -> None:
        """Say that there is no more."""
        self._ended = True

    def read_one(self) -> bool:
        """Say that one of the news was taken. True: the loop waited for that, and must be told."""
        self._read += 1
        return self._told - self._read == MOST_UNREAD // 2

    # -- the loop's side -------------------------------------------------------------------------------------------

    def is_past(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return now >= self._deadline

    @property
    def is_unread(self) -> bool:
        """Whether the caller has left so much unread that nothing more should be read for him."""
        return self._told - self._read >= MOST_UNREAD

    def due(self) -> float:
        """When `message` should be asked again, if nothing happens before (monotonic)."""
        return self._due if self._due < self._patience else self._patience

    def look(self) -> None:
        """There may be audio, or its end: `message` should be asked now."""
        if self._held_since is None and self._session.state is State.STREAMING:
            self._due = -math.inf

    def message(self, now: float) -> str | bytes | memoryview | Ping | None:
        """What to send now; None for nothing yet. Raises DeadlinePassed, UpstreamSilent, ConnectionLost."""
        if now >= self._patience and self._lose_patience(now):
            return PING
        if self._held_since is not None:
            return None
        if self._session.state is State.STREAMING:
            return self._audio(now)
        if self._opening:
            opening, self._opening = self._opening, ""
            self._due = math.inf
            self._be_patient(limit=now + self._limits.started)
            return opening
        return None

    def held(self, now: float) -> None:
        """The network has not taken all that it was given."""
        if self._held_since is None:
            self._held_since, self._due = now, math.inf
            self._be_patient(held_until=now + self._limits.write)

    def released(self, now: float) -> None:
        """The network has taken it all."""
        if self._held_since is not None:
            self._note_hold(now)
            self._held_since = None
            self.heard = now  # an answer that had to wait behind all this is not late
            self._be_patient(held_until=math.inf)
            self._paced, self._resumed = -math.inf, now
            self.look()

    def hear(self, text: str, now: float) -> None:
        """Take a message. Raises RemoteProtocolError, or what the service says by a refusal."""
        if self.over:  # words after the last one: what the service believes now is not known
            self._session.abandon()
            return
        self.heard = now
        event = decode(text, partials=self._partials or not self._heard_partial)
        if not self._session.received(event):
            return
        if isinstance(event, Refused):
            raise refusal(event.code, event.message)
        if isinstance(event, Started):
            self._started = True
            self._zero = self._spoke = self._reported = now
            self._due = -math.inf if self._held_since is None else math.inf
            self._be_patient(limit=now + self._limits.quiet)
            self._tell(event)
            self._top_up(AHEAD)
            return
        if self._session.state is State.FINISHING:
            self._be_patient(limit=now + self._limits.finished)
        if isinstance(event, Finished):
            self.over, self._finished = True, event
        elif not isinstance(event, Heartbeat):
            self._heard_partial = self._heard_partial or isinstance(event, Partial)
            self._tell(event)

    def end(self, why: Exception | None, now: float) -> None:
        """The last word to the caller: task-finished, or why there is none. The loop must have let go before."""
        self._note_hold(now)
        self._load.add(self._strain)
        self.over = True
        if why is not None and not self._started:
            why = not_started(why)
        self._tell(why or self._finished)

    # -- audio -----------------------------------------------------------------------------------------------------

    def _audio(self, now: float) -> str | bytes | memoryview | None:
        ended = self._ended  # asked before the chunks: the last one comes before the end
        starved = self.parked or self._recheck is not None
        if not self._chunks:
            return self._finish(now) if ended else self._starve(now)
        chunk = self._chunks[0]
        at = self._due if self._due > -math.inf and not starved else self._moment(chunk)
        if at > now:
            self._due = at
            self.parked, self._recheck = False, None  # from now on it waits for the moment, and not for the caller
            return None
        self._chunks.popleft()
        self.parked, self._recheck = False, None
        if chunk.due > 0:
            # Late is who had something to send. Of a chunk that came late the source is the cause.
            self._strain.sent(late=0.0 if starved else now - at, elapsed=now - self._spoke)
        # Counted from the moment that was meant, or a loop that always wakes a little late would never catch up.
        self._paced = at if now - at < chunk.due - self._last_due else now
        self._spoke, self._last_due = now, chunk.due
        self._due = self._moment(self._chunks[0]) if self._chunks else -math.inf
        self._count(chunk, now)
        return chunk.data  # which leaves the session as it is: streaming

    def _moment(self, chunk: Chunk) -> float:
        """When to send it: at its due moment. Who has fallen behind catches up at twice the pace, not in a burst."""
        spaced = self._paced + (chunk.due - self._last_due) / 2
        due = self._zero + chunk.due
        if due < spaced:
            due = spaced
        return due if due > self._resumed else self._resumed

    def _count(self, chunk: Chunk, now: float) -> None:
        # The first chunk of a stream with a pace is due at once, too.
        ahead = FAST_AHEAD if not chunk.due and self.sent_bytes else AHEAD
        self.sent_bytes += len(chunk.data)
        self._top_up(ahead)
        if now - self._reported >= REPORT_EVERY:
            self._reported = now
            self._load.add(self._strain)
            self._strain = Strain()

    def _note_hold(self, now: float) -> None:
        # Who has no pace sends as fast as the network takes it, and is always held.
        if self._held_since is not None and self._last_due > 0:
            self._strain.hold(now - self._held_since)

    def _top_up(self, ahead: int) -> None:
        """See to it that there is audio: what is ready, else the caller's."""
        # Who has to be called for it takes longer.
        least = self.sent_bytes + (ahead // 6 if self._at_hand else ahead // 3)
        while max(self._asked, self._offered + self._taken) <= least and not self._ended:
            # All that he was asked for is here, or he is still about to bring it.
            ready = self._ready() if self._offered + self._taken >= self._asked else ()
            self._at_hand = len(ready) > 0
            if not ready:
                self._asked = self.sent_bytes + ahead
                self.post(None)
                return
            self._chunks.extend(ready)
            self._taken += sum([len(chunk.data) for chunk in ready])

    def _starve(self, now: float) -> str | bytes | memoryview | None:
        """Nothing to send. The caller is about to bring more: he need not call for each chunk."""
        if self._recheck is None and not self.parked:
            self._recheck = now + RECHECK
        if self._recheck is not None and now < self._recheck:
            self._due = self._recheck
            return None
        self.parked, self._recheck, self._due = True, None, math.inf
        # Said before the last look, so that he either sees it or is seen.
        return self._audio(now) if self._chunks or self._ended else None

    def _finish(self, now: float) -> str | bytes:
        task_id = self._session.task_id
        assert task_id is not None
        finish = Finish(task_id)
        self._session.sending(finish)
        self.sent_all = True
        self._due = math.inf
        self._be_patient(limit=now + self._limits.finished)
        return encode(finish)

    # -- patience --------------------------------------------------------------------------------------------------

    def _be_patient(self, *, limit: float | None = None, held_until: float | None = None) -> None:
        """With the service until `limit`, with the network until `held_until`; and at most until the deadline."""
        self._limit = self._limit if limit is None else limit
        self._held_until = self._held_until if held_until is None else held_until
        self._patience = min(self._limit, self._held_until, self._deadline)

    def _lose_patience(self, now: float) -> bool:
        """True: it is time for a ping."""
        if now >= self._deadline:
            raise DeadlinePassed
        if now >= self._held_until:
            raise ConnectionLost("TimeoutError while sending")
        if self._session.state is State.STREAMING:
            return self._doubt(now)
        if self._session.state is State.STARTING:
            raise UpstreamSilent(f"no task-started within {self._limits.started:g} s")
        if not self.is_unread:
            raise UpstreamSilent(f"nothing within {self._limits.finished:g} s after finish-task")
        # Nothing is read for a caller who does not read: it is not the service that is silent.
        self._be_patient(limit=now + self._limits.finished)
        return False

    def _doubt(self, now: float) -> bool:
        """Where nobody speaks there is nothing to be said, so that silence proves nothing. One that leaves a ping
        unanswered, too, is gone: the official SDK (2.0.2) goes by the same, after 30 s.

        Each sign of life is but noted, and looked at when the time is over that was counted from an earlier one.
        """
        if self._held_since is not None or self.is_unread:
            self.heard = now  # what the service says cannot come, or is not read
        if self.heard < self._pinged:
            raise UpstreamSilent(f"no answer to a ping within {self._limits.pong:g} s")
        limit = self.heard + self._limits.quiet
        asks = now >= limit
        if asks:
            self._pinged, limit = now, now + self._limits.pong
        self._be_patient(limit=limit)
        return asks

    def _tell(self, news: News) -> None:
        if self._asked and not self._taken:  # who wakes for this may fill up on the way: it saves him the next time
            self._asked = max(self._asked, self.sent_bytes + AHEAD)
        self._told += 1
        self.post(news)
