"""PCM in pieces of the right size, each with the time at which it is due. Pure: nobody waits here."""

from collections.abc import Callable, Iterable
from typing import Final

from worker.recognition import Chunk

__all__ = ["FILE_CHUNK", "Paced"]

FILE_CHUNK: Final = 12_800
"""Bytes of a chunk that nobody waits for: what the vendor's SDK sends of a file; 1 to 16 KB is advised."""


class Paced:
    """Mono 16-bit PCM as chunks of `chunk_ms`, each due (seconds from the stream's start) when a speaker `pace` times
    as fast gets there. Only the last may be shorter, and none is empty.

    `rate` is in samples per second. A pace of 0 makes every chunk due at once, and all of them `FILE_CHUNK` bytes.
    `blocks` are the bytes, and `ready` gives the next of them if they can be had without any wait, else none.
    Raises `ValueError` for a negative pace, and for chunks of less than a sample.
    """

    def __init__(
        self,
        blocks: Iterable[bytes],
        ready: Callable[[], bytes] = bytes,
        *,
        rate: int,
        pace: float,
        chunk_ms: int = 100,
    ) -> None:
        if pace < 0:
            raise ValueError(f"pace={pace} must be 0 (as fast as possible) or more")
        samples = rate * chunk_ms // 1000
        if samples < 1:
            raise ValueError(f"chunk_ms={chunk_ms} must be at least one sample at rate={rate}")
        self._size = 2 * samples if pace else FILE_CHUNK
        self._seconds = samples / rate / pace if pace else 0.0  # of a chunk
        self._blocks = iter(blocks)
        self._ready = ready
        self._block, self._at = b"", 0  # the last one, and how much of it was handed on
        self._chunks = 0

    def __iter__(self) -> "Paced":
        return self

    def __next__(self) -> Chunk:
        while len(self._block) - self._at < self._size:
            block = next(self._blocks, None)
            if block is None:
                return self._last()
            self._keep(block)
        return self._cut()

    def begin(self, check: Callable[[], None]) -> bool:
        """Get to the first sound now, and not when somebody waits for it: from a place far into a recording that may
        take long. `check` is asked on the way, and may raise. Says whether there is any sound.
        """
        while not self._block:
            check()
            block = next(self._blocks, None)
            if block is None:
                return False
            self._keep(block)
        return True

    def ready(self) -> list[Chunk]:
        """The next chunks, as far as a block can be had without any wait; none where that might need one, and at the
        end.
        """
        if len(self._block) - self._at < self._size:
            self._keep(self._ready())
        return [self._cut() for _ in range((len(self._block) - self._at) // self._size)]

    def _keep(self, block: bytes) -> None:
        self._block, self._at = self._block[self._at :] + block, 0  # no copy where one of them is empty

    def _cut(self) -> Chunk:
        # A copy of its own: a view would cost as much and keep the block alive.
        data = self._block[self._at : self._at + self._size]
        self._at += len(data)
        if self._at == len(self._block):
            self._block, self._at = b"", 0
        self._chunks += 1
        return Chunk((self._chunks - 1) * self._seconds, data)

    def _last(self) -> Chunk:
        if not self._block:
            raise StopIteration
        return self._cut()
