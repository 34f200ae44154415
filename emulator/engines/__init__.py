"""What turns audio into sentences. An engine knows no wire and no connection."""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Engine", "EngineStream", "Result", "Word", "spread"]


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its time (milliseconds from the start of the task's audio) and the punctuation after it."""

    begin_ms: int
    end_ms: int
    text: str
    punctuation: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A sentence. `end_ms` is None while it may still change; then the whole text so far is repeated each time."""

    begin_ms: int
    end_ms: int | None
    text: str
    words: tuple[Word, ...] = ()

    @property
    def is_final(self) -> bool:
        return self.end_ms is not None


class EngineStream(Protocol):
    """One task's audio: 16-bit little-endian mono samples in, sentences in time order out. One caller at a time."""

    def feed(self, pcm: bytes) -> list[Result]:
        """Take whole samples; return what became known."""
        ...

    def finish(self) -> list[Result]:
        """No more audio: return what is still open, as finished sentences."""
        ...


class Engine(Protocol):
    """Opens streams. `blocking` says that a stream's calls take long enough to need a thread."""

    name: str
    blocking: bool

    def open(self, sample_rate: int) -> EngineStream:
        """A fresh stream for audio of this rate in hertz."""
        ...


def spread(pieces: list[tuple[str, str]], begin_ms: int, end_ms: int, weights: list[int]) -> tuple[Word, ...]:
    """Divide a stretch of time over (text, punctuation) pairs in proportion to their weights, without gaps."""
    total, done, words = sum(weights), 0, []
    edge = begin_ms
    for (text, punctuation), weight in zip(pieces, weights, strict=True):
        done += weight
        after = begin_ms + (end_ms - begin_ms) * done // total
        words.append(Word(edge, after, text, punctuation))
        edge = after
    return tuple(words)
