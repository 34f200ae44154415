"""Small stand-ins that speak the real interfaces."""

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from worker.recognition import Chunk, Event, Partial, Started


class FakeClock:
    """A clock that moves when it is told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeRecognizer:
    """Says Started, sends all the audio (or `takes` chunks), then gives the events (or the error) it was made with.

    `interruptions` are what it was interrupted by; while a task is in flight, that is raised in the next event's place.
    """

    def __init__(self, *events: Event | Exception, connected_at: float = 0.0, takes: int | None = None) -> None:
        self.connected_at = connected_at
        self.took_audio = self.sent_all = False
        self.sent_bytes = 0
        self.heard = b""
        self.asked: dict[str, Any] = {}
        self.interruptions: list[Exception] = []
        self._why: Exception | None = None
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
        partials: bool = True,
        ready: Callable[[], Sequence[Chunk]] = tuple,
    ) -> Generator[Event, None, None]:
        self.asked = {
            "model": model,
            "parameters": parameters,
            "resources": resources,
            "deadline": deadline,
            "partials": partials,
        }
        self.took_audio = self.sent_all = False
        self.sent_bytes = 0
        self._why = None
        for event in self._said(chunks, partials):
            if self._why is not None:
                raise self._why
            yield event

    def interrupt(self, why: Exception) -> None:
        self.interruptions.append(why)
        self._why = self._why or why

    def _said(self, chunks: Iterator[Chunk], partials: bool) -> Iterator[Event]:
        yield Started("t")
        for chunk in itertools.islice(chunks, self._takes):
            self.took_audio = True
            self.heard += chunk.data
            self.sent_bytes += len(chunk.data)
        self.sent_all = self._takes is None
        yield from self._told(partials)

    def _told(self, partials: bool) -> Iterator[Event]:
        first = True
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Partial):
                wanted, first = partials or first, False
                if not wanted:
                    continue
            yield event


class FakeRecognizers:
    """Lends what it was made with, one after the other and the last for ever; notes to whom, and what came back."""

    def __init__(self, *lent: Any) -> None:
        self.lent = list(lent)
        self.borrowers: list[str] = []
        self.fresh: list[bool] = []
        self.turned_away: list[str] = []
        self.returned = 0

    @contextmanager
    def lease(self, timeout: float | None = None, *, borrower: str = "", fresh: bool = False) -> Iterator[Any]:
        lent = self.lent.pop(0) if len(self.lent) > 1 else self.lent[0]
        if isinstance(lent, Exception):
            raise lent
        self.borrowers.append(borrower)
        self.fresh.append(fresh)
        try:
            yield lent
        finally:
            self.returned += 1

    def turn_away(self, borrower: str) -> None:
        self.turned_away.append(borrower)


class FakeSlot:
    """Leave to stream; notes how the streams ended, and whether it is still had. A start may raise what it is told to.

    `errors` are for the starts to come: None lets one begin.
    """

    def __init__(self) -> None:
        self.starts = self.begun = 0
        self.ends: list[str] = []
        self.refusals: list[float | None] = []
        self.errors: list[Exception | None] = []
        self.is_had = True

    def await_start(self, stop: Any) -> None:
        self.starts += 1
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    def began(self) -> None:
        self.begun += 1

    def ended(self, *, well: bool) -> None:
        self.ends.append("well" if well else "badly")

    def refused(self, retry_after: float | None) -> None:
        self.ends.append("refused")
        self.refusals.append(retry_after)


class FakePlaces:
    """Gives a place for each wish, or raises what it is told to, after it has had the job say that it waits.

    `errors` are for the wishes to come, and `starts` for the starts of the next place: None lets one have its will.
    """

    def __init__(self, recognizers: Callable[[], Any]) -> None:
        self.wishes: list[Any] = []
        self.stops: list[Any] = []
        self.slots: list[FakeSlot] = []
        self.errors: list[Exception | None] = []
        self.starts: list[Exception | None] = []
        self.patience = 0.0
        self.is_slow = False
        self._recognizers = recognizers

    @contextmanager
    def __call__(self, wish: Any, stop: Any, told: Callable[[], None]) -> Iterator[Any]:
        self.wishes.append(wish)
        self.stops.append(stop)
        if self.is_slow:
            told()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        slot = FakeSlot()
        slot.errors, self.starts = self.starts, []
        self.slots.append(slot)
        try:
            yield SimpleNamespace(slot=slot, recognizers=self._recognizers(), patience=self.patience)
        finally:
            slot.is_had = False
