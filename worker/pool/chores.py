"""What a decision leaves to be done, and the threads that do it."""

import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from worker.pool.entry import Entry, Reason
from worker.pool.ticket import Ticket

T = TypeVar("T")
log = logging.getLogger("worker.pool")


@dataclass(frozen=True, slots=True)
class Open:
    """Open a new entry, after the delay, if it is still wanted then."""

    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Close(Generic[T]):
    entry: Entry[T]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Wake(Generic[T]):
    """Tell the holder of a ticket that it is settled."""

    ticket: Ticket[T]


@dataclass(frozen=True, slots=True)
class Report(Generic[T]):
    """Tell the log who kept an entry for too long."""

    entry: Entry[T]
    seconds: float


@dataclass(frozen=True, slots=True)
class Tend:
    """Look after the entries, after the delay."""

    delay: float


Chore: TypeAlias = Open | Close[T] | Wake[T] | Report[T] | Tend
Item: TypeAlias = tuple[float, int, Chore[Any]]


class Crew:
    """Background threads: some that open, as many that close, and a keeper for the rest, so that slow closes hold up
    neither an open nor the look after what is overdue.

    Knows when each chore is due, not how it is done. Makes no thread before `start`.
    """

    def __init__(self, name: str, openers: int, do: Callable[[Chore[Any]], None], clock: Callable[[], float]) -> None:
        self._do = do
        self._clock = clock
        # Taken bare in `with`: an interrupt inside Condition.__enter__ would leave it taken for ever.
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        self._numbers = itertools.count()  # chores due at once keep their order
        self._opens: list[Item] = []
        self._closes: list[Item] = []
        self._rest: list[Item] = []
        self._roles = {f"{name}-keeper": self._rest}
        for number in range(1, openers + 1):
            self._roles |= {f"{name}-opener-{number}": self._opens, f"{name}-closer-{number}": self._closes}
        self._threads: dict[str, threading.Thread] = {}
        self._stopped = False

    def start(self) -> None:
        """Start the threads that do not run yet: an interrupt half-way is mended by the next call."""
        for name, queue in self._roles.items():
            if name not in self._threads:
                thread = threading.Thread(target=self._work, args=(queue,), name=name, daemon=True)
                thread.start()
                self._threads[name] = thread

    def take(self, chore: Chore[Any]) -> bool:
        """Queue a chore; never blocks. False for what is not for the crew to do: waking, and anything once stopped."""
        if isinstance(chore, Wake):
            return False
        with self._lock:
            if self._stopped:
                return False
            delay = chore.delay if isinstance(chore, Open | Tend) else 0.0
            heapq.heappush(self._queue_of(chore), (self._clock() + delay, next(self._numbers), chore))
            self._ready.notify_all()
        return True

    def stop(self, timeout: float) -> None:
        """Nothing is delayed any more; all threads together work off what is queued, then end. Waits until then."""
        with self._lock:
            self._stopped = True
            self._ready.notify_all()
        deadline = self._clock() + timeout
        for thread in self._threads.values():
            if thread is not threading.current_thread():  # closed from inside a hook
                thread.join(max(0.0, deadline - self._clock()))

    def _queue_of(self, chore: Chore[Any]) -> list[Item]:
        match chore:
            case Open():
                return self._opens
            case Close():
                return self._closes
        return self._rest

    def _work(self, queue: list[Item]) -> None:
        while (chore := self._next(queue)) is not None:
            try:
                self._do(chore)
            except BaseException as exc:  # a dead thread serves nobody; gevent.Timeout is no Exception
                log.error("%s failed: %s", type(chore).__name__, type(exc).__name__)
            chore = None  # while this thread sleeps it must keep nothing alive

    def _next(self, queue: list[Item]) -> Chore[Any] | None:
        with self._lock:
            while not self._stopped:
                pause = queue[0][0] - self._clock() if queue else None
                if pause is not None and pause <= 0:
                    return heapq.heappop(queue)[2]
                self._ready.wait(pause)
            left = self._closes or self._rest or self._opens
            return heapq.heappop(left)[2] if left else None
