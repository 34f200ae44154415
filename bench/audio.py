"""Audio that counts, so that the emulator's script engine can say whether it came whole."""

import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from worker.recognition import Chunk

MODEL: Final = "paraformer-realtime-v2"
RATE: Final = 16000
PARAMETERS: Final = {"format": "pcm", "sample_rate": RATE}
SAMPLES: Final = RATE // 10  # in a chunk


def chunks(count: int, pace: float = 0.0) -> list[Chunk]:
    """A tenth of a second each; `pace` 1 is real time, 0 all at once."""
    return [Chunk(number * SAMPLES / RATE * pace, _counter(number * SAMPLES)) for number in range(count)]


class AtHand:
    """Chunks that can be had without a wait, four at a time, as those of a file that the system has in memory."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = iter(chunks)

    def __iter__(self) -> Iterator[Chunk]:
        return self._chunks

    def ready(self) -> list[Chunk]:
        return list(itertools.islice(self._chunks, 4))


def _counter(first: int) -> bytes:
    return struct.pack(f"<{SAMPLES}H", *(sample % 65536 for sample in range(first, first + SAMPLES)))
