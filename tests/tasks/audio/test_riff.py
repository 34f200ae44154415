import struct

import pytest

from tasks.audio.riff import Samples, bytes_per_second, plain_samples

PCM = bytes.fromhex("0100000000001000800000aa00389b71")
FMT = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + bytes(len(body) % 2)


def wave(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return chunk(b"RIFF", body)


def extensible(valid: int = 16, mask: int = 4, kind: bytes = PCM, length: int = 22) -> bytes:
    return b"\xfe\xff" + FMT[2:] + struct.pack("<HHI", length, valid, mask) + kind


def found(data: bytes, *, size: int | None = -1, rate: int = 16000, seekable: bool = True) -> Samples | None:
    return plain_samples(
        lambda offset, count: data[offset : offset + count], len(data) if size == -1 else size, rate, seekable=seekable
    )


DATA = chunk(b"data", bytes(range(8)))


@pytest.mark.parametrize(
    "before",
    [
        [],
        [chunk(b"JUNK", bytes(28))],
        [chunk(b"LIST", b"INFOISFT\x04\0\0\0Lavf")],
        [chunk(b"fact", bytes(4))],
        [chunk(b"bext", bytes(602))],
        [chunk(b"junk", bytes(3)), chunk(b"PEAK", bytes(16))],
        [chunk(b"JUNK", b"")],
    ],
)
@pytest.mark.parametrize("shape", [FMT, FMT + b"\0\0", extensible(), extensible(mask=0), extensible(mask=1)])
def test_plain_samples_are_found_behind_whatever_precedes_them(before: list[bytes], shape: bytes) -> None:
    data = wave(*before, chunk(b"fmt ", shape), *before, DATA)
    samples = found(data)
    assert samples is not None
    assert data[samples.offset : samples.offset + samples.size] == bytes(range(8))


UNUSUAL = {
    "no wave": b"RIFF\x10\0\0\0AVI " + chunk(b"fmt ", FMT) + DATA,
    "big-endian": b"RIFX" + wave(chunk(b"fmt ", FMT), DATA)[4:],
    "large": b"RF64" + wave(chunk(b"fmt ", FMT), DATA)[4:],
    "no fmt": wave(DATA),
    "fmt behind": wave(DATA, chunk(b"fmt ", FMT)),
    "two fmt": wave(chunk(b"fmt ", FMT), chunk(b"fmt ", FMT), DATA),
    "two data": wave(chunk(b"fmt ", FMT), DATA, DATA),
    "short fmt": wave(chunk(b"fmt ", FMT[:14]), DATA),
    "odd fmt": wave(chunk(b"fmt ", FMT + b"\0"), DATA),
    "long fmt": wave(chunk(b"fmt ", FMT + b"\2\0\0\0"), DATA),
    "adpcm": wave(chunk(b"fmt ", b"\x11\0" + FMT[2:]), DATA),
    "stereo": wave(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, 16000, 64000, 4, 16)), DATA),
    "24 bit": wave(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 48000, 3, 24)), DATA),
    "wrong align": wave(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 4, 16)), DATA),
    "wrong speed": wave(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 16000, 2, 16)), DATA),
    "float": wave(chunk(b"fmt ", extensible(kind=b"\3" + PCM[1:])), DATA),
    "12 of 16 bits": wave(chunk(b"fmt ", extensible(valid=12)), DATA),
    "two speakers": wave(chunk(b"fmt ", extensible(mask=3)), DATA),
    "short extension": wave(chunk(b"fmt ", extensible(length=0)), DATA),
    "unknown chunk": wave(chunk(b"SMV0", bytes(20)), chunk(b"fmt ", FMT), DATA),
    "too short a list": wave(chunk(b"LIST", b"IN"), chunk(b"fmt ", FMT), DATA),
    "too short a bext": wave(chunk(b"bext", bytes(601)), chunk(b"fmt ", FMT), DATA),
    "no data": wave(chunk(b"fmt ", FMT)),
    "empty data": wave(chunk(b"fmt ", FMT), chunk(b"data", b"")),
    "half a sample": wave(chunk(b"fmt ", FMT), chunk(b"data", b"abc")),
    "cut": wave(chunk(b"fmt ", FMT), chunk(b"data", bytes(8), 10)),
    "open": wave(chunk(b"fmt ", FMT), chunk(b"data", bytes(8), 0)),
    "all ones": wave(chunk(b"fmt ", FMT), chunk(b"data", bytes(8), 0xFFFFFFFF)),
    "cut aside": wave(chunk(b"fmt ", FMT), chunk(b"JUNK", b"", 100)),
    "unknown behind": wave(chunk(b"fmt ", FMT), DATA) + b"ID3 \xff\xff\xff\x7fmore",
    "cut behind": wave(chunk(b"fmt ", FMT), DATA, chunk(b"LIST", b"INFO", 100)),
    "many before": wave(*[chunk(b"JUNK", b"ab")] * 64, chunk(b"fmt ", FMT), DATA),
    "many behind": wave(chunk(b"fmt ", FMT), DATA, *[chunk(b"JUNK", b"ab")] * 64),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_left_to_the_decoder(name: str) -> None:
    assert found(UNUSUAL[name]) is None


def test_every_cut_of_a_file_is_left_to_the_decoder() -> None:
    data = wave(chunk(b"fmt ", FMT), DATA)
    assert [found(data[:end]) for end in range(len(data))] == [None] * len(data)
    assert found(data) == Samples(44, 8)


def test_another_rate_needs_a_decoder() -> None:
    assert found(wave(chunk(b"fmt ", FMT), DATA), rate=8000) is None


@pytest.mark.parametrize("after", [b"", b"\0", b"LIST\0\0\0"])
def test_a_few_bytes_behind_the_samples_are_no_chunk(after: bytes) -> None:
    assert found(wave(chunk(b"fmt ", FMT), DATA) + after) == Samples(44, 8)


@pytest.mark.parametrize("seekable", [True, False])
def test_what_lies_behind_the_samples_has_to_be_seen(seekable: bool) -> None:
    data = wave(chunk(b"fmt ", FMT), DATA, chunk(b"LIST", b"INFO"), chunk(b"cue ", bytes(4)))
    assert found(data, seekable=seekable) == (Samples(44, 8) if seekable else None)


def test_without_a_size_or_with_a_count_that_nothing_confirms_it_is_not_plain() -> None:
    data = wave(chunk(b"fmt ", FMT), chunk(b"fact", bytes(4)), DATA)
    assert found(data, size=None) is None
    assert found(data, seekable=False) is None
    assert found(wave(chunk(b"fmt ", FMT), DATA), seekable=False) == Samples(44, 8)


def test_the_declared_speed_is_read_from_the_beginning_only() -> None:
    def speed(data: bytes) -> int | None:
        return bytes_per_second(lambda offset, count: data[offset : offset + count])

    assert speed(wave(chunk(b"fmt ", FMT), DATA)) == 32000
    assert speed(wave(chunk(b"JUNK", bytes(28)), chunk(b"fmt ", FMT), DATA)) is None
    assert speed(wave(chunk(b"fmt ", FMT[:8] + bytes(8)))) is None
    assert speed(b"fLaC") is None
