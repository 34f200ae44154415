"""What these tests let a service say, and who says it."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.fakes import FakeRecognizer
from worker.recognition import Event, Final, Partial, Sentence

RATE = 16_000
PCM = bytes(range(240)) * 40
"""0.3 seconds of sound, at 16 kHz."""

PCM_MS = 300

Act = Callable[[], Any]


def final(begin: int, end: int, text: str) -> Event:
    return Final("t", Sentence(begin_time=begin, end_time=end, text=text, words=()), None)


def partial(begin: int, text: str) -> Event:
    return Partial("t", Sentence(begin_time=begin, end_time=begin, text=text, words=()))


class FakeRecording:
    """Gives its sound from where it is asked for it, then the error; notes where that was."""

    def __init__(
        self,
        pcm: bytes = PCM,
        error: Exception | None = None,
        duration_ms: int | None = PCM_MS,
        channels: int = 1,
    ) -> None:
        self.duration_ms = duration_ms
        self.channels = channels
        self.asked: list[int] = []
        self._pcm, self._error = pcm, error

    def blocks(self, start_ms: int = 0, end_ms: int | None = None) -> Iterator[bytes]:
        self.asked.append(start_ms)
        end = None if end_ms is None else end_ms * RATE // 1000 * 2
        yield self._pcm[start_ms * RATE // 1000 * 2 : end]
        if self._error:
            raise self._error

    def ready(self) -> bytes:
        return b""


class ActingRecognizer(FakeRecognizer):
    """Among whose events are things that happen at that moment, after the audio was sent."""

    def __init__(self, *events: Event | Exception | Act, takes: int | None = None) -> None:
        super().__init__(takes=takes)
        self._all = events

    def _told(self, partials: bool) -> Iterator[Event]:
        for event in self._all:
            if isinstance(event, Exception):
                raise event
            if callable(event):
                event()
            else:
                yield event
