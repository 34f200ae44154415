"""Silence where a recording says that time passed without sound. Pure.

A muted track, a paused recorder or speech sent only while somebody speaks leave a hole in a container's times. Leaving
it out would make every later sentence early.
"""

from collections.abc import Iterable, Iterator

from av.audio.frame import AudioFrame

__all__ = ["TIMED", "filled"]

TIMED = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "flv", "mpegts", "ogg", "asf"}
"""Formats whose packets carry their own times; elsewhere times are counted from the samples anyway."""

_SMALLEST = 0.1
"""Seconds. Less is rounding of the container's clock."""

_LONGEST = 600.0
"""Seconds of a hole that are believed where no length is declared."""


def filled(sounds: Iterable[AudioFrame | int], rate: int, end: float | None) -> Iterator[AudioFrame | int]:
    """The same sounds, and a number of samples (at `rate`) of silence in each hole between them.

    `end` is when the recording ends by its own account, in its own times, None if it does not say. A time beyond it is
    a broken clock and no hole: filling it would cost hours of silence.
    """
    expected: float | None = None
    for sound in sounds:
        if isinstance(sound, int):
            expected = None if expected is None else expected + sound / rate
            yield sound
            continue
        time = None if sound.pts is None or sound.time_base is None else float(sound.pts * sound.time_base)
        if time is not None and expected is not None:
            hole = time - expected
            if hole > _SMALLEST and (time <= end + 1 if end is not None else hole <= _LONGEST):
                yield round(hole * rate)
                expected = time
        expected = time if expected is None else expected
        # Before the frame is handed on: who gets it may change it.
        expected = None if expected is None else expected + sound.samples / sound.sample_rate
        yield sound
