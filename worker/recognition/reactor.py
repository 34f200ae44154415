"""One thread that moves many flows: a selector of their sockets, a heap of their due moments.

What is due goes first, then what can be read, in slices, so that with thousands of streams a burst of events does not
make audio late. A flow gets one turn at a time, and a turn is short.
"""

import contextlib
import functools
import heapq
import logging
import math
import os
import queue
import selectors
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Final

from worker.recognition.conversation import Conversation, News
from worker.recognition.errors import ConnectionLost
from worker.recognition.flow import Flow

logger = logging.getLogger("worker.recognition")

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE

SLICE: Final = 64
"""Sockets that are looked at between two looks at what is due."""

TICK: Final = 0.01
"""Seconds. What is due waits for the next multiple, so that one awakening serves all streams that are due about then. A
frame of audio lasts ten times as long.
"""

NEAR: Final = 2.0
"""Seconds. What is due later has no tick yet, so that the limits of streams that end before do not pile up."""

SWEEP_EVERY: Final = 1.0
"""Seconds between two looks at all streams for what has come near."""

AWAKE: Final = 8
"""Callers that are woken together. Each thread that waits for the interpreter looks every few milliseconds whether it
may have it: a thousand awake at once leave no time for anything else.
"""

PAUSE: Final = 0.001
"""Seconds that these have before the next are woken."""

NEVER: Final = 2**62

LONGEST_WAIT: Final = 60.0
"""Seconds. A selector takes no infinite number."""


class LetGo(Exception):
    """The last of a conversation's news, when its caller wanted no more."""


class _Seat:
    """A flow's place in the reactor. Its fields are the reactor's thread's alone."""

    __slots__ = ("descriptor", "flow", "interest", "is_hungry", "left", "tick")

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.descriptor = -1
        self.interest = 0
        self.left = False
        self.tick = NEVER
        self.is_hungry = False


class Reactor:
    """Runs in a thread of its own, from `start` until `stop` or its death. Then every flow has been ended.

    `begin`, `prod`, `end` and `stop` may be called from any thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.streams_max = 0
        self.messages = self.audio_bytes = 0  # of the flows that have ended
        self._clock = clock
        self._lock = threading.Lock()  # of `_dead` and of who takes a seat
        self._dead = False
        self._stopping = False
        self._seats: dict[Conversation, _Seat] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._asleep = False
        self._selector = selectors.DefaultSelector()
        # gevent's, asked not to wait, would not let any other greenlet run either.
        self._shortest_wait = 0.0 if self._selector.__module__ == "selectors" else 0.0001
        self._bell, self._ear = socket.socketpair()
        for end in (self._bell, self._ear):
            end.setblocking(False)
        self._selector.register(self._ear, READ, None)
        # Whose turn it is at which tick, and a heap of these ticks: a heap of all seats would cost more with each.
        self._turns: dict[int, list[_Seat]] = {}
        self._ticks: list[int] = []
        self._sweep_at = 0.0
        self._hungry: deque[_Seat] = deque()
        self._mail: deque[tuple[queue.SimpleQueue[News], News]] = deque()
        self._lags = [0.0, 0.0]  # the longest of this half minute and of the one before
        self._lag_turn = 0
        self._runner = threading.Thread(target=self._run, name="io-loop", daemon=True)

    def start(self) -> None:
        self._runner.start()

    def is_alive(self) -> bool:
        return self._runner.is_alive()

    def is_current(self) -> bool:
        """Whether this is the thread that asks."""
        return threading.current_thread() is self._runner

    def discard(self) -> None:
        """Close what a reactor that could not be started has opened."""
        self._bury("it could not be started")

    def stop(self, timeout: float) -> None:
        """End all flows, and the thread; wait for it so long."""
        self._stopping = True
        self._call(lambda: None)
        if not self.is_current():
            self._runner.join(timeout)

    # -- from any thread -------------------------------------------------------------------------------------------

    def begin(self, flow: Flow) -> bool:
        """Own the flow's connection from now on, until its conversation is told its last word. False: too late."""
        seat = _Seat(flow)
        flow.conversation.post = functools.partial(self._post, flow.conversation.news)
        with self._lock:
            if self._dead or not self._runner.is_alive():
                return False
            self._seats[flow.conversation] = seat
            self.streams_max = max(self.streams_max, len(self._seats))
        self._call(lambda: self._admit(seat))
        return True

    def prod(self, conversation: Conversation) -> None:
        """There is something new for this one: audio, or room for its news."""
        seat = self._seats.get(conversation)
        if seat is not None:
            self._call(lambda: self._prodded(seat))

    def end(self, conversation: Conversation) -> bool:
        """Let go of it; LetGo is its last word, unless it has had another. False: there is nothing to let go of."""
        seat = self._seats.get(conversation)
        if seat is None:
            return False
        self._call(lambda: self._release(seat, LetGo()))
        return True

    def flows(self) -> list[Flow]:
        return [seat.flow for seat in list(self._seats.values())]

    def lag(self) -> float:
        """For how many seconds something was overdue at worst, in the last half minute to minute."""
        self._turn_lags(self._clock())
        return max(self._lags)

    def _call(self, act: Callable[[], None]) -> None:
        self._calls.append(act)
        if self._asleep:
            # Full: it has been rung already. Closed: it is dead, and nobody waits for it.
            with contextlib.suppress(OSError):
                self._bell.send(b"!")

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        why = "the process stops"
        _be_no_batch_work()
        try:
            while not self._stopping:
                self._round()
        except BaseException as error:  # whatever it is, nobody else would tell those who wait
            why = f"the I/O loop ended by {type(error).__name__}"
            # Where, and not what: a text may quote a message of the service.
            where = " < ".join(
                f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[::-1]
            )
            logger.error("the I/O loop ended (%s at %s); its streams fail and are tried again", why, where)
        finally:
            self._bury(why)

    def _post(self, box: "queue.SimpleQueue[News]", news: News) -> None:
        self._mail.append((box, news))

    def _deliver(self, most: int = AWAKE) -> None:
        """Wake the callers, some together and right before the wait: awake they compete with this thread for the
        interpreter, each time that it sends.
        """
        woken = 0
        while self._mail and woken < most:
            box, news = self._mail.popleft()
            woken += box.empty()  # else its caller is awake, or about to be
            box.put(news)

    def _round(self) -> None:
        self._deliver()
        self._asleep = True  # said before the last look, so that who calls either is seen or rings
        ready = self._selector.select(self._patience())
        self._asleep = False
        self._answer_calls()
        for _ in range(len(self._hungry)):
            seat = self._hungry.popleft()
            seat.is_hungry = False
            self._turn(seat, 0)
        self._turn_due()
        for at in range(0, len(ready), SLICE):
            for key, mask in ready[at : at + SLICE]:
                if key.data is None:
                    self._listen()
                else:
                    self._turn(key.data, mask)
            self._turn_due()

    def _patience(self) -> float:
        if self._calls or self._hungry:
            return self._shortest_wait
        if not self._seats:
            return PAUSE if self._mail else LONGEST_WAIT
        next_tick = self._ticks[0] * TICK if self._ticks else math.inf
        # At the last sweep whoever had no tick was due in NEAR seconds or later: the next one may wait for a tick.
        last_sweep = self._sweep_at - SWEEP_EVERY
        patience = max(self._shortest_wait, min(next_tick, last_sweep + NEAR) - self._clock())
        return min(PAUSE, patience) if self._mail else patience

    def _answer_calls(self) -> None:
        for _ in range(len(self._calls)):
            self._calls.popleft()()

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(4096)

    def _turn_due(self) -> None:
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY
            for seat in list(self._seats.values()):
                if seat.descriptor >= 0 and not seat.is_hungry:  # else it has not had its first turn, or has one soon
                    self._schedule(seat, now)
        while self._ticks and self._ticks[0] * TICK <= now:
            tick = heapq.heappop(self._ticks)
            self._note_lag(now, now - tick * TICK)
            for seat in self._turns.pop(tick):
                if seat.tick == tick:  # else it was scheduled anew, or has left
                    seat.tick = NEVER
                    self._turn(seat, 0)

    def _turn(self, seat: _Seat, mask: int) -> None:
        if seat.left:  # between the call and now
            return
        flow, conversation = seat.flow, seat.flow.conversation
        try:
            # TLS may have waited for room to write in order to read.
            now = self._clock()
            more = flow.turn(now, mask != 0 and not conversation.is_unread)
            if conversation.over:
                self._release(seat, None)
                return
            if not more:
                self._schedule(seat, now)
            elif not seat.is_hungry:  # it may have had a turn for another reason meanwhile
                seat.is_hungry = True
                self._hungry.append(seat)
            if mask or flow.blocked or seat.interest != READ:
                self._show_interest(seat)
        except Exception as error:  # RecognitionError, or a fault of this flow, which is no other's
            self._release(seat, error)

    def _prodded(self, seat: _Seat) -> None:
        seat.flow.conversation.look()
        self._turn(seat, 0)

    def _schedule(self, seat: _Seat, now: float) -> None:
        due = seat.flow.conversation.due()
        if due > now + NEAR:
            return
        # What is due already, or at any time, has its turn from now on: or a look at what is due would never end.
        tick = math.ceil((due if due > now else now) / TICK)
        if tick < seat.tick:
            seat.tick = tick
            turns = self._turns.get(tick)
            if turns is None:
                self._turns[tick] = [seat]
                heapq.heappush(self._ticks, tick)
            else:
                turns.append(seat)

    def _show_interest(self, seat: _Seat) -> None:
        interest = 0 if seat.flow.conversation.is_unread else READ
        if seat.flow.blocked and seat.flow.transport.is_blocked():
            interest |= WRITE
        if interest != seat.interest:
            self._set_interest(seat, interest)

    def _set_interest(self, seat: _Seat, interest: int) -> None:
        if not seat.interest:
            self._selector.register(seat.descriptor, interest, seat)
        elif not interest:
            self._selector.unregister(seat.descriptor)
        else:
            self._selector.modify(seat.descriptor, interest, seat)
        seat.interest = interest

    def _admit(self, seat: _Seat) -> None:
        seat.descriptor = seat.flow.transport.fileno()
        if seat.descriptor < 0:
            self._release(seat, ConnectionLost("it is closed"))
        else:
            self._turn(seat, 0)

    def _release(self, seat: _Seat, why: Exception | None) -> None:
        """Forget it, and only then tell its caller, whose connection it is again from then on."""
        if seat.left:
            return
        flow = seat.flow
        with contextlib.suppress(KeyError, OSError, ValueError):
            if self._selector.get_map()[seat.descriptor].data is seat:  # else the number is another's by now
                self._selector.unregister(seat.descriptor)
        seat.left, seat.tick = True, NEVER
        with self._lock:
            self._seats.pop(flow.conversation, None)
            self.messages += flow.messages
            self.audio_bytes += flow.conversation.sent_bytes
        flow.conversation.end(why, self._clock())

    def _bury(self, why: str) -> None:
        with self._lock:
            self._dead = True
            seats = list(self._seats.values())
        for seat in seats:
            self._release(seat, ConnectionLost(why))
        self._deliver(len(self._mail))
        self._selector.close()
        self._bell.close()
        self._ear.close()

    def _note_lag(self, now: float, lag: float) -> None:
        self._turn_lags(now)
        self._lags[0] = max(self._lags[0], lag)

    def _turn_lags(self, now: float) -> None:
        turn = int(now / 30)
        if turn != self._lag_turn:
            self._lags[:] = [0.0, self._lags[0] if turn == self._lag_turn + 1 else 0.0]
            self._lag_turn = turn


def _be_no_batch_work() -> None:
    """Let the kernel wake this thread as soon as it has something to do, also where the process's others can wait."""
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a container may forbid it
            if os.sched_getscheduler(0) == os.SCHED_BATCH:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
