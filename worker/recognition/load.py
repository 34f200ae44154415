"""What holds a process's streams up: the account's quota, the bandwidth or the CPU.

Any of the three makes every job slower and none of them makes one fail, so it has to be measured. The measure is a
chunk of audio that is due at a certain moment: it is `late` when this process did not get to run in time, and it is
blocked as long as the other side takes no more. A chunk that its source brings too late is neither. Of the late ones
the number counts, of the blocked ones the time: a full buffer empties in large steps, so that few chunks wait long.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

WINDOW: Final = 30.0
"""Seconds that are looked back upon."""

BUCKETS: Final = 6
"""Parts of the window. The oldest is dropped as a whole."""

LATE: Final = 0.05
"""Seconds from which a chunk counts as late: half of the 100 ms that one lasts."""

MOST_LATE: Final = 0.01
MOST_BLOCKED: Final = 0.05
LEAST_CHUNKS: Final = 50
"""A limit is reached above this share of the chunks, or of the streams' time; of fewer chunks no share is told."""


@dataclass(slots=True)
class Strain:
    """What chunks with a due moment met. Gathered by one stream, then added up."""

    chunks: int = 0
    late: int = 0
    seconds: float = 0.0
    blocked: float = 0.0
    most_late: float = 0.0
    most_blocked: float = 0.0

    def sent(self, *, late: float, elapsed: float) -> None:
        """A chunk was sent, `elapsed` seconds after the one before: `late` is how long this process held it up."""
        self.chunks += 1
        self.seconds += elapsed
        if late > self.most_late:
            self.most_late = late
        if late > LATE:
            self.late += 1

    def hold(self, seconds: float) -> None:
        """The other side held a message up for so long."""
        self.blocked += seconds
        self.most_blocked = max(self.most_blocked, seconds)

    def add(self, other: "Strain") -> None:
        self.chunks += other.chunks
        self.late += other.late
        self.seconds += other.seconds
        self.blocked += other.blocked
        self.most_late = max(self.most_late, other.most_late)
        self.most_blocked = max(self.most_blocked, other.most_blocked)


@dataclass(slots=True)
class _Bucket:
    number: int  # of its time since the clock's zero
    throttled: int = 0
    strain: Strain = field(default_factory=Strain)


class Load:
    """Counts over the last half minute, for all streams of a process. Safe to use from any thread.

    `more` are figures of somebody else's that are to be told with them.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, more: Callable[[], dict[str, int | float]] = dict
    ) -> None:
        self._clock = clock
        self._more = more
        self._lock = threading.Lock()
        self._buckets: deque[_Bucket] = deque([_Bucket(0)], maxlen=BUCKETS)

    def __repr__(self) -> str:
        return f"<Load limits {', '.join(self.limits()) or 'none'}>"

    def add(self, strain: Strain) -> None:
        """What a stream met since it told last."""
        with self._lock:
            self._bucket().strain.add(strain)

    def throttled(self) -> None:
        """The service refused a task or a connection because the account has, or begins, too many."""
        with self._lock:
            self._bucket().throttled += 1

    def figures(self) -> dict[str, int | float]:
        """Flat figures of the window: shares from 0 to 1, counts, milliseconds."""
        strain, throttled = self._window()
        return {
            "late_share": round(strain.late / (strain.chunks or 1), 4),
            "blocked_share": round(strain.blocked / (strain.seconds or 1), 4),
            "throttled": throttled,
            "late_ms_max": round(1000 * strain.most_late),
            "blocked_ms_max": round(1000 * strain.most_blocked),
            **self._more(),
        }

    def limits(self) -> tuple[str, ...]:
        """Which limits are reached: of "quota", "bandwidth" and "cpu" those that hold."""
        strain, throttled = self._window()
        enough = strain.chunks >= LEAST_CHUNKS
        reached = {
            "quota": throttled > 0,
            "bandwidth": enough and strain.blocked > MOST_BLOCKED * strain.seconds,
            "cpu": enough and strain.late > MOST_LATE * strain.chunks,
        }
        return tuple(limit for limit, holds in reached.items() if holds)

    def _bucket(self) -> _Bucket:
        """The current one. Under the lock, so that no thread comes with a time that is over for another."""
        number = self._number()
        if self._buckets[-1].number != number:
            self._buckets.append(_Bucket(number))
        return self._buckets[-1]

    def _window(self) -> tuple[Strain, int]:
        whole, throttled = Strain(), 0
        with self._lock:
            number = self._number()
            for bucket in self._buckets:
                if bucket.number > number - BUCKETS:
                    whole.add(bucket.strain)
                    throttled += bucket.throttled
        return whole, throttled

    def _number(self) -> int:
        return int(self._clock() * BUCKETS / WINDOW)
