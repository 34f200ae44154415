"""Real English speech, recognised by the small model that the package moonshine-voice carries in its wheel."""

import re
import threading

import numpy
from moonshine_voice import ModelArch, Transcriber, get_assets_path

from emulator.engines import EngineStream, Result, Word, spread
from emulator.engines.endpoint import Endpointer, Samples, Stretch

__all__ = ["MoonshineEngine"]

MODEL = "tiny-en"
OPTIONS = {
    "vad_threshold": "0.0",  # its detector is off, see endpoint.py
    "return_audio_data": "false",  # else each answer copies its audio into a Python list
}
PARTIAL_MS = 500.0
# Each partial hears its sentence from the beginning: in long ones they come less often, to bound the work.
PARTIAL_GROWTH = 0.2
PUNCTUATION = re.compile(r"^(.*?)([.,!?;:…\"]*)$")


class MoonshineEngine:
    """Loads the model once; raises OSError or ImportError when the package does not hold it."""

    name = "moonshine"
    blocking = True

    def __init__(self) -> None:
        path = get_assets_path() / MODEL
        if not path.is_dir():
            raise FileNotFoundError(f"no model in {path}")
        self._model = Transcriber(str(path), ModelArch.TINY, options=OPTIONS)
        # Two calls at once on one model write into each other's text. A call keeps all cores busy by itself, so a
        # model for each thread would cost memory and win nothing.
        self._lock = threading.Lock()

    def open(self, sample_rate: int) -> EngineStream:
        return MoonshineStream(self, sample_rate)

    def transcribe(self, samples: Samples, sample_rate: int) -> str:
        """The text of a stretch of audio; empty if there is none."""
        floats = (samples.astype(numpy.float32) / 32768).tolist()
        with self._lock:
            lines = self._model.transcribe_without_streaming(floats, sample_rate).lines
        text = " ".join(str(line.text) for line in lines)
        return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


class MoonshineStream:
    """One task's speech: the endpointer finds the sentences, the model reads them."""

    def __init__(self, engine: MoonshineEngine, sample_rate: int) -> None:
        self._engine = engine
        self._rate = sample_rate
        self._ends = Endpointer(sample_rate)
        self._told: tuple[int, int] | None = None

    def feed(self, pcm: bytes) -> list[Result]:
        finals = [result for stretch in self._ends.feed(numpy.frombuffer(pcm, "<i2")) for result in self._read(stretch)]
        stretch = self._ends.open_stretch()
        if stretch is None or not self._is_due(stretch):
            return finals
        self._told = stretch.begin, stretch.end
        return finals + self._read(stretch)

    def finish(self) -> list[Result]:
        return [result for stretch in self._ends.finish() for result in self._read(stretch)]

    def _is_due(self, stretch: Stretch) -> bool:
        told = self._told[1] if self._told is not None and self._told[0] == stretch.begin else stretch.begin
        length_ms = self._ms(stretch.end - stretch.begin)
        return self._ms(stretch.end - told) >= max(PARTIAL_MS, PARTIAL_GROWTH * length_ms)

    def _read(self, stretch: Stretch) -> list[Result]:
        text = self._engine.transcribe(stretch.samples, self._rate)
        begin, end = int(self._ms(stretch.begin)), int(self._ms(stretch.end))
        words = _words(text, begin, end)
        return [Result(begin, end if stretch.is_final else None, text, words)] if words else []

    def _ms(self, samples: int) -> float:
        return samples * 1000 / self._rate


def _words(text: str, begin_ms: int, end_ms: int) -> tuple[Word, ...]:
    """The model gives no times for words: divide the sentence's time in proportion to their length."""
    matches = [PUNCTUATION.match(word) for word in text.split()]
    pieces = [(match[1], match[2]) for match in matches if match and match[1]]
    return spread(pieces, begin_ms, end_ms, [len(word) + 1 for word, _ in pieces])
