"""Measures a job: how much audio it has sent, and how long each part took."""

import time
from collections.abc import Callable, Iterable, Iterator

from worker.recognition import Chunk

REPORT_EVERY = 1.0
"""Seconds between two reports of progress: one small write to Redis a second for each stream."""

BYTES_PER_SAMPLE = 2


class Meter:
    """Counts the audio that was taken from it and reports it now and then."""

    def __init__(self, rate: int, report: Callable[[int], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_second = rate * BYTES_PER_SAMPLE
        self._report = report
        self._clock = clock
        self._bytes = 0
        self._reported = clock()
        self.complete = False
        """Whether all of the audio was sent."""

    @property
    def ms(self) -> int:
        """Milliseconds of audio that were sent."""
        return round(1000 * self._bytes / self._bytes_per_second)

    def measured(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The same chunks. One counts when the next is asked for: it was sent by then."""
        for chunk in chunks:
            yield chunk
            self._bytes += len(chunk.data)
            if self._clock() - self._reported >= REPORT_EVERY:
                self._reported = self._clock()
                self._report(self.ms)
        self.complete = True


class Stopwatch:
    """Notes when each step of a job was reached, the first time."""

    def __init__(
        self,
        queued_at: float | None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._begun = clock()
        self._reached: dict[str, float] = {}
        # The sender's clock and ours may differ; a wait is never negative.
        self._queued_ms = None if queued_at is None else max(0, round(1000 * (wall() - queued_at)))

    def reach(self, step: str) -> None:
        """Note a step: `opened` (the audio), `leased` (a recogniser), `heard` (the first text)."""
        self._reached.setdefault(step, self._clock())

    def timing(self) -> dict[str, int | None]:
        """Milliseconds for each part of the job; None for what did not happen or is not known."""
        return {
            "queued_ms": self._queued_ms,
            "borrow_ms": self._between("opened", "leased"),
            "first_result_ms": self._between(None, "heard"),
            "wall_ms": round(1000 * (self._clock() - self._begun)),
        }

    def _between(self, first: str | None, second: str) -> int | None:
        if second not in self._reached:
            return None
        return round(1000 * (self._reached[second] - (self._reached[first] if first else self._begun)))
