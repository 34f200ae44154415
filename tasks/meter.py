"""Measures a job: how much audio was sent, and how long each part took."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

BYTES_PER_SAMPLE = 2


class Sender(Protocol):
    """Who counts the bytes of audio that it has sent: a recogniser."""

    @property
    def sent_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sent:
    """A count that does not change any more."""

    sent_bytes: int = 0


class Meter:
    """Says how far a job is and what was sent for it, over all its streams. Any thread may ask.

    `sent_ms`, `streams` and `resumes` are what earlier attempts left.
    """

    def __init__(self, rate: int, *, sent_ms: int = 0, streams: int = 0, resumes: int = 0) -> None:
        self.streams = streams
        self.resumes = resumes
        self.heard = 0
        """Events of the service."""
        self._bytes_per_second = rate * BYTES_PER_SAMPLE
        self._before_ms = sent_ms
        self._begin_ms = 0
        self._sender: Sender = Sent()

    @property
    def ms(self) -> int:
        """The place in the recording up to which it was sent, in milliseconds."""
        return self._begin_ms + self._stream_ms()

    @property
    def sent_ms(self) -> int:
        """Milliseconds of audio that were sent, what was sent again included."""
        return self._before_ms + self._stream_ms()

    @property
    def is_streaming(self) -> bool:
        """Whether a stream is under way."""
        return not isinstance(self._sender, Sent)

    def seek(self, begin_ms: int) -> None:
        """The next stream begins at this place of the recording."""
        self._before_ms, self._begin_ms, self._sender = self.sent_ms, begin_ms, Sent()

    def begin(self, sender: Sender) -> None:
        """Read from this sender, which has begun with the stream's audio."""
        self._sender = sender
        self.streams += 1

    def end(self) -> None:
        """Keep what was sent; the sender is given back."""
        self._sender = Sent(self._sender.sent_bytes)

    def _stream_ms(self) -> int:
        sender = self._sender
        sent = sender.sent_bytes
        if self._sender is not sender:  # given back while we read, it may have counted for another job
            sent = self._sender.sent_bytes
        return round(1000 * sent / self._bytes_per_second)


class Meters:
    """What the meters of a job say together: one for each channel that is streamed on its own, else one. Any thread
    may ask.
    """

    def __init__(self, first: Meter) -> None:
        self._each = [first]

    def add(self, meter: Meter) -> None:
        self._each.append(meter)

    @property
    def ms(self) -> int:
        """How far the job is: the mean of the places."""
        return sum(meter.ms for meter in self._each) // len(self._each)

    @property
    def furthest_ms(self) -> int:
        """The last place in the recording that was sent."""
        return max(meter.ms for meter in self._each)

    def audio_ms(self, begin_ms: int) -> int:
        """Milliseconds of audio from this place on, each channel's that is streamed on its own."""
        return sum(max(0, meter.ms - begin_ms) for meter in self._each)

    @property
    def sent_ms(self) -> int:
        return sum(meter.sent_ms for meter in self._each)

    @property
    def streams(self) -> int:
        return sum(meter.streams for meter in self._each)

    @property
    def resumes(self) -> int:
        return sum(meter.resumes for meter in self._each)

    @property
    def heard(self) -> int:
        return sum(meter.heard for meter in self._each)

    @property
    def is_streaming(self) -> bool:
        return any(meter.is_streaming for meter in self._each)


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
