"""What a recording costs to decode, against the sound that it gives."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar

from tasks.audio.offload import give_way
from tasks.errors import BadInput

__all__ = ["Effort"]

_TURN = 0.01
"""Seconds of work after which other greenlets get their turn."""

T = TypeVar("T")


class Effort:
    """Counts the processor time inside its `with` blocks: it may be `allowed` seconds more than the sound lasts.

    Any real recording is decoded many times as fast as it plays; one that is made to keep a decoder busy is found out,
    however slowly it is sent and however seldom it gives a sample. What passes while somebody waits, for the source or
    for the next turn of a paced stream, is no effort, and neither is what other threads do meanwhile.
    """

    def __init__(self, shown: str, allowed: float) -> None:
        self._shown, self._left = shown, allowed
        self._since: float | None = None
        self._unbroken = 0.0
        self._turn = 0

    def __enter__(self) -> None:
        self.resume()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def pause(self) -> bool:
        """Count no more; says whether it did. For whoever is called from within the block and may have to wait."""
        if self._since is None:
            return False
        spent, self._since = time.thread_time() - self._since, None
        self._left -= spent
        self._unbroken += spent
        return True

    def resume(self) -> None:
        """Count again."""
        self._since = time.thread_time()

    def check(self) -> None:
        """Raise `audio_too_slow` if it has been too much."""
        left = self._left if self._since is None else self._left - (time.thread_time() - self._since)
        if left < 0:
            raise BadInput(
                "audio_too_slow",
                f"{self._shown} takes far longer to decode than it lasts; convert it, for example to FLAC.",
            )

    def heard(self, seconds: float) -> None:
        """There is so much more sound."""
        self._left += seconds

    def of(self, steps: Iterator[T]) -> Iterator[T]:
        """The same steps, the work of each counted."""
        while True:
            with self:
                step = next(steps, None)
            if step is None:
                return
            if self._unbroken > _TURN:
                self._unbroken, self._turn = 0.0, give_way(self._turn)
            yield step
