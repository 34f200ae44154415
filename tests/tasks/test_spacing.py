import pytest

from tasks.spacing import space_between


@pytest.mark.parametrize(
    ("left", "right", "between"),
    [
        ("One.", "Two.", " "),
        ("三。", "四。", ""),
        ("Good", "好", ""),
        ("ありがとう", "カタカナ", ""),
        ("｢半角｣", "ｶﾅ", " "),  # as narrow as Latin
        ("안녕하세요", "반갑습니다", " "),
        ("안녕하세요.", "One.", " "),
        ("ᄀ", "ㄱ", " "),
        ("好", "안녕", ""),
        ("Well done 👍", "Next.", " "),
    ],
)
def test_words_stand_apart_but_in_chinese_and_japanese(left: str, right: str, between: str) -> None:
    assert space_between(left, right) == between
