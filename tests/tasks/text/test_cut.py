import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.cut import cut, joined

ANY = st.text(st.sampled_from('ab c.。！?\n\t，,"”é字😀'), max_size=400)
SENTENCES = st.lists(st.integers(1, 12), min_size=1, max_size=120).map(
    lambda lengths: "".join(f"{' '.join(['word'] * length)}. " for length in lengths)
)


@given(ANY, st.integers(1, 60))
def test_the_parts_together_are_the_text_and_none_is_too_long_or_empty(text: str, most: int) -> None:
    parts = cut(text, most)
    assert "".join(parts) == text
    assert all(0 < len(part) <= most for part in parts)


@given(ANY, st.integers(1, 60))
def test_there_are_not_many_more_parts_than_there_must_be(text: str, most: int) -> None:
    fewest = math.ceil(len(text) / most)
    assert fewest <= len(cut(text, most)) <= max(fewest, 2 * fewest)


@given(SENTENCES)
def test_sentences_stay_whole_and_parts_are_about_equal(text: str) -> None:
    parts = cut(text, 300)
    assert all(part.endswith(". ") for part in parts)
    if len(parts) > 1:
        assert max(map(len, parts)) <= 3 * min(map(len, parts))


@pytest.mark.parametrize(
    ("text", "most", "parts"),
    [
        ("", 5, []),
        ("abc", 3, ["abc"]),
        ("abcd", 3, ["ab", "cd"]),
        ("One two. Three four.", 12, ["One two. ", "Three four."]),
        ("One two.\n\nThree. four five", 16, ["One two.\n\n", "Three. four five"]),
        ("One, two\nThree four five", 16, ["One, two\n", "Three four five"]),
        ("今天很好。我们去公园。", 6, ["今天很好。", "我们去公园。"]),
        ("他说“走吧。”然后走了。", 8, ["他说“走吧。”", "然后走了。"]),
        ("今天很好，我们去公园", 6, ["今天很好，", "我们去公园"]),
        ('He said "Go." She went', 16, ['He said "Go." ', "She went"]),
        ("It costs 3.50 dollars", 14, ["It costs ", "3.50 dollars"]),
        ("one two three four", 12, ["one two ", "three four"]),
    ],
)
def test_a_part_ends_at_the_best_place(text: str, most: int, parts: list[str]) -> None:
    assert cut(text, most) == parts


def test_a_paragraph_is_a_better_end_than_a_line_and_a_line_than_a_sentence() -> None:
    text = "aaaa. aaaa\naaaa.\n\naaaa. aaaa\naaaa. aaaa"
    assert cut(text, 30)[0] == "aaaa. aaaa\naaaa.\n\n"


@pytest.mark.parametrize(
    ("parts", "answers", "text"),
    [
        ([], [], ""),
        (["a."], [" One. "], "One."),
        (["a. ", "b."], ["One.", "Two."], "One. Two."),
        (["a.\n", "b."], ["One.\n", "Two."], "One.\nTwo."),
        (["a.\n\n\n", "b."], ["One.", "Two."], "One.\n\nTwo."),
        (["好。", "好。"], ["很好。", "很好。"], "很好。很好。"),
        (["好。", "好。"], ["Good.", "Good."], "Good. Good."),
        (["好。", "好。"], ["좋습니다.", "좋습니다."], "좋습니다. 좋습니다."),
        (["a. ", "b. ", "c."], ["One.", "", "Three."], "One. Three."),
    ],
)
def test_answers_are_joined_as_their_parts_were(parts: list[str], answers: list[str], text: str) -> None:
    assert joined(parts, answers) == text


@given(st.lists(st.text(st.sampled_from("ab字. \n"), max_size=20), max_size=6))
def test_no_answer_is_lost_when_they_are_joined(answers: list[str]) -> None:
    whole = "".join(joined(["x"] * len(answers), answers).split())
    assert whole == "".join("".join(answers).split())
