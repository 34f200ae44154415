"""Silence where a recording says that time passed without sound. Pure.

A muted track, a paused recorder or speech sent only while somebody speaks leave a hole in a container's times. Leaving
it out would make every later sentence early.
"""

from collections.abc import Iterable, Iterator

from av.audio.frame import AudioFrame

__all__ = ["Gaps", "LONGEST", "TIMED"]

TIMED = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "flv", "mpegts", "ogg", "asf"}
"""Formats whose packets carry their own times; elsewhere times are counted from the samples anyway."""

_SMALLEST = 0.1
"""Seconds. Less is rounding of the container's clock."""

LONGEST = 600.0
"""Seconds of a hole, or of silence at the start, that are believed where no length is declared."""


class Gaps:
    """Finds the holes of one recording and fills them with silence, at `rate` samples per second.

    `end` is when the recording ends by its own account, in its own times, None if it does not say. A time beyond it is
    a broken clock and no hole: filling it would cost hours of silence.
    """

    def __init__(self, rate: int, end: float | None) -> None:
        self._rate, self._end = rate, end
        self._expected: float | None = None  # when the next sound should begin

    def filled(self, sounds: Iterable[AudioFrame | int]) -> Iterator[AudioFrame | int]:
        """The same sounds, the next ones of the recording, and a number of samples of silence in each hole."""
        for sound in sounds:
            if isinstance(sound, int):
                self._pass(sound / self._rate)
                yield sound
                continue
            time = sound.time
            if time is not None:
                if self._expected is None:
                    self._expected = time
                elif self._is_hole(time - self._expected, time):
                    yield round((time - self._expected) * self._rate)
                    self._expected = time
            # Before the frame is handed on: who gets it may change it.
            self._pass(sound.samples / sound.sample_rate)
            yield sound

    def _is_hole(self, seconds: float, time: float) -> bool:
        return seconds > _SMALLEST and (time <= self._end + 1 if self._end is not None else seconds <= LONGEST)

    def _pass(self, seconds: float) -> None:
        if self._expected is not None:
            self._expected += seconds
