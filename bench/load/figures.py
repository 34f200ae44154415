"""What the load server has seen since its last reset. All is bounded: lateness is kept as a histogram."""

import math
import time
from collections.abc import Callable

from bench.load.script import BYTES_PER_SECOND

BUCKETS = 10_000  # of a millisecond each; the last one has no end
EARLY = 0.005  # seconds before it is due that a frame may come without being called early


class Figures:
    """Counters that a reset sets to zero, and two gauges, `streams` and `connections`, that it leaves."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, cpu_clock: Callable[[], float] = time.process_time
    ) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self.streams = self.connections = 0
        self.reset()

    def __repr__(self) -> str:
        return f"<Figures streams {self.streams}, connections {self.connections}, frames {self.frames}>"

    def reset(self) -> None:
        """Count anew."""
        self._since, self._cpu_since = self._clock(), self._cpu_clock()
        self._late = [0] * BUCKETS
        self._latest = 0.0
        self.streams_max = self.streams
        self.frames = self.audio_bytes = self.events = self.first_events = self.early_frames = 0
        self.accepted = self.tasks_started = self.tasks_finished = self.errors = 0

    def judge(self, late: float, size: int) -> None:
        """Count a frame of audio that came so many seconds after it was due."""
        self.frames += 1
        self.audio_bytes += size
        if late > self._latest:
            self._latest = late
        if late < 0:
            self._late[0] += 1
            if late < -EARLY:
                self.early_frames += 1
        elif late < BUCKETS / 1000:
            self._late[int(1000 * late)] += 1
        else:
            self._late[-1] += 1

    def stream_begins(self) -> None:
        """A task has been started."""
        self.tasks_started += 1
        self.streams += 1
        self.streams_max = max(self.streams, self.streams_max)

    def report(self) -> dict[str, float]:
        """All of it under plain names. Lateness in milliseconds, rounded up to whole ones but for the maximum."""
        return {
            "seconds": self._clock() - self._since,
            "cpu_seconds": self._cpu_clock() - self._cpu_since,
            "frames": self.frames,
            "audio_seconds": self.audio_bytes / BYTES_PER_SECOND,
            "events": self.events,
            "first_events": self.first_events,
            "streams": self.streams,
            "streams_max": self.streams_max,
            "connections": self.connections,
            "accepted": self.accepted,
            "tasks_started": self.tasks_started,
            "tasks_finished": self.tasks_finished,
            "errors": self.errors,
            "late_ms_p50": self._quantile(0.50),
            "late_ms_p99": self._quantile(0.99),
            "late_ms_max": round(1000 * self._latest, 3),
            "early_frames": self.early_frames,
        }

    def _quantile(self, part: float) -> float:
        """The end of the bucket that this part of the frames reaches."""
        rank, seen = math.ceil(part * self.frames), 0
        if not rank:
            return 0.0
        for bucket, count in enumerate(self._late[:-1]):
            seen += count
            if seen >= rank:
                return float(bucket + 1)
        return 1000 * self._latest
