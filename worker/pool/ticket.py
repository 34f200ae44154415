"""One who asked and what came of it."""

import contextlib
import threading
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from worker.pool.entry import Entry
from worker.pool.errors import PoolError

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Ticket(Generic[T]):
    """Held by the borrower from before it asks until after it gave back, so that an interrupt at any point in between
    finds here what must be returned. Only the book settles it.
    """

    borrower: str = ""
    fresh: bool = False  # takes only what was opened since it asked
    number: int = 0  # order of arrival, given by the book
    asked: float = 0.0
    entry: Entry[T] | None = None
    error: PoolError | None = None
    # A bare lock and no Event: an interrupt inside Event.set can leave the event's own lock taken for ever.
    _bell: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self._bell.acquire()

    def sleep(self, seconds: float) -> None:
        """Until it is woken, but not longer."""
        self._bell.acquire(timeout=seconds)

    def wake(self) -> None:
        """Called by whoever settled it while its holder may sleep."""
        with contextlib.suppress(RuntimeError):  # rung already, and not heard yet
            self._bell.release()

    @property
    def settled(self) -> bool:
        return self.entry is not None or self.error is not None

    def suits(self, entry: Entry[T]) -> bool:
        return not self.fresh or (entry.born >= self.asked and not entry.uses)
