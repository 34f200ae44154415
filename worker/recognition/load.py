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
from dataclasses import dataclass
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
class _Bucket:
    number: int  # of its time since the clock's zero
    chunks: int = 0
    late: int = 0
    seconds: float = 0.0
    blocked: float = 0.0
    throttled: int = 0
    most_late: float = 0.0
    most_blocked: float = 0.0


class Load:
    """Counts over the last half minute, for all streams of a process. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: deque[_Bucket] = deque([_Bucket(0)], maxlen=BUCKETS)

    def __repr__(self) -> str:
        return f"<Load limits {', '.join(self.limits()) or 'none'}>"

    def sent(self, *, late: float, blocked: float, elapsed: float) -> None:
        """A chunk that had a due moment was sent, `elapsed` seconds after the one before: for how many seconds this
        process, or the other side, held it up.
        """
        with self._lock:
            bucket = self._bucket()
            bucket.chunks += 1
            bucket.late += late > LATE
            bucket.seconds += elapsed
            bucket.blocked += blocked
            bucket.most_late = max(bucket.most_late, late)
            bucket.most_blocked = max(bucket.most_blocked, blocked)

    def throttled(self) -> None:
        """The service refused a task or a connection because the account has, or begins, too many."""
        with self._lock:
            self._bucket().throttled += 1

    def figures(self) -> dict[str, int | float]:
        """Flat figures of the window: shares from 0 to 1, counts, milliseconds."""
        window = self._window()
        return {
            "late_share": round(window.late / (window.chunks or 1), 4),
            "blocked_share": round(window.blocked / (window.seconds or 1), 4),
            "throttled": window.throttled,
            "late_ms_max": round(1000 * window.most_late),
            "blocked_ms_max": round(1000 * window.most_blocked),
        }

    def limits(self) -> tuple[str, ...]:
        """Which limits are reached: of "quota", "bandwidth" and "cpu" those that hold."""
        window = self._window()
        enough = window.chunks >= LEAST_CHUNKS
        reached = {
            "quota": window.throttled > 0,
            "bandwidth": enough and window.blocked > MOST_BLOCKED * window.seconds,
            "cpu": enough and window.late > MOST_LATE * window.chunks,
        }
        return tuple(limit for limit, holds in reached.items() if holds)

    def _bucket(self) -> _Bucket:
        """The current one. Under the lock, so that no thread comes with a time that is over for another."""
        number = self._number()
        if self._buckets[-1].number != number:
            self._buckets.append(_Bucket(number))
        return self._buckets[-1]

    def _window(self) -> _Bucket:
        with self._lock:
            number = self._number()
            whole = _Bucket(number)
            for bucket in self._buckets:
                if bucket.number > number - BUCKETS:
                    whole.chunks += bucket.chunks
                    whole.late += bucket.late
                    whole.seconds += bucket.seconds
                    whole.blocked += bucket.blocked
                    whole.throttled += bucket.throttled
                    whole.most_late = max(whole.most_late, bucket.most_late)
                    whole.most_blocked = max(whole.most_blocked, bucket.most_blocked)
        return whole

    def _number(self) -> int:
        return int(self._clock() * BUCKETS / WINDOW)
