import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.audio.pacing import FILE_CHUNK, chunked, paced


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40))
def test_nothing_is_lost_and_only_the_last_chunk_is_shorter(blocks: list[bytes], size: int) -> None:
    chunks = list(chunked(blocks, size))
    assert b"".join(chunks) == b"".join(blocks)
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= size for chunk in chunks)


@pytest.mark.parametrize("size", [0, -1])
def test_a_chunk_has_at_least_one_byte(size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        list(chunked([b"a"], size))


def test_a_chunk_is_handed_on_before_more_is_asked_for() -> None:
    def blocks():
        yield b"abcd"
        raise AssertionError("asked too early")

    assert next(chunked(blocks(), 2)) == b"ab"


def test_chunks_are_due_at_the_pace_of_speech() -> None:
    chunks = list(paced([bytes(8000)], rate=16000, pace=1.0))
    assert [(chunk.due, len(chunk.data)) for chunk in chunks] == [(0.0, 3200), (0.1, 3200), (0.2, 1600)]


def test_at_twice_the_pace_they_are_due_twice_as_early() -> None:
    assert [chunk.due for chunk in paced([bytes(6400)], rate=8000, pace=2.0, chunk_ms=200)] == [0.0, 0.1]


@pytest.mark.parametrize("rate", [8000, 16000])
def test_at_pace_zero_everything_is_due_at_once_in_pieces_of_a_file(rate: int) -> None:
    chunks = list(paced([bytes(10_000)] * 3, rate=rate, pace=0))
    assert FILE_CHUNK == 12_800
    assert [(chunk.due, len(chunk.data)) for chunk in chunks] == [(0.0, 12_800), (0.0, 12_800), (0.0, 4400)]


def test_a_chunk_does_not_keep_its_block_alive() -> None:
    block = bytes(6400)
    chunks = list(chunked([block], 3200))
    assert all(isinstance(chunk, bytes) for chunk in chunks)


def test_a_block_of_the_right_size_is_handed_on_uncopied() -> None:
    blocks = [bytes(3200), bytes(3200)]
    assert [id(chunk) for chunk in chunked(blocks, 3200)] == [id(block) for block in blocks]


def test_a_negative_pace_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="pace=-1"):
        list(paced([b""], rate=16000, pace=-1))
