"""The threads that do a pool's chores."""

import collections
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from worker.pool.chores import Chore, Close, Open

log = logging.getLogger("worker.pool")

LOOK_UP_EVERY = 15.0  # an interrupt can strike between the queueing of a chore and the call
LEAST_PAUSE = 0.001
AFTER_FAILURE = 1.0

Queue: TypeAlias = collections.deque[Chore[Any]]


class Crew:
    """Background threads: some that open, as many that close, so that slow closes hold up no open, and a keeper.

    The keeper calls `look` again and again; it returns how many seconds it can wait. Knows not how a chore is done.
    Makes no thread before `start`.
    """

    def __init__(self, name: str, do: Callable[[Chore[Any]], None], look: Callable[[], float]) -> None:
        self._name = name
        self._do = do
        self._look = look
        # Taken bare in `with`: an interrupt inside Condition.__enter__ would leave it taken for ever.
        self._lock = threading.RLock()
        self._opens: Queue = collections.deque()
        self._closes: Queue = collections.deque()
        # One each: a chore wakes one thread that can do it, and not all.
        self._wanted = {id(queue): threading.Condition(self._lock) for queue in (self._opens, self._closes)}
        self._look_wanted = threading.Condition(self._lock)
        self._threads: dict[str, threading.Thread] = {}
        self._hurried = False
        self._stopped = False

    def start(self, openers: int) -> None:
        """Start the threads that do not run yet: an interrupt half-way is mended by the next call."""
        self._hire("keeper", self._keep)
        for number in range(1, openers + 1):
            self._hire(f"opener-{number}", self._work, self._opens)
            self._hire(f"closer-{number}", self._work, self._closes)

    def take(self, chore: Chore[Any]) -> bool:
        """Queue a chore; never blocks. False for what is not for the crew to do: waking, and anything once stopped."""
        with self._lock:
            if self._stopped or not isinstance(chore, Open | Close):
                return False
            queue = self._opens if isinstance(chore, Open) else self._closes
            queue.append(chore)
            self._wanted[id(queue)].notify()
        return True

    def hurry(self) -> None:
        """The keeper is wanted now; never blocks."""
        with self._lock:
            self._hurried = True
            self._look_wanted.notify()

    def stop(self, timeout: float) -> None:
        """All threads together work off what is queued, then end. Waits for that up to `timeout` seconds."""
        with self._lock:
            self._stopped = True
            for wanted in (*self._wanted.values(), self._look_wanted):
                wanted.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads.values():
            # Not one that could not be started, nor oneself: closed from inside a hook.
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _hire(self, role: str, work: Callable[..., None], *args: Queue) -> None:
        if role not in self._threads:
            self._threads[role] = threading.Thread(target=work, args=args, name=f"{self._name}-{role}", daemon=True)
        if self._threads[role].ident is None:
            self._threads[role].start()

    def _work(self, queue: Queue) -> None:
        while (chore := self._next(queue)) is not None:
            self._safely(partial(self._do, chore))
            chore = None  # while this thread sleeps it must keep nothing alive

    def _next(self, queue: Queue) -> Chore[Any] | None:
        with self._lock:
            while not self._stopped:
                if queue:
                    return queue.popleft()
                self._wanted[id(queue)].wait(LOOK_UP_EVERY)
            left = self._closes or self._opens
            return left.popleft() if left else None

    def _keep(self) -> None:
        while not self._stopped:
            pause = self._safely(self._look)
            with self._lock:
                if not self._hurried and not self._stopped:
                    self._look_wanted.wait(AFTER_FAILURE if pause is None else max(pause, LEAST_PAUSE))
                self._hurried = False

    def _safely(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except BaseException as exc:  # a dead thread serves nobody; gevent.Timeout is no Exception
            log.error("%s: a chore failed: %s", self._name, type(exc).__name__)
            return None
