"""A body that its server has packed although nobody asked for that."""

import zlib

__all__ = ["Unpacker", "can_unpack"]

_EITHER = zlib.MAX_WBITS + 32  # zlib or gzip, whichever it is


def can_unpack(encoding: str) -> bool:
    return encoding in ("gzip", "x-gzip", "deflate")


class Unpacker:
    """Unpacks step by step and never more than is asked for: what grows a thousandfold takes no memory."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_EITHER)
        self._packed = b""

    @property
    def is_whole(self) -> bool:
        """Whether what has come ends where a packed piece ends."""
        return self._stream.eof

    def feed(self, packed: bytes) -> None:
        """Take what has come."""
        self._packed += packed

    def take(self, size: int) -> bytes:
        """Up to `size` bytes, at least 1; none if more has to come first. Raises `zlib.error`."""
        while True:
            if self._stream.eof and self._packed:  # several packed pieces, one after the other, are one body
                self._stream = zlib.decompressobj(_EITHER)
            data = self._stream.decompress(self._packed, size)
            self._packed = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if data or not (self._stream.eof and self._packed):
                return data
