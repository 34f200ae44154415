"""Audio as the service gets it: bytes of any length in, whole 16-bit mono samples out. Pure."""

import struct

import numpy

from emulator.protocol import Failure

__all__ = ["PcmReader", "counter_range", "is_silent"]

# About -54 dB of full scale: digital silence and a muted line, but not a quiet room.
SILENT_PEAK = 64
HEADER_LIMIT = 65536


def counter_range(pcm: bytes) -> tuple[int, int] | None:
    """First and last sample if each is the one before plus one, modulo 65536 and unsigned; else None."""
    samples = numpy.frombuffer(pcm, "<u2")
    if not len(samples) or bool(numpy.any(numpy.diff(samples) != 1)):
        return None
    return int(samples[0]), int(samples[-1])


def is_silent(pcm: bytes) -> bool:
    """Whether nothing can be heard in these samples."""
    samples = numpy.frombuffer(pcm, "<i2")
    return not len(samples) or (int(samples.max()) <= SILENT_PEAK and int(samples.min()) >= -SILENT_PEAK)


class PcmReader:
    """Turns the frames of one task into whole samples; takes off a WAV header.

    Raises Failure `UNSUPPORTED_FORMAT` for other containers, and for a header that does not say 16-bit mono PCM of the
    task's sample rate.
    """

    def __init__(self, audio_format: str, sample_rate: int) -> None:
        if audio_format not in ("pcm", "wav"):
            raise _unsupported(f"The emulator takes pcm and wav, not {audio_format}.")
        self._rate = sample_rate
        self._held = b""
        self._in_header = audio_format == "wav"

    def feed(self, data: bytes) -> bytes:
        """Take a frame; return the whole samples that are ready."""
        data = self._held + data
        if self._in_header:
            start = self._header_end(data)
            if start is None:
                self._held = data
                return b""
            self._in_header, data = False, data[start:]
        # A frame may end in the middle of a sample.
        whole = len(data) & ~1
        self._held = data[whole:]
        return data[:whole]

    def _header_end(self, data: bytes) -> int | None:
        if len(data) >= 12 and (data[:4], data[8:12]) != (b"RIFF", b"WAVE"):
            raise _unsupported("Failed to decode audio: no RIFF header.")
        at = 12
        while at + 8 <= len(data):
            name, size = struct.unpack_from("<4sI", data, at)
            if name == b"data":
                return at + 8
            if name == b"fmt " and at + 24 <= len(data):
                self._check_format(data[at + 8 : at + 24])
            at += 8 + size + size % 2
        if len(data) > HEADER_LIMIT:
            raise _unsupported("Failed to decode audio: no data chunk.")
        return None

    def _check_format(self, chunk: bytes) -> None:
        kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk)
        if (kind, channels, bits) != (1, 1, 16):
            raise _unsupported("Failed to decode audio: WAV must hold 16-bit mono PCM.")
        if rate != self._rate:
            raise _unsupported(f"Failed to decode audio: {rate} Hz, but sample_rate is {self._rate}.")


def _unsupported(message: str) -> Failure:
    return Failure("UNSUPPORTED_FORMAT", message)
