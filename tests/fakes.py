"""Small stand-ins that speak the real interfaces."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from worker.recognition import Chunk, Event


class FakeClock:
    """A clock that moves when it is told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeRecognizer:
    """Takes all the audio, then gives the events (or raises the error) that it was made with."""

    def __init__(self, *events: Event | Exception, tasks: int = 0, takes: int | None = None) -> None:
        self.tasks = tasks
        self.heard = b""
        self.asked: dict[str, Any] = {}
        self._events = events
        self._takes = takes

    def transcribe(
        self,
        *,
        model: str,
        parameters: Mapping[str, Any],
        resources: Sequence[Mapping[str, Any]] = (),
        chunks: Iterator[Chunk],
        deadline: float,
    ) -> Iterator[Event]:
        self.asked = {"model": model, "parameters": parameters, "resources": resources, "deadline": deadline}
        for number, chunk in enumerate(chunks, 1):
            self.heard += chunk.data
            if number == self._takes:
                break
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield event


class FakeRecognizers:
    """A pool of one; notes who borrowed, and whether it came back."""

    def __init__(self, lent: Any) -> None:
        self.lent = lent
        self.borrowers: list[str] = []
        self.returned = 0

    @contextmanager
    def lease(self, timeout: float | None = None, *, borrower: str = "") -> Iterator[Any]:
        if isinstance(self.lent, Exception):
            raise self.lent
        self.borrowers.append(borrower)
        try:
            yield self.lent
        finally:
            self.returned += 1
