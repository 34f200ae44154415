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
        self._begin = self._position = 0  # bytes of the samples: from where they are wanted, and the next to be read
        self._end = samples.size  # up to where they are wanted
        self._half = b""
        self.duration_ms = None if seconds is None else round(seconds * 1000)

    def __repr__(self) -> str:
        return f"<Recording wav, pcm_s16le, {self.duration_ms} ms>"

    @property
    def channels(self) -> int:
        return 1

    def blocks(self, start_ms: int = 0, end_ms: int | None = None) -> Iterator[bytes]:
        """See `Recording.blocks`."""
        self._begin = self._at(start_ms)
        self._end = self._samples.size if end_ms is None else max(self._begin, self._at(end_ms))
        self._position = self._go_near(self._begin)
        return self._rest()

    def ready(self) -> bytes:
        """See `Recording.ready`."""
        block = self._tap.ready(self._wanted())
        return self._whole(block) if block else b""

    def _at(self, ms: int) -> int:
        return min(ms * self._rate // 1000 * 2, self._samples.size)

    def _rest(self) -> Iterator[bytes]:
        while wanted := self._wanted():
            block = self._tap.read(wanted)
            self._tap.check()
            if not block:
                self._bounds.check_complete(self._position // 2)
                return
            whole = self._whole(block)
            if whole or self._position <= self._begin:  # empty on the way there, so that whoever waits can look up
                yield whole

    def _wanted(self) -> int:
        """Bytes up to the end of a block, however short the source's answers are: so that chunks are seldom joined."""
        to_end = _BLOCK - (self._position - self._begin) % _BLOCK
        return min(to_end, self._end - self._position)

    def _whole(self, block: bytes) -> bytes:
        """What is wanted of the next bytes, in whole samples: a source may give the half of one."""
        kept = self._half + block[max(0, self._begin - self._position) :]
        self._position += len(block)
        self._bounds.check_position(self._position // 2)
        whole = len(kept) // 2 * 2
        self._half = kept[whole:]
        return kept[:whole]

    def _go_near(self, begin: int) -> int:
        """Bring the reader to this byte of the samples, or to the first where there is no seeking."""
        self._tap.read_once()
        if self._tap.seekable():
            self._tap.seek(self._samples.offset + begin)
            return begin
        self._tap.read(self._samples.offset)  # was looked at, so the tap has it
        return 0
