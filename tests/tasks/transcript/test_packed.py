import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.transcript.packed import BLOCK_BYTES, PackedList

ANY_TEXT = st.text(st.characters(exclude_categories=()))
"""Half surrogate pairs too."""

WORDS = st.fixed_dictionaries(
    {"begin_time": st.integers(), "end_time": st.integers(), "text": ANY_TEXT, "punctuation": ANY_TEXT}
)
SENTENCES = st.fixed_dictionaries(
    {"begin_time": st.integers(), "text": ANY_TEXT, "channel": st.integers(0, 1), "words": st.lists(WORDS, max_size=4)}
)


def packed(values: list[Any]) -> PackedList[Any]:
    found: PackedList[Any] = PackedList()
    for value in values:
        found.append(value)
    return found


@given(st.lists(SENTENCES, max_size=8), st.sampled_from([1, 40]))
def test_what_comes_out_equals_what_went_in(sentences: list[dict[str, Any]], times: int) -> None:
    assert list(packed(sentences * times)) == sentences * times


@pytest.mark.parametrize("text", ["", "\ud83d", "\ude00", "\ud83d\ude00", "\U0001f600", '\x00\n"\\\u2028', "],["])
def test_any_text_comes_back_letter_by_letter(text: str) -> None:
    assert list(packed([text, "x" * BLOCK_BYTES, text])) == [text, "x" * BLOCK_BYTES, text]


def test_nothing_comes_out_of_an_empty_one() -> None:
    assert list(packed([])) == []


def test_order_is_kept_over_many_blocks_and_however_often_it_is_read() -> None:
    numbers = list(range(10_000))
    found = packed(numbers)
    assert list(found) == numbers
    found.append(10_000)
    assert list(found) == [*numbers, 10_000]


def test_a_value_that_json_cannot_carry_is_not_taken() -> None:
    found = packed(["before"])
    with pytest.raises(TypeError):
        found.append(object())
    found.append("after")
    assert list(found) == ["before", "after"]


def test_what_it_tells_of_itself_is_sizes() -> None:
    assert repr(packed(["secret"])) == "<PackedList 9 bytes in 0 blocks>"
    assert "in 1 blocks" in repr(packed(["secret" * BLOCK_BYTES]))


def test_six_hours_of_sentences_take_less_than_two_megabytes() -> None:
    chance = random.Random(4)
    vocabulary = ["".join(chance.choices("abcdefghijklmnoprstuvwy", k=chance.randint(1, 9))) for _ in range(2000)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found: PackedList[Any] = PackedList()
        for n in range(7200):
            found.append(spoken(3000 * n, chance.choices(vocabulary, k=10)))
        assert tracemalloc.get_traced_memory()[0] - before < 2_000_000
    finally:
        tracemalloc.stop()
    assert [one["begin_time"] for one in found] == list(range(0, 3000 * 7200, 3000))


def spoken(begin: int, texts: list[str]) -> dict[str, Any]:
    """Ten words in three seconds."""
    words = [
        {"begin_time": begin + 300 * n, "end_time": begin + 300 * n + 280, "text": text, "punctuation": ""}
        for n, text in enumerate(texts)
    ]
    return {"begin_time": begin, "end_time": begin + 2980, "text": " ".join(texts), "channel": 0, "words": words}
