"""WebSocket's frames, by websocket-client: its encoder and its parser, on bytes that somebody else moves.

The mask costs most: each byte of audio is combined with it (RFC 6455, 5.3), a client must, and Python takes 7 µs for a
tenth of a second of audio. Where the `fast` extra is installed, `websockets` does it in C, in a fifth of one.
"""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Final

from websocket import ABNF, continuous_frame, frame_buffer

from worker.recognition.errors import RemoteProtocolError

Mask = Callable[[bytes | memoryview, bytes], bytes]

apply_mask: Mask | None
try:
    from websockets.speedups import apply_mask
except ImportError:  # the extra is not installed, or there is no wheel with it for this machine
    apply_mask = None

TEXT: Final = ABNF.OPCODE_TEXT
BINARY: Final = ABNF.OPCODE_BINARY
CLOSE: Final = ABNF.OPCODE_CLOSE
PING: Final = ABNF.OPCODE_PING
PONG: Final = ABNF.OPCODE_PONG

KEY_SIZE: Final = 4

WHOLE_TEXT: Final = 0x80 | TEXT
"""How a frame begins that is a whole message of text: FIN, no reserved bit."""

LONGEST: Final = 16 * 1024 * 1024
"""Bytes of a message. An event has a few thousand."""


def slow_mask(data: bytes | memoryview, key: bytes) -> bytes:
    """websocket-client's, in Python. It would take a memoryview byte by byte."""
    return ABNF.mask(key, bytes(data))


mask: Final[Mask] = apply_mask or slow_mask


@functools.lru_cache(maxsize=1024)
def _head(opcode: int, length: int) -> bytes:
    """A masked frame up to its key. Most frames of a stream are of one length."""
    return ABNF(1, 0, 0, 0, opcode, 1, bytes(length)).format()[: -length - KEY_SIZE]


class _Keys:
    """Keys that nobody can guess (RFC 6455, 5.3), fetched from the system for many frames at once.

    Safe to use from any thread: to take from a list's iterator is one step.
    """

    def __init__(self) -> None:
        self._keys: Iterator[bytes] = iter(())

    def forget(self) -> None:
        """Let a forked child fetch its own."""
        self._keys = iter(())

    def __call__(self) -> bytes:
        key = next(self._keys, None)
        if key is None:
            fetched = os.urandom(1024 * KEY_SIZE)
            self._keys = iter([fetched[at : at + KEY_SIZE] for at in range(0, len(fetched), KEY_SIZE)])
            key = next(self._keys)
        return key


_key = _Keys()
os.register_at_fork(after_in_child=_key.forget)


def encoded(data: bytes | memoryview, opcode: int, mask: Mask = mask) -> bytes:
    """A whole message as one masked frame."""
    key = _key()
    return _head(opcode, len(data)) + key + mask(data, key)


class Dry(Exception):
    """Raised by a source of bytes that has no more for now."""


class Parser:
    """Bytes to messages. What came of an unfinished frame, or of a message in several, stays until the rest comes.

    `read` gives some bytes, or raises Dry, or what ends the connection. Nearly all that the service sends are texts in
    one frame that comes whole: these are taken out here, at a fifth of the cost; the rest is websocket-client's.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._data, self._at = b"", 0  # what was read, and from where on it is new to everybody
        self._buffer = frame_buffer(lambda _: self._rest(), skip_utf8_validation=True)
        self._parts = continuous_frame(False, True)

    @property
    def is_dry(self) -> bool:
        """Whether nothing is left of what was read; another message needs another read."""
        return not self._data and not self._buffer.recv_buffer

    def message(self) -> tuple[int, bytes]:
        """The next whole message, or control frame between: (opcode, payload).

        Raises Dry, what `read` raises, websocket.WebSocketException for what is no frame, and RemoteProtocolError for a
        message that is far too long.
        """
        buffer = self._buffer
        if buffer.header is None and not buffer.recv_buffer and not self._parts.recving_frames:
            text = self._whole_text()
            if text is not None:
                return TEXT, text
        return self._any_message()

    def _whole_text(self) -> bytes | None:
        """The payload of a text in one frame, not masked and below 64 KB (RFC 6455, 5.2), if one comes next, whole."""
        if not self._data:
            self._data = self._read()
        data, at = self._data, self._at
        have = len(data) - at
        if have < 4 or data[at] != WHOLE_TEXT:
            return None
        size, begin = data[at + 1], at + 2
        if size == 126:
            size, begin = data[at + 2] << 8 | data[at + 3], at + 4
        elif size > 126:
            return None
        end = begin + size
        if end > len(data):
            return None
        if end == len(data):
            self._data, self._at = b"", 0
        else:
            self._at = end
        return data[begin:end]

    def _rest(self) -> bytes:
        """What is left of what was read, else more."""
        if not self._data:
            return self._read()
        data, self._data, self._at = self._data[self._at :], b"", 0
        return data

    def _any_message(self) -> tuple[int, bytes]:
        while True:
            try:
                frame = self._buffer.recv_frame()
            except Dry:
                self._check_length()
                raise
            if frame.opcode in (PING, PONG, CLOSE):
                return frame.opcode, _payload(frame)
            self._parts.validate(frame)
            if frame.fin and not self._parts.recving_frames:
                return frame.opcode, _payload(frame)
            self._parts.add(frame)
            if self._parts.is_fire(frame):
                opcode, whole = self._parts.extract(frame)
                return opcode, _payload(whole)

    def _check_length(self) -> None:
        begun = self._parts.cont_data
        if (self._buffer.length or 0) + (len(begun[1]) if begun else 0) > LONGEST:
            raise RemoteProtocolError(f"the service sends a message of more than {LONGEST} bytes")


def _payload(frame: ABNF) -> bytes:
    return frame.data if isinstance(frame.data, bytes) else frame.data.encode()
