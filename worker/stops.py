"""How a running job is told to stop, from any thread and in every execution pool alike: by asking.

Nothing is killed. The job looks at its `Stop` wherever it waits and after each finished sentence; a wait that cannot
look is broken off by what the job has said that breaks it off.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from worker.script import Call, Script

CANCELS = Script("""
local found = {}
for i, key in ipairs(KEYS) do if redis.call('EXISTS', key) == 1 then found[#found + 1] = i end end
return found
""")
"""Which of these keys there are. One command for all jobs of a process, each second."""

MOST = 2000
"""Most keys in one command; a process that runs more jobs looks at the others in its next beat."""


class Stopped(Exception):
    """Why a job is to stop. Not an error of the job's."""


class Cancelled(Stopped):
    """Somebody does not want it any more."""


class Drained(Stopped):
    """The worker is about to end, and another one shall go on."""


class Abandoned(Stopped):
    """Another part of the job has failed."""


class LeaseLost(Stopped):
    """Another worker has taken it over."""


class Stop:
    """One job's ear. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bell = threading.Event()  # asked to stop
        self._alarm = threading.Event()  # at once
        self._why: Stopped | None = None
        self._at_once = False
        self._break: Callable[[Exception], None] | None = None
        self._parts: list[Stop] = []

    def __repr__(self) -> str:
        return f"<Stop {type(self._why).__name__ if self._why else 'not asked'}>"

    def ask(self, why: Stopped, *, at_once: bool = True) -> None:
        """Ask the job to stop; not `at_once`: after its next finished sentence. The more urgent has the last word.

        To be asked again and again: a wait that was just about to begin is not broken off by the first time.
        """
        with self._lock:
            if not self._at_once and (at_once or self._why is None):
                self._why, self._at_once = why, at_once
                self._bell.set()
                if at_once:
                    self._alarm.set()
            if self._at_once and self._break is not None and self._why is not None:
                self._break(self._why)
            for part in self._parts:
                part.ask(why, at_once=at_once)

    def shake(self, why: Exception) -> None:
        """Break off the wait under way, if one can be, by this error. The job itself may go on."""
        with self._lock:
            if self._break is not None:
                self._break(why)
            for part in self._parts:
                part.shake(why)

    def check(self) -> None:
        """Raise why the job is to stop, if it is."""
        with self._lock:
            if self._why is not None:
                raise self._why

    def wait(self, seconds: float) -> None:
        """Sleep, unless asked to stop. Raises as `check`."""
        self._bell.wait(seconds)
        self.check()

    def linger(self, seconds: float) -> None:
        """Sleep, unless asked to stop at once: after its last sentence a job has but this to do. Raises as `check`."""
        if self._alarm.wait(seconds):
            self.check()

    @contextmanager
    def breaking(self, act: Callable[[Exception], None]) -> Iterator[None]:
        """While the block lasts, `act` breaks off its wait when the job is asked to stop at once. It must not wait.

        It is never called after the block: the lock makes its end wait for a call under way.
        """
        with self._lock:
            if self._at_once:
                self.check()
            self._break = act
        try:
            yield
        finally:
            with self._lock:
                self._break = None

    @contextmanager
    def heard_by(self, parts: "Sequence[Stop]") -> Iterator[None]:
        """While the block lasts, those who do a part of the job are asked what it is asked."""
        with self._lock:
            self._parts = list(parts)
            if self._why is not None:
                for part in parts:
                    part.ask(self._why, at_once=self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._parts = []


class Stops:
    """The ears of all running jobs of a process, and what its heartbeat asks for them: is the worker ending, is one
    cancelled?

    `draining` says for how many seconds the worker has been ending, None if it is not; `patience` for how many of them
    a job may go on to the end of its sentence.
    """

    def __init__(self, draining: Callable[[], float | None], patience: float) -> None:
        self._draining = draining
        self._patience = patience
        self._lock = threading.Lock()
        self._ears: dict[Stop, str] = {}
        self._asked: list[str] = []
        self._next = 0

    def __repr__(self) -> str:
        return f"<Stops {len(self._ears)} jobs>"

    @contextmanager
    def listening(self, cancel_key: str, stop: Stop) -> Iterator[None]:
        """Ask this job to stop, as long as the block lasts, if the key appears in Redis or the worker ends."""
        with self._lock:
            self._ears[stop] = cancel_key
        try:
            self._drain([stop])
            yield
        finally:
            with self._lock:
                del self._ears[stop]

    def tell(self) -> Call | None:
        """See `worker.beat.Pulse`."""
        with self._lock:
            ears = list(self._ears.items())
        self._drain(stop for stop, _ in ears)
        begin = self._next if self._next < len(ears) else 0
        self._asked = [key for _, key in ears[begin : begin + MOST]]
        self._next = begin + MOST
        return CANCELS.call(self._asked) if self._asked else None

    def told(self, answer: Any) -> None:
        """Those whose key there is are cancelled."""
        found = {self._asked[number - 1] for number in answer}
        with self._lock:
            cancelled = [stop for stop, key in self._ears.items() if key in found]
        for stop in cancelled:
            stop.ask(Cancelled())

    def _drain(self, stops: "Iterator[Stop] | list[Stop]") -> None:
        seconds = self._draining()
        if seconds is not None:
            for stop in stops:
                stop.ask(Drained(), at_once=seconds >= self._patience)
