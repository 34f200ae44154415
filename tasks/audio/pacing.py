"""PCM in pieces of the right size, each with the time at which it is due. Pure: nobody waits here."""

from collections.abc import Iterable, Iterator

from worker.recognition import Chunk

__all__ = ["chunked", "paced"]


def chunked(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of `size`; only the last may be shorter, none is empty.

    Raises `ValueError` for a size below 1.
    """
    if size < 1:
        raise ValueError(f"size={size} must be at least 1 byte")
    held = bytearray()
    for block in blocks:
        held += block
        whole = len(held) - len(held) % size
        for at in range(0, whole, size):
            yield bytes(held[at : at + size])
        del held[:whole]
    if held:
        yield bytes(held)


def paced(blocks: Iterable[bytes], *, rate: int, pace: float, chunk_ms: int = 100) -> Iterator[Chunk]:
    """Mono 16-bit PCM as chunks of `chunk_ms`, each due (seconds from the stream's start) when a speaker `pace` times
    as fast gets there.

    `rate` is in samples per second. A pace of 0 makes every chunk due at once. Raises `ValueError` for a negative pace.
    """
    if pace < 0:
        raise ValueError(f"pace={pace} must be 0 (as fast as possible) or more")
    samples = rate * chunk_ms // 1000
    for number, data in enumerate(chunked(blocks, samples * 2)):
        yield Chunk(due=number * samples / rate / pace if pace else 0.0, data=data)
