import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.audio.pacing import FILE_CHUNK, Paced
from worker.recognition import Chunk


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40))
def test_nothing_is_lost_and_only_the_last_chunk_is_shorter(blocks: list[bytes], samples: int) -> None:
    chunks = [chunk.data for chunk in Paced(blocks, rate=samples * 10, pace=1.0)]
    assert b"".join(chunks) == b"".join(blocks)
    assert all(len(chunk) == 2 * samples for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= 2 * samples for chunk in chunks)


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 20), st.lists(st.booleans()))
def test_whoever_takes_the_next_chunk_they_come_in_order_once_and_at_their_moments(
    blocks: list[bytes], samples: int, chances: list[bool]
) -> None:
    left, chance = list(blocks), itertools.chain(chances, itertools.repeat(False))

    def rest() -> Iterator[bytes]:
        while left:
            yield left.pop(0)

    def ready() -> bytes:
        at_hand = next(chance)
        return left.pop(0) if left and at_hand else b""

    paced, chunks = Paced(rest(), ready, rate=samples * 10, pace=1.0), []
    while True:
        if next(chance):
            chunks += paced.ready()
        elif (chunk := next(paced, None)) is not None:
            chunks.append(chunk)
        else:
            break
    assert [(chunk.due, chunk.data) for chunk in chunks] == [
        (chunk.due, chunk.data) for chunk in Paced(blocks, rate=samples * 10, pace=1.0)
    ]


def test_of_a_source_that_has_nothing_at_hand_there_is_nothing_ready() -> None:
    paced = Paced([bytes(6400)], rate=16000, pace=1.0)
    assert paced.ready() == []
    assert next(paced).due == 0.0
    assert [chunk.due for chunk in paced.ready()] == [0.1]  # came with the block that was waited for


def test_a_chunk_is_handed_on_before_more_is_asked_for() -> None:
    def blocks() -> Iterator[bytes]:
        yield b"abcd"
        raise AssertionError("asked too early")

    assert next(Paced(blocks(), rate=10, pace=1.0)).data == b"ab"


def test_chunks_are_due_at_the_pace_of_speech() -> None:
    chunks = list(Paced([bytes(8000)], rate=16000, pace=1.0))
    assert [(chunk.due, len(chunk.data)) for chunk in chunks] == [(0.0, 3200), (0.1, 3200), (0.2, 1600)]


def test_at_twice_the_pace_they_are_due_twice_as_early() -> None:
    assert [chunk.due for chunk in Paced([bytes(6400)], rate=8000, pace=2.0, chunk_ms=200)] == [0.0, 0.1]


@pytest.mark.parametrize("rate", [8000, 16000])
def test_at_pace_zero_everything_is_due_at_once_in_pieces_of_a_file(rate: int) -> None:
    chunks = list(Paced([bytes(10_000)] * 3, rate=rate, pace=0))
    assert FILE_CHUNK == 12_800
    assert [(chunk.due, len(chunk.data)) for chunk in chunks] == [(0.0, 12_800), (0.0, 12_800), (0.0, 4400)]


def test_a_chunk_does_not_keep_its_block_alive() -> None:
    assert all(isinstance(chunk.data, bytes) for chunk in Paced([bytes(6400)], rate=16000, pace=1.0))


def test_a_block_of_the_right_size_is_handed_on_uncopied() -> None:
    blocks = [bytes(3200), bytes(3200)]
    assert [id(chunk.data) for chunk in Paced(blocks, rate=16000, pace=1.0)] == [id(block) for block in blocks]


@pytest.mark.parametrize("chunk_ms", [0, -1])
def test_a_chunk_has_at_least_one_sample(chunk_ms: int) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        Paced([b"ab"], rate=16000, pace=1.0, chunk_ms=chunk_ms)


def test_a_negative_pace_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="pace=-1"):
        Paced([b""], rate=16000, pace=-1)


def test_who_begins_gets_to_the_first_sound_and_loses_none_of_it() -> None:
    looks: list[int] = []
    blocks = iter([b"", b"", b"ab" * 8, b"cd" * 8])
    paced = Paced(blocks, rate=80, pace=1)
    paced.begin(lambda: looks.append(1))
    assert len(looks) == 3 and next(blocks) == b"cd" * 8
    assert paced.ready() == [Chunk(0.0, b"ab" * 8)] and list(paced) == []


def test_who_begins_at_the_end_finds_nothing_and_who_is_to_stop_is_heard() -> None:
    paced = Paced(iter([b""]), rate=80, pace=1)
    paced.begin(lambda: None)
    assert list(paced) == []

    def stopped() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Paced(iter([b"ab"]), rate=80, pace=1).begin(stopped)
