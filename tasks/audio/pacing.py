"""PCM in pieces of the right size, each with the time at which it is due. Pure: nobody waits here."""

from collections.abc import Iterable, Iterator
from typing import Final

from worker.recognition import Chunk

__all__ = ["FILE_CHUNK", "chunked", "paced"]

FILE_CHUNK: Final = 12_800
"""Bytes of a chunk that nobody waits for: what the vendor's SDK sends of a file; 1 to 16 KB is advised."""


def chunked(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of `size`; only the last may be shorter, none is empty.

    Raises `ValueError` for a size below 1.
    """
    if size < 1:
        raise ValueError(f"size={size} must be at least 1 byte")
    rest = b""
    for block in blocks:
        joined = rest + block  # no copy where one of them is empty
        whole = len(joined) - len(joined) % size
        for at in range(0, whole, size):
            yield joined[at : at + size]  # a copy of its own: a view would cost as much and keep the block alive
        rest = joined[whole:]
    if rest:
        yield rest


def paced(blocks: Iterable[bytes], *, rate: int, pace: float, chunk_ms: int = 100) -> Iterator[Chunk]:
    """Mono 16-bit PCM as chunks of `chunk_ms`, each due (seconds from the stream's start) when a speaker `pace` times
    as fast gets there.

    `rate` is in samples per second. A pace of 0 makes every chunk due at once, and all of them `FILE_CHUNK` bytes.
    Raises `ValueError` for a negative pace.
    """
    if pace < 0:
        raise ValueError(f"pace={pace} must be 0 (as fast as possible) or more")
    if not pace:
        for data in chunked(blocks, FILE_CHUNK):
            yield Chunk(due=0.0, data=data)
        return
    samples = rate * chunk_ms // 1000
    for number, data in enumerate(chunked(blocks, samples * 2)):
        yield Chunk(due=number * samples / rate / pace, data=data)
