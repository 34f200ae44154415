"""What a process's heartbeat says for a running job: it is held, it is so far; and what waited for Redis."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from tasks.errors import Unavailable
from tasks.job.checkpoint import Batch, Checkpoint
from tasks.job.lease import GONE, OVER, TAKEN, Lease, fenced
from worker.script import Call
from worker.stops import LeaseLost, Stop

TELL_EVERY = 2.0
"""Seconds between two signs of life of a job that moves."""

SIGNS = 4
"""So many signs fit into a lease: one or two may be lost, or come late."""

SHAKES = 3
"""Times that a stream which stands still is to be ended. Who does not even hear that hangs."""

RENEW = fenced("""
if tonumber(ARGV[4]) > tonumber(redis.call('HGET', KEYS[1], 'progress_ms') or 0) then
    redis.call('HSET', KEYS[1], 'progress_ms', ARGV[4])
end
redis.call('HSET', KEYS[1], 'sent_ms', ARGV[5], 'streams', ARGV[6], 'resumes', ARGV[7],
    'seen_at', redis.call('TIME')[1])
""")
"""Renews the lease and tells the job's figures. The place in the recording never goes back, though a stream may."""


class Figures(Protocol):
    """How far a job is, by shape: its meter. Asked in the heartbeat's thread."""

    @property
    def heard(self) -> int: ...
    @property
    def streams(self) -> int: ...
    @property
    def resumes(self) -> int: ...
    @property
    def ms(self) -> int: ...
    @property
    def sent_ms(self) -> int: ...
    @property
    def is_streaming(self) -> bool: ...


class JobPulse:
    """One attempt's. It falls silent if the job hangs, or should long be over: so that another worker can have it."""

    def __init__(
        self,
        lease: Lease,
        checkpoint: Checkpoint,
        figures: Figures,
        stop: Stop,
        *,
        stall: float,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease = lease
        self._checkpoint = checkpoint
        self._figures = figures
        self._stop = stop
        self._stall = stall
        self._last = deadline + stall
        self._clock = clock
        self._batch: Batch | None = None
        self._telling: tuple[int, ...] = ()
        self._told: tuple[int, ...] = ()
        self._told_at = self._moved_at = clock()
        self._seen: tuple[int, ...] = ()
        self._shaken = 0

    def tell(self) -> Call | None:
        """See `worker.beat.Pulse`."""
        now = self._clock()
        self._watch(now)
        if now > self._last or self._shaken >= SHAKES:
            return None
        self._batch = self._checkpoint.next() if self._checkpoint.is_late else None
        if self._batch is not None:
            return self._batch.call
        figures = self._figures
        self._telling = (figures.ms, figures.sent_ms, figures.streams, figures.resumes)
        wait = self._lease.seconds / SIGNS
        if now - self._told_at < (wait if self._telling == self._told else min(TELL_EVERY, wait)):
            return None
        return self._lease.call(RENEW, *self._telling)

    def told(self, answer: Any) -> None:
        """Redis has it, or says why not."""
        self._told_at = self._clock()
        if answer in (TAKEN, OVER):
            self._stop.ask(LeaseLost())
        elif answer == GONE:
            self._checkpoint.is_late = False  # the job's own thread shall write, and find out
        elif self._batch is not None:
            self._checkpoint.saved(self._batch)
        else:
            self._told = self._telling
            self._checkpoint.reached()

    def _watch(self, now: float) -> None:
        """A stream that neither sends nor hears is ended, so that another may begin."""
        figures = self._figures
        seen = (figures.sent_ms, figures.heard, figures.streams)
        if seen != self._seen or not figures.is_streaming:
            self._seen, self._moved_at, self._shaken = seen, now, 0
        elif now - self._moved_at > self._stall * (self._shaken + 1):
            self._shaken += 1
            why = f"Nothing was sent or heard for {self._stall:g} s; the job goes on over another connection."
            self._stop.shake(Unavailable("stalled", why))
