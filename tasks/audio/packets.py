"""How much one packet may become. Pure.

A decoder gives all the frames of a packet in one list. A packet that is made for it holds thousands of them, and takes
gigabytes before anybody can look up.
"""

import re
from itertools import islice
from typing import Final

__all__ = ["MOST_SAMPLES", "is_crammed"]

MOST_SAMPLES: Final = 4 * 1_179_648
"""Of one channel, from one packet: four times the largest frame that is made, by Monkey's Audio at its slowest."""

_SMALL = 64 * 1024  # bytes; Opus, which has the largest of the small frames, makes 61 kB at most
_LARGE = ("pcm_", "dsd_", "alac", "tta", "wavpack")  # whose packets may be larger, and are one frame each
_FLAC = 2 * 1024 * 1024  # bytes: the largest frame that the format allows
_FLAC_FRAMES = 16  # in one packet, which should be one; of silence each takes 14 bytes, and becomes megabytes
_FLAC_START = re.compile(rb"\xff(?=[\xf8\xf9][\x10-\xff][\x00-\xaf])")
_FLAC_LONGER = {6: 1, 7: 2}  # bytes that a header has more, by its code for the number of samples
_FLAC_FASTER = {12: 1, 13: 2, 14: 2}  # and by that for the rate


def is_crammed(codec: str, packet: bytes | memoryview) -> bool:
    """Whether this packet holds more than any real one. `codec` is the name of FFmpeg's decoder."""
    if codec == "ape":
        return int.from_bytes(packet[:4], "little") > MOST_SAMPLES
    if codec == "flac":
        return len(packet) > _FLAC or _has_many_frames(packet)
    return len(packet) > _SMALL and not codec.startswith(_LARGE)


def _has_many_frames(packet: bytes | memoryview) -> bool:
    # What looks like a start is common in faint sound, one in 80 bytes; a header whose sum is right as well is not.
    starts = [found.start() for found in _FLAC_START.finditer(packet)]
    frames = (at for at in starts if _is_header(packet, at))
    return len(starts) > 64 + len(packet) // 32 or next(islice(frames, _FLAC_FRAMES, None), None) is not None


def _is_header(packet: bytes | memoryview, at: int) -> bool:
    """Whether a frame's header is here; its last byte is a sum that makes the sum of all of them 0."""
    number = packet[at + 4 : at + 5]  # the frame's, in as many bytes as its first one begins with ones
    ones = 8 - (~int.from_bytes(number, "big") & 0xFF).bit_length()
    longer = _FLAC_LONGER.get(packet[at + 2] >> 4, 0) + _FLAC_FASTER.get(packet[at + 2] & 15, 0)
    header = packet[at : at + 5 + max(ones, 1) + longer]
    return _crc8(header) == 0


def _crc8(data: bytes | memoryview) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x107) if value & 0x80 else value << 1
    return value
