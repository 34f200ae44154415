"""A process's heartbeat: what it and its jobs have to tell Redis again and again, every second in one round trip.

It has a thread and a connection of its own. No job waits for it, and when Redis is slow or away no job fails with it.
"""

import itertools
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from worker.script import Call, Script

BEAT_EVERY = 1.0
"""Seconds between two beats."""

TURN = 400
"""Most calls in a beat. When more have something to tell they take turns: 2,000 jobs are heard every five seconds."""

PATIENCE = 1.0
"""Seconds for connecting, and for each answer of Redis."""

log = logging.getLogger("worker.beat")

Told = list[tuple["Pulse", Call]]
"""Who tells what in a beat."""


class Pulse(Protocol):
    """What a heartbeat carries. It is asked in the heartbeat's thread, and never waits."""

    def tell(self) -> Call | None:
        """What Redis shall run now; None: there is nothing new."""
        ...

    def told(self, answer: Any) -> None:
        """Redis ran it, and this is its answer. If it did not, `tell` is simply asked again."""
        ...


def impatient(url: str, patience: float = PATIENCE) -> redis.Redis:
    """A client that fails soon and never tries twice. It connects when it is used."""
    return redis.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=patience, socket_connect_timeout=patience
    )


class Beat:
    """Asks its pulses from the first one on until it is stopped. Knows no job and no pool."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        # One that its own thread may take again: a `follow` that is finalised may be so in the midst of anything.
        self._lock = threading.RLock()
        self._carried: list[Pulse] = []
        self._followed: OrderedDict[int, Pulse] = OrderedDict()
        self._known: set[Script] = set()
        self._faults: list[Exception] = []
        self._well = self._answered = True
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Beat carried {len(self._carried)}, followed {len(self._followed)}>"

    def carry(self, pulse: Pulse) -> None:
        """Ask this pulse at every beat, before the others, and a last time when the heartbeat stops. Twice is once."""
        with self._lock:
            if pulse not in self._carried:
                self._carried.append(pulse)
            self._start()

    @contextmanager
    def follow(self, pulse: Pulse) -> Iterator[None]:
        """Ask this pulse, in its turn, as long as the block lasts. What it told last may still be on its way after."""
        try:
            with self._lock:
                self._followed[id(pulse)] = pulse
                self._start()
            yield
        finally:
            with self._lock:
                self._followed.pop(id(pulse), None)

    def stop(self) -> None:
        """Beat a last time for those carried, in the background, and then no more."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        """Wait until it has stopped. If Redis is slow the process goes without it: what was told expires."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _start(self) -> None:
        if self._thread is None and not self._stopped.is_set():
            self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                pulses = [*self._carried, *self._followed.values()]
            self._beat(pulses)
            if self._stopped.wait(BEAT_EVERY):
                break
        if self._answered:  # else it has been away: it would only hold up the stop
            self._beat(list(self._carried))
        self._redis.close()

    def _beat(self, pulses: Iterable[Pulse]) -> None:
        self._faults = []
        told = list(itertools.islice(self._asked(pulses), TURN))
        if told:
            self._try(told)
            self._next_turn(told)
        if told or self._faults:
            self._judge()

    def _asked(self, pulses: Iterable[Pulse]) -> Iterator[tuple[Pulse, Call]]:
        """Those that have something to tell. A fault of one does not silence the others."""
        for pulse in pulses:
            try:
                call = pulse.tell()
            except Exception as error:
                self._faults.append(error)
            else:
                if call is not None:
                    yield pulse, call

    def _try(self, told: Told) -> None:
        try:
            self._send(told)
        except Exception as error:  # whatever goes wrong, the thread goes on
            self._faults.append(error)
            self._answered = False
        else:
            self._answered = True

    def _send(self, told: Told) -> None:
        unheard = self._heard(told)
        if unheard:  # Redis was started anew and has lost the scripts; what is to be renewed does not wait for a beat
            self._known -= {call.script for _, call in unheard}
            self._heard(unheard)

    def _heard(self, told: Told) -> Told:
        """Send these, with the scripts that Redis is not known to have. Returns those that it had none for."""
        new = {call.script for _, call in told} - self._known
        pipeline: Any = self._redis.pipeline(transaction=False)
        with pipeline:
            for script in new:
                pipeline.execute_command("SCRIPT LOAD", script.text)
            for _, call in told:
                pipeline.execute_command(*call.words)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        self._known |= new
        self._faults += [answer for answer in answers[: len(new)] if isinstance(answer, Exception)]
        pairs = list(zip(told, answers[len(new) :], strict=True))
        for (pulse, _), answer in pairs:
            self._hear(pulse, answer)
        return [one for one, answer in pairs if isinstance(answer, NoScriptError)]

    def _hear(self, pulse: Pulse, answer: Any) -> None:
        if isinstance(answer, NoScriptError):
            return
        if isinstance(answer, Exception):
            self._faults.append(answer)
            return
        try:
            pulse.told(answer)
        except Exception as error:
            self._faults.append(error)

    def _next_turn(self, told: Told) -> None:
        with self._lock:
            for pulse, _ in told:
                if id(pulse) in self._followed:
                    self._followed.move_to_end(id(pulse))

    def _judge(self) -> None:
        """A fault is told once, and its end once."""
        if self._faults and self._well:
            kind = type(self._faults[0]).__name__
            log.warning("the heartbeat does not reach Redis as a whole (%s); trying on", kind)
        elif not self._faults and not self._well:
            log.info("the heartbeat reaches Redis again")
        self._well = not self._faults
