"""What a recording is to those who stream it, and when it is too long or not all there."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

from tasks.audio.limits import AudioLimits
from tasks.errors import BadInput

__all__ = ["Bounds", "Recording", "no_such_channel", "not_streamable", "silence", "truncated"]

_SILENCE = 16 * 1024  # bytes


class Recording(Protocol):
    """A recording as mono 16-bit PCM at one rate. Times count from its start, whichever stream begins it."""

    @property
    def duration_ms(self) -> int | None:
        """As the container declares it, None if it does not; for MP3, ADTS and the like an estimate."""

    @property
    def channels(self) -> int:
        """How many the sound track has, whichever of them is heard."""

    def blocks(self, start_ms: int = 0, end_ms: int | None = None) -> Iterator[bytes]:
        """Mono little-endian 16-bit PCM from `start_ms` on, in blocks as they are decoded. To be asked for once.

        What lies beyond `end_ms` is neither judged nor fetched nor decoded, save what a step of decoding takes with it;
        a recording may end before. Raises `BadInput` `damaged_audio`, `truncated_audio`, `audio_too_long`,
        `audio_too_slow`; what reading the source raises comes through as it is.
        """

    def ready(self) -> bytes:
        """The next block, if it can be had without any wait; none where it might need one, and at the end.

        Any thread may ask, as long as nobody else asks or takes a block at that time. Raises what `blocks` raises.
        """


class Bounds:
    """Judges the length of one recording: what is declared against what came, and both against the limits.

    `seconds` is what the container declares; `exact` says that it is a count, so that falling short of it is a loss.
    """

    def __init__(self, shown: str, rate: int, seconds: Fraction | None, limits: AudioLimits, *, exact: bool) -> None:
        self.seconds, self.exact = seconds, exact and seconds is not None
        self._shown, self._rate, self._limits = shown, rate, limits
        self._most = int(limits.max_seconds * rate)

    @property
    def tolerance(self) -> Fraction:
        """Seconds that may be missing at the end."""
        return max(Fraction(1), (self.seconds or Fraction(0)) / 50)

    def check_declared(self) -> None:
        """Raise `audio_too_long` if the declared length says so."""
        # An estimate may be half as long again as the truth; the decoder's count has the last word.
        allowed = self._limits.max_seconds * (1 if self.exact else 1.5)
        if self.seconds is not None and self.seconds > allowed:
            raise self._too_long()

    def check_position(self, samples: int) -> None:
        """Raise `audio_too_long` if so many samples are too many."""
        if samples > self._most:
            raise self._too_long()

    def check_complete(self, samples: int) -> None:
        """Raise `truncated_audio` if the recording ends after so many samples and has lost more than may be."""
        if self.seconds is not None and self.exact and self.seconds - Fraction(samples, self._rate) > self.tolerance:
            raise truncated(self._shown)

    def _too_long(self) -> BadInput:
        hours = self._limits.max_seconds / 3600
        return BadInput("audio_too_long", f"{self._shown} is longer than the {hours:g} hours allowed; split it.")


def silence(samples: int) -> Iterator[bytes]:
    """So many samples of nothing, in blocks."""
    for left in range(samples * 2, 0, -_SILENCE):
        yield bytes(min(_SILENCE, left))


def not_streamable(shown: str) -> BadInput:
    """The error for a container that is read back and forth, from a source that cannot."""
    return BadInput(
        "not_streamable",
        f"{shown} has its index at the end and its server gives no byte ranges; convert it with +faststart or to FLAC.",
    )


def truncated(shown: str) -> BadInput:
    """The error for a recording that is cut."""
    return BadInput(
        "truncated_audio", f"{shown} is cut off: it declares more sound than it holds; upload it again in full."
    )


def no_such_channel(shown: str, channels: int, channel: int) -> BadInput:
    """The error for a channel that is asked for and not there."""
    has = "one channel" if channels == 1 else f"{channels} channels"
    return BadInput("no_such_channel", f"{shown} has {has}, so there is no channel {channel}; they are counted from 0.")
