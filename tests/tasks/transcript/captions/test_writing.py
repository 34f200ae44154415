import pytest
from rich.cells import cell_len

from tasks.transcript.captions.writing import clean, columns, may_part, weakness


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t b\r\nc ", "a b c"),
        ("a\u2028b\u3000c\xa0d", "a b c d"),
        ("a\x00b\x1b[2Jc\x85d", "a b [2Jc d"),
        ("a\ud83db\ude00", "a\ufffdb\ufffd"),
        ("\U0001f600 é", "\U0001f600 é"),
        ("", ""),
    ],
)
def test_a_text_becomes_words_that_any_file_can_hold(text: str, expected: str) -> None:
    assert clean(text) == expected
    clean(text).encode()


@pytest.mark.parametrize(
    "text", ["", "Hello, world.", "你好，世界。", "「はい」", "안녕하세요", "e\u0301", "ｱｲｳ", "Ｆｕｌｌ"]
)
def test_a_text_is_as_wide_as_on_a_terminal(text: str) -> None:
    assert columns(text) == cell_len(text)


@pytest.mark.parametrize("pair", ["你好", "かな", "a你", "你a", "，a", "。你", "」と", "は「", "说“", "🙂🙂"])
def test_a_line_may_end_beside_chinese_and_japanese(pair: str) -> None:
    assert may_part(*pair)


@pytest.mark.parametrize(
    "pair",
    [
        "ab",
        "a-",
        "한국",
        "好，",
        "好。",
        "ょっ",
        "タ」",
        "サー",
        "「は",
        "“你",
        "（a",
        "か\u3099",
        "👍🏽",
        "👩\u200d",
        "\u200d👩",
    ],
)
def test_a_line_may_not_end_within_a_word_nor_before_what_closes_nor_after_what_opens(pair: str) -> None:
    assert not may_part(*pair)


@pytest.mark.parametrize(
    ("left", "right", "silence", "expected"),
    [
        ("done.", "Then", 0, 0),
        ("done.”)", "Then", 0, 0),
        ("好。", "我", 0, 0),
        ("well,", "then", 0, 1),
        ("好，", "我", 0, 1),
        ("well", "then", 300, 1),
        ("well", "then", 299, 6),
        ("went", "to", 0, 3),
        ("the", "man", 0, 10),
        ("The", "of", 0, 10),
        ('"', "a", 0, 6),
    ],
)
def test_a_line_ends_best_after_a_sentence_and_worst_after_an_article(
    left: str, right: str, silence: int, expected: int
) -> None:
    assert weakness(left, right, silence) == expected
