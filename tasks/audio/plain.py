"""A recording that needs no decoder: its samples are read straight from the file."""

from collections.abc import Iterator
from fractions import Fraction

from tasks.audio.limits import AudioLimits
from tasks.audio.recording import Bounds
from tasks.audio.riff import Samples
from tasks.audio.tap import Tap

__all__ = ["PlainRecording"]

# A fraction of a second for one read of the disk, because each of thousands of streams holds one; a whole number of
# chunks, at either pace, at 8 and at 16 kHz.
_BLOCK = 12_800


class PlainRecording:
    """A `Recording` of mono 16-bit PCM at the wanted rate. Knows no container and holds no decoder."""

    def __init__(self, tap: Tap, samples: Samples, *, shown: str, rate: int, limits: AudioLimits) -> None:
        self._tap, self._samples, self._rate = tap, samples, rate
        # Without a way to look at the end nobody vouches for the length: FFmpeg does not declare one then either.
        seconds = Fraction(samples.size // 2, rate) if tap.seekable() else None
        self._bounds = Bounds(shown, rate, seconds, limits, exact=True)
        self._bounds.check_declared()
        self.duration_ms = None if seconds is None else round(seconds * 1000)

    def __repr__(self) -> str:
        return f"<Recording wav, pcm_s16le, {self.duration_ms} ms>"

    def blocks(self, start_ms: int = 0) -> Iterator[bytes]:
        """See `Recording.blocks`."""
        begin = min(start_ms * self._rate // 1000 * 2, self._samples.size)
        position = self._go_near(begin)
        half = b""  # a sample of which the source gave only the first byte so far
        while position < self._samples.size:
            # Up to the end of a block, however short the source's answers are: so that chunks are seldom joined.
            to_end = _BLOCK - (position - begin) % _BLOCK
            block = self._read(min(to_end, self._samples.size - position))
            if not block:
                break
            kept = half + block[max(0, begin - position) :]
            position += len(block)
            self._bounds.check_position(position // 2)
            whole = len(kept) // 2 * 2
            kept, half = kept[:whole], kept[whole:]
            if kept:
                yield kept
        self._bounds.check_complete(position // 2)

    def _go_near(self, begin: int) -> int:
        """Bring the reader to this byte of the samples, or to the first where there is no seeking."""
        self._tap.read_once()
        if self._tap.seekable():
            self._tap.seek(self._samples.offset + begin)
            return begin
        self._read(self._samples.offset)  # was looked at, so the tap has it
        return 0

    def _read(self, size: int) -> bytes:
        data = self._tap.read(size)
        self._tap.check()
        return data
