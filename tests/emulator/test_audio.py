import struct

import pytest

from emulator.audio import PcmReader, counter_range, is_silent
from emulator.protocol import Failure


def wav(data: bytes, channels: int = 1, rate: int = 16000, bits: int = 16, kind: int = 1, before: bytes = b"") -> bytes:
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * 2, 2, bits)
    body = b"WAVE" + b"fmt " + struct.pack("<I", 16) + form + before + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pcm_comes_out_in_whole_samples_however_it_is_cut(size):
    reader, data = PcmReader("pcm", 16000), bytes(range(20))
    pieces = [reader.feed(data[at : at + size]) for at in range(0, 20, size)]
    assert b"".join(pieces) == data
    assert all(len(piece) % 2 == 0 for piece in pieces)


@pytest.mark.parametrize("size", [1, 5, 13, 1000])
def test_a_wav_header_is_taken_off_however_it_is_cut(size):
    data = wav(b"abcdef", before=b"LIST" + struct.pack("<I", 3) + b"xyz\0")
    reader = PcmReader("wav", 16000)
    assert b"".join(reader.feed(data[at : at + size]) for at in range(0, len(data), size)) == b"abcdef"


@pytest.mark.parametrize(
    "data",
    [
        wav(b"", channels=2),
        wav(b"", rate=8000),
        wav(b"", bits=8),
        wav(b"", kind=3),
        b"ID3\x04" + bytes(40),
        b"RIFF\0\0\0\0WAVE" + b"junk" + struct.pack("<I", 10**6) + bytes(70000),
    ],
)
def test_other_audio_in_a_wav_task_is_refused(data):
    with pytest.raises(Failure) as caught:
        PcmReader("wav", 16000).feed(data)
    assert caught.value.code == "UNSUPPORTED_FORMAT"


def test_other_formats_are_refused():
    with pytest.raises(Failure, match="mp3"):
        PcmReader("mp3", 16000)


def test_a_counter_is_recognised():
    assert counter_range(struct.pack("<3H", 65535, 0, 1)) == (65535, 1)
    assert counter_range(struct.pack("<2H", 1, 3)) is None
    assert counter_range(b"") is None


def test_silence_is_quiet_in_both_directions():
    assert is_silent(struct.pack("<2h", 64, -64))
    assert is_silent(b"")
    assert not is_silent(struct.pack("<h", 65))
    assert not is_silent(struct.pack("<h", -65))
