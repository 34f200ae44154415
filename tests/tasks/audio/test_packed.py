import zlib

import pytest

from tasks.audio.packed import Unpacker, can_unpack

BODY = bytes(range(256)) * 100


def gzipped(body: bytes) -> bytes:
    return zlib.compress(body, wbits=31)


def unpacked(pieces: list[bytes], size: int) -> bytes:
    unpacker, taken = Unpacker(), b""
    for piece in pieces:
        unpacker.feed(piece)
        while data := unpacker.take(size):
            assert len(data) <= size
            taken += data
    return taken


@pytest.mark.parametrize("packed", [gzipped(BODY), zlib.compress(BODY)])
@pytest.mark.parametrize(("step", "size"), [(1, 1000), (7, 10), (100_000, 1), (100_000, 100_000)])
def test_a_body_comes_out_however_it_comes_in(packed: bytes, step: int, size: int) -> None:
    assert unpacked([packed[at : at + step] for at in range(0, len(packed), step)], size) == BODY


@pytest.mark.parametrize("step", [1, 100, 100_000])
def test_several_packed_pieces_are_one_body(step: int) -> None:
    packed = gzipped(BODY) + gzipped(b"") + gzipped(BODY[::-1])
    assert unpacked([packed[at : at + step] for at in range(0, len(packed), step)], 1000) == BODY + BODY[::-1]


@pytest.mark.parametrize("broken", [b"not packed", gzipped(BODY)[:50] + bytes(1000), gzipped(BODY) + b"garbage"])
def test_what_is_broken_is_told(broken: bytes) -> None:
    with pytest.raises(zlib.error):
        unpacked([broken], 1000)


@pytest.mark.parametrize("packed", [gzipped(BODY), zlib.compress(BODY), gzipped(b"") + gzipped(BODY)])
def test_a_body_is_whole_at_its_last_byte_and_not_before(packed: bytes) -> None:
    for end, whole in [(len(packed) // 2, False), (len(packed) - 1, False), (len(packed), True)]:
        unpacker = Unpacker()
        unpacker.feed(packed[:end])
        while unpacker.take(10_000):
            pass
        assert unpacker.is_whole is whole


def test_only_what_zlib_knows_can_be_unpacked() -> None:
    assert [can_unpack(name) for name in ("gzip", "x-gzip", "deflate", "br", "gzip, gzip", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
