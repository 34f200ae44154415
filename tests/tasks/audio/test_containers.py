import pytest

from tasks.audio.containers import family, is_cut, missing_bytes

W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_WAVE = bytes.fromhex("77617665f3acd3118cd100c04f8edb8a")
W64_REST = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of a chunk's name, behind its four letters
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
OPEN = [0, 23, (1 << 63) - 1, (1 << 64) - 1]


def guided(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + (24 + len(body) if size is None else size).to_bytes(8, "little") + body


def w64(size: int | None = None, sound: bytes = bytes(100_000)) -> bytes:
    shape = guided(b"fmt " + W64_REST, bytes(18)) + bytes(6)  # up to a multiple of 8
    return guided(W64, W64_WAVE) + shape + guided(b"data" + W64_REST, sound, size)


def asf(size: int | None = None, sound: bytes = bytes(100_000)) -> bytes:
    return guided(ASF, bytes(333)) + guided(ASF_DATA, sound, size)


def avi(size: int) -> bytes:
    return b"RIFF" + size.to_bytes(4, "little") + b"AVI " + bytes(100_000)


def missing(data: bytes, size: int) -> tuple[int, int]:
    return missing_bytes(lambda offset, count: data[offset : offset + count], size)


@pytest.mark.parametrize(("data", "kind"), [(w64(), "w64"), (asf(), "asf"), (avi(0), "riff"), (W64[:11], "w64")])
def test_a_family_is_known_by_its_first_bytes(data: bytes, kind: str) -> None:
    assert family(data[:12]) == kind


@pytest.mark.parametrize("data", [w64(), asf()])
def test_what_a_whole_file_declares_is_there(data: bytes) -> None:
    assert missing(data, len(data)) == (0, 0)
    assert missing(data, len(data) - 1) == (100_000, 1)
    assert missing(data[:4096], len(data) - 60_000) == (100_000, 60_000)


@pytest.mark.parametrize("size", OPEN)
def test_a_size_that_was_left_open_says_nothing(size: int) -> None:
    assert missing(w64(size), 200) == missing(asf(size), 500) == (0, 0)


def test_a_file_of_nothing_but_chunks_has_an_end() -> None:
    data = guided(ASF, b"") * 300 + guided(ASF_DATA, b"", 1000)
    assert missing(data, len(data)) == (0, 0)


@pytest.mark.parametrize(("size", "lost"), [(100_004, 0), (200_004, 100_000), (0, 0), (0xFFFFFFFF, 0)])
def test_an_avi_says_at_its_very_beginning_how_long_it_is(size: int, lost: int) -> None:
    assert missing(avi(size)[:64], len(avi(size))) == ((size, lost) if lost else (0, 0))


@pytest.mark.parametrize(
    ("data", "allowed"), [(w64(), 32 * 1024), (asf(), 8 * 1024), (avi(100_004), 8 * 1024)], ids=["w64", "asf", "avi"]
)
def test_about_a_second_may_be_missing(data: bytes, allowed: int) -> None:
    def at(offset: int, count: int) -> bytes:
        return data[offset : offset + count]

    assert not is_cut(at, len(data) - allowed)
    assert is_cut(at, len(data) - allowed - 1)
