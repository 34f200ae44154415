"""Where the samples of a plain WAV file lie. Pure but for `at`.

Most recordings that call centres keep are mono 16-bit PCM: such a file needs no decoder, only a place and a length. All
that is unusual about a file (a second `fmt`, a length left open, half a sample) is left to FFmpeg, whose answers the
plain way must give too.
"""

import struct
from typing import NamedTuple

from tasks.audio.containers import ReadAt

__all__ = ["Samples", "bytes_per_second", "plain_samples"]

_MAX_CHUNKS = 64
_OPEN = 0x7FFF0000  # sizes from here on are what a recorder leaves that cannot go back to its header
_PCM = bytes.fromhex("0100000000001000800000aa00389b71")  # KSDATAFORMAT_SUBTYPE_PCM
_EXTENSIBLE = 0xFFFE
# What says nothing of how the sound is to be read, each with the size below which FFmpeg calls it damaged.
_ASIDE = {
    b"LIST": 4,
    b"fact": 4,
    b"bext": 602,
    **dict.fromkeys((b"JUNK", b"junk", b"PAD ", b"FLLR", b"cue ", b"smpl", b"inst", b"PEAK", b"iXML", b"_PMX"), 0),
}


class Samples(NamedTuple):
    """Mono 16-bit little-endian PCM inside a file: where it begins and how long it is, both in bytes."""

    offset: int
    size: int


class _Chunk(NamedTuple):
    name: bytes
    body: int
    size: int

    @property
    def next(self) -> int:
        return self.body + self.size + self.size % 2


def plain_samples(at: ReadAt, size: int | None, rate: int, *, seekable: bool) -> Samples | None:
    """The samples of a complete WAV file of `size` bytes that is mono 16-bit PCM at `rate`; None for all others."""
    if size is None or not _is_wave(at):
        return None
    format_known, offset = False, 12
    for _ in range(_MAX_CHUNKS):
        chunk = _chunk(at, offset)
        if chunk is None or chunk.body + chunk.size > size:
            return None
        if chunk.name == b"data":
            whole = format_known and 0 < chunk.size < _OPEN and chunk.size % 2 == 0
            alone = whole and _nothing_follows(at, chunk.next, size, seekable=seekable)
            return Samples(chunk.body, chunk.size) if alone else None
        if chunk.name == b"fmt " and not format_known and _is_plain(at(chunk.body, min(chunk.size, 41)), rate):
            format_known = True
        elif not _is_aside(chunk) or (chunk.name == b"fact" and not seekable):  # then FFmpeg trusts its count
            return None
        offset = chunk.next
    return None


def bytes_per_second(at: ReadAt) -> int | None:
    """What a WAV file declares as its bytes per second, None where it does not say so at its very beginning."""
    if not _is_wave(at) or at(12, 4) != b"fmt ":
        return None
    return int.from_bytes(at(28, 4), "little") or None


def _is_wave(at: ReadAt) -> bool:
    head = at(0, 12)
    return head[:4] == b"RIFF" and head[8:] == b"WAVE"


def _chunk(at: ReadAt, offset: int) -> _Chunk | None:
    raw = at(offset, 8)
    return _Chunk(raw[:4], offset + 8, int.from_bytes(raw[4:], "little")) if len(raw) == 8 else None


def _is_aside(chunk: _Chunk) -> bool:
    return chunk.name in _ASIDE and chunk.size >= _ASIDE[chunk.name]


def _is_plain(body: bytes, rate: int) -> bool:
    """Whether a `fmt` chunk describes mono 16-bit PCM at this rate, in one of its three lengths."""
    known = struct.Struct("<HIIHH")  # channels, samples per second, bytes per second, bytes per sample, bits
    if len(body) < 16 or known.unpack_from(body, 2) != (1, rate, 2 * rate, 2, 16):
        return False
    tag, extra = int.from_bytes(body[:2], "little"), body[16:]
    if tag == 1:
        return extra in (b"", b"\0\0")
    # Its length, the bits that count, where the speaker stands (at most one place), the kind.
    return tag == _EXTENSIBLE and len(extra) == 24 and _is_extra(*struct.unpack("<HHI16s", extra))


def _is_extra(length: int, valid_bits: int, mask: int, subformat: bytes) -> bool:
    return (length, valid_bits, subformat) == (22, 16, _PCM) and mask.bit_count() <= 1


def _nothing_follows(at: ReadAt, offset: int, size: int, *, seekable: bool) -> bool:
    """Whether no more sound and nothing unknown comes behind the samples: FFmpeg would play a second `data`."""
    for _ in range(_MAX_CHUNKS):
        if size - offset < 8:
            return True
        chunk = _chunk(at, offset) if seekable else None
        if chunk is None or not _is_aside(chunk) or chunk.body + chunk.size > size:
            return False
        offset = chunk.next
    return False
