"""Finds sentences in a stream of samples by loudness. Pure, and the same audio always gives the same cuts.

The speech model has a detector of its own, but its state is shared by all streams of a process: what one stream says
shifts where another one is cut. So the model's detector is off and this one decides.
"""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

__all__ = ["Endpointer", "Samples", "Stretch"]

Samples = NDArray[numpy.int16]

FRAMES_PER_SECOND = 50
PAD_FRAMES = 10  # kept before and after the loud part: weak consonants
END_FRAMES = 20  # so much quiet ends a sentence
MIN_LOUD_FRAMES = 5  # less is a click
MAX_FRAMES = (
    12 * FRAMES_PER_SECOND
)  # longer sentences are cut where it is quietest, as the model is made for short ones
CUT_FRAMES = 4 * FRAMES_PER_SECOND
MIN_THRESHOLD = 60.0
MAX_THRESHOLD = 600.0
LOUDER_THAN_FLOOR = 4.0
FLOOR_RISE = 1.005


@dataclass(frozen=True, slots=True)
class Stretch:
    """Audio that holds a sentence, finished or still open. `begin` and `end` count samples from the stream's start."""

    begin: int
    end: int
    samples: Samples
    is_final: bool


class Endpointer:
    """Takes samples of any amount, gives finished stretches, and the open one on demand."""

    def __init__(self, sample_rate: int) -> None:
        self._frame = sample_rate // FRAMES_PER_SECOND
        self._held: Samples = numpy.empty(0, numpy.int16)
        self._origin = 0  # where `_held` begins, in frames
        self._loudness: list[float] = []  # of each whole frame in `_held`
        self._floor = MIN_THRESHOLD / LOUDER_THAN_FLOOR
        self._loud: list[int] = []  # the loud frames of the open stretch, counted from the stream's start

    def feed(self, samples: Samples) -> list[Stretch]:
        """Take samples; return the stretches that they finished."""
        self._held = numpy.concatenate((self._held, samples))
        return [stretch for frame in self._new_frames() if (stretch := self._step(frame)) is not None]

    def finish(self) -> list[Stretch]:
        """No more samples: the open stretch is finished, if there is one."""
        return [] if (stretch := self._cut(self._next_frame)) is None else [stretch]

    def open_stretch(self) -> Stretch | None:
        """The sentence being spoken, as far as it is known."""
        if len(self._loud) < MIN_LOUD_FRAMES:
            return None
        return self._stretch(self._next_frame, is_final=False)

    @property
    def _next_frame(self) -> int:
        return self._origin + len(self._loudness)

    def _new_frames(self) -> list[float]:
        known = len(self._loudness) * self._frame
        count = (len(self._held) - known) // self._frame
        frames = self._held[known : known + count * self._frame].astype(numpy.float64).reshape(count, self._frame)
        return [float(value) for value in numpy.sqrt((frames**2).mean(axis=1))] if count else []

    def _step(self, loudness: float) -> Stretch | None:
        number = self._next_frame
        self._loudness.append(loudness)
        self._floor = max(1.0, min(loudness, self._floor * FLOOR_RISE))
        if loudness > min(MAX_THRESHOLD, max(MIN_THRESHOLD, self._floor * LOUDER_THAN_FLOOR)):
            self._loud.append(number)
        if not self._loud:
            self._drop_until(self._next_frame - PAD_FRAMES)
            return None
        if number - self._loud[-1] >= END_FRAMES:
            return self._cut(self._loud[-1] + 1 + PAD_FRAMES)
        if self._next_frame - self._first_frame >= MAX_FRAMES:
            return self._cut(self._quietest())
        return None

    @property
    def _first_frame(self) -> int:
        return max(self._origin, self._loud[0] - PAD_FRAMES)

    def _quietest(self) -> int:
        recent = numpy.convolve(self._loudness[-CUT_FRAMES:], numpy.ones(5), "same")
        return self._next_frame - CUT_FRAMES + int(recent.argmin())

    def _cut(self, end: int) -> Stretch | None:
        heard = sum(frame < end for frame in self._loud)
        stretch = self._stretch(end, is_final=True) if heard >= MIN_LOUD_FRAMES else None
        self._loud = self._loud[heard:]
        self._drop_until(end)
        return stretch

    def _stretch(self, end: int, is_final: bool) -> Stretch:
        begin = self._first_frame
        samples = self._held[(begin - self._origin) * self._frame : (end - self._origin) * self._frame]
        return Stretch(begin * self._frame, end * self._frame, samples, is_final)

    def _drop_until(self, frame: int) -> None:
        count = max(0, frame - self._origin)
        self._held = self._held[count * self._frame :]
        del self._loudness[:count]
        self._origin += count
