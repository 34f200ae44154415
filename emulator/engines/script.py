"""An engine without a model: what it says follows from the audio alone, so that a test can work out the transcript.

Each `sentence_ms` of audio is a sentence, announced by a partial at its half. A sentence whose samples count up by one
(modulo 65536) reads "FIRST-LAST", so lost, doubled or disordered audio shows in the text; other audio reads as the
eight hexadecimal digits of its CRC-32. A stretch of zeros is silence and says nothing.
"""

import zlib

from emulator.audio import counter_range
from emulator.engines import EngineStream, Result, Word, spread

__all__ = ["ScriptEngine"]


class ScriptEngine:
    """See the module. `sentence_ms` is the length of a sentence in milliseconds of audio."""

    name = "script"
    blocking = False

    def __init__(self, sentence_ms: int = 1000) -> None:
        if sentence_ms < 2:
            raise ValueError(f"sentence_ms={sentence_ms} must be at least 2")
        self._sentence_ms = sentence_ms

    def open(self, sample_rate: int) -> EngineStream:
        return ScriptStream(self._sentence_ms, sample_rate)


class ScriptStream:
    """The sentences of one task."""

    def __init__(self, sentence_ms: int, sample_rate: int) -> None:
        self._sentence_ms = sentence_ms
        self._rate = sample_rate
        self._size = sentence_ms * sample_rate // 1000 * 2
        self._half = self._size // 4 * 2
        self._held = bytearray()
        self._begin_ms = 0
        self._told_half = False

    def feed(self, pcm: bytes) -> list[Result]:
        self._held += pcm
        results: list[Result] = []
        while len(self._held) >= self._size:
            results += self._partial() + self._final(self._size, self._sentence_ms)
        return results + self._partial()

    def finish(self) -> list[Result]:
        if not self._held:
            return []
        # At least one millisecond: a sentence must end after it begins.
        return self._final(len(self._held), max(1, len(self._held) * 500 // self._rate))

    def _partial(self) -> list[Result]:
        if self._told_half or len(self._held) < self._half:
            return []
        self._told_half = True
        half_ms = self._begin_ms + self._sentence_ms // 2
        return [
            Result(self._begin_ms, None, text, _words(text, self._begin_ms, half_ms))
            for text in _reading(bytes(self._held[: self._half]))
        ]

    def _final(self, size: int, length_ms: int) -> list[Result]:
        stretch, begin, end = bytes(self._held[:size]), self._begin_ms, self._begin_ms + length_ms
        del self._held[:size]
        self._begin_ms, self._told_half = end, False
        return [Result(begin, end, text, _words(text, begin, end)) for text in _reading(stretch)]


def _reading(stretch: bytes) -> list[str]:
    """The text of a stretch: one, or none when it is silent."""
    if not any(stretch):
        return []
    found = counter_range(stretch)
    return [f"{found[0]}-{found[1]}" if found else f"{zlib.crc32(stretch):08x}"]


def _words(text: str, begin_ms: int, end_ms: int) -> tuple[Word, ...]:
    pieces = [(piece, "") for piece in text.split("-")]
    return spread(pieces, begin_ms, end_ms, [1] * len(pieces))
