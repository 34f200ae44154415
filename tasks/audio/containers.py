"""What a container's own bookkeeping says about its length, to find a cut recording before anything is sent.

FFmpeg quietly shortens the declared duration of a cut WAV to what is there, so we read the chunk sizes ourselves.
Pure but for `at`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["ReadAt", "family", "index_is_last", "is_cut", "missing_bytes"]

ReadAt = Callable[[int, int], bytes]
"""`(offset, count) -> bytes`; fewer than `count` where it cannot look."""

_MAX_CHUNKS = 256
_CARRIERS = {b"data", b"SSND", b"LIST", b"mdat", b"moov", b"moof"}  # what follows them may be anybody's leftovers
_GUIDED = {bytes.fromhex("726966662e91cf11"): "w64", bytes.fromhex("3026b2758e66cf11"): "asf"}  # half a GUID is enough
_GUIDED_DATA = {b"data", bytes.fromhex("3626b275")}
_MP4_FIRST = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"}


class _Chunk(NamedTuple):
    name: bytes
    body: int  # offset
    size: int


def family(head: bytes) -> str | None:
    """Which kind of chunked file these first 12 bytes begin: `riff`, `aiff`, `caf`, `w64`, `asf`, `mp4`."""
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] in (b"WAVE", b"AVI "):
        return "riff"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:4] == b"caff":
        return "caf"
    if head[:8] in _GUIDED:
        return _GUIDED[head[:8]]
    return "mp4" if head[4:8] in _MP4_FIRST else None


def missing_bytes(at: ReadAt, size: int) -> tuple[int, int]:
    """How many bytes a chunk declares and how many of them lie beyond the file's end; `(0, 0)` if nothing is missing
    or known.
    """
    head = at(0, 12)
    if head[:3] == b"ID3" or head[:1] == b"\xff":
        return _missing_mp3(at, size)
    for chunk in _CHUNKS.get(family(head) or "", _none)(at, head):
        if chunk.name in _CARRIERS and chunk.body + chunk.size > size:
            return chunk.size, chunk.body + chunk.size - size
    return 0, 0


def is_cut(at: ReadAt, size: int) -> bool:
    """Whether more is missing than about a second."""
    declared, missing = missing_bytes(at, size)
    head = at(0, 12)
    dense = family(head) in ("mp4", "asf") or head[8:] == b"AVI "  # whose bytes hold more of it than PCM's
    return missing > max(declared // 50, 8 * 1024 if dense else 32 * 1024)


def _missing_mp3(at: ReadAt, size: int) -> tuple[int, int]:
    """An MP3's first frame may hold a header (Xing, Info) that counts the bytes from that frame on."""
    begin = _id3_size(at(0, 10))
    frame = at(begin, 64)
    found = max(frame.find(b"Xing"), frame.find(b"Info"))
    flags = int.from_bytes(frame[found + 4 : found + 8], "big")
    if found < 0 or flags & 3 != 3:  # with a count of frames and one of bytes
        return 0, 0
    declared = int.from_bytes(frame[found + 12 : found + 16], "big")
    return (declared, begin + declared - size) if begin + declared > size else (0, 0)


def _id3_size(tag: bytes) -> int:
    """Bytes of the ID3v2 tag before the sound; its size is written with seven bits a byte."""
    if tag[:3] != b"ID3" or len(tag) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))


def index_is_last(at: ReadAt) -> bool:
    """Whether this is an MP4 whose sound (mdat) comes before its index (moov), as far as `at` can look."""
    head = at(0, 12)
    names = (chunk.name for chunk in _mp4(at, head)) if family(head) == "mp4" else iter(())
    return next((name for name in names if name in (b"moov", b"mdat")), b"") == b"mdat"


def _none(at: ReadAt, head: bytes) -> Iterator[_Chunk]:
    return iter(())


def _iff(at: ReadAt, head: bytes) -> Iterator[_Chunk]:
    offset = 12
    if head[8:] == b"AVI " and 0 < (whole := int.from_bytes(head[4:8], "little")) < 0x7FFF0000:
        yield _Chunk(b"LIST", 8, whole)  # its sound may begin further on than a source without seeking can look
    for _ in range(_MAX_CHUNKS):
        raw = at(offset, 8)
        size = int.from_bytes(raw[4:], "little" if head[:4] == b"RIFF" else "big")
        # A recorder that cannot go back to its header leaves 0, all ones, or just under 2 GiB there.
        if len(raw) < 8 or not 0 < size < 0x7FFF0000:
            return
        yield _Chunk(raw[:4], offset + 8, size)
        if raw[:4] in (b"data", b"SSND"):
            return
        offset += 8 + size + size % 2


def _caf(at: ReadAt, head: bytes) -> Iterator[_Chunk]:
    offset = 8
    for _ in range(_MAX_CHUNKS):
        raw = at(offset, 12)
        size = int.from_bytes(raw[4:], "big", signed=True)
        if len(raw) < 12 or size < 0:  # -1: up to the end
            return
        yield _Chunk(raw[:4], offset + 12, size)
        if raw[:4] == b"data":
            return
        offset += 12 + size


def _guided(at: ReadAt, head: bytes) -> Iterator[_Chunk]:
    """W64 and ASF name their chunks by 16 bytes; the size that follows in 8 counts those 24, too."""
    w64 = _GUIDED[head[:8]] == "w64"
    offset = 40 if w64 else 0  # W64's first chunk holds all the others
    for _ in range(_MAX_CHUNKS):
        raw = at(offset, 24)
        size = int.from_bytes(raw[16:], "little")
        if len(raw) < 24 or not 24 <= size < 1 << 62:  # left open
            return
        if raw[:4] in _GUIDED_DATA:
            yield _Chunk(b"data", offset + 24, size - 24)
            return
        offset += size + (-size % 8 if w64 else 0)


def _mp4(at: ReadAt, head: bytes) -> Iterator[_Chunk]:
    offset = 0
    for _ in range(_MAX_CHUNKS):
        raw = at(offset, 16)
        size, header = int.from_bytes(raw[:4], "big"), 8
        if size == 1:  # the size did not fit in 32 bits
            size, header = int.from_bytes(raw[8:], "big"), 16
        if len(raw) < header or size < header:  # 0: up to the end
            return
        yield _Chunk(raw[4:8], offset + header, size - header)
        offset += size


_CHUNKS: dict[str, Callable[[ReadAt, bytes], Iterator[_Chunk]]] = {
    "riff": _iff,
    "aiff": _iff,
    "caf": _caf,
    "w64": _guided,
    "asf": _guided,
    "mp4": _mp4,
}
