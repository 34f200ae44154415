import pytest

from tasks.transcript.assemble import Sentence, Word
from tasks.transcript.captions.pieces import pieces


def word(begin: int, end: int, text: str, punctuation: str = "") -> Word:
    return Word(begin_time=begin, end_time=end, text=text, punctuation=punctuation)


def said(text: str, *words: Word, begin: int = 0, end: int = 1000) -> Sentence:
    return Sentence(begin_time=begin, end_time=end, text=text, channel=0, words=list(words))


def texts(sentence: Sentence, line: int = 42) -> list[str]:
    return [" " * piece.spaced + piece.text for piece in pieces(sentence, line)]


def times(sentence: Sentence) -> list[tuple[int, int]]:
    return [(piece.begin, piece.end) for piece in pieces(sentence, 42)]


# -- what stays together -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" Well,  then. ", ["Well,", " then."]),
        ("Non , merci !", ["Non ,", " merci !"]),
        ("Il dit « oui » deux fois", ["Il", " dit", " « oui »", " deux", " fois"]),
        ("( a ) b", ["( a )", " b"]),
        ("你好，世界。", ["你", "好，", "世", "界。"]),
        ("我用Python写", ["我", "用", "Python", "写"]),
        ("「ちょっと」と", ["「ちょっ", "と」", "と"]),
        ("안녕 여러분", ["안녕", " 여러분"]),
    ],
)
def test_a_text_parts_at_spaces_and_beside_chinese_and_japanese(text: str, expected: list[str]) -> None:
    assert texts(said(text)) == expected


def test_a_chinese_word_that_the_service_told_stays_together() -> None:
    sentence = said("欢迎使用服务。", word(0, 100, "欢迎"), word(100, 200, "使用"), word(200, 300, "服务", "。"))
    assert texts(sentence) == ["欢迎", "使用", "服务。"]


def test_what_the_service_tells_as_a_very_long_word_does_not() -> None:
    assert texts(said("欢迎使用语音识别", word(0, 100, "欢迎使用语音识别"))) == ["欢迎使用语音识别"]
    assert len(texts(said("欢迎使用语音识别吧", word(0, 100, "欢迎使用语音识别吧")))) == 9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abcdefghij", ["abcd", "efgh", "ij"]),
        ("。。。。。", ["。。", "。。", "。"]),
        ("ab ! !", ["ab !", " !"]),
        ("a\u0301\u0301\u0301\u0301\u0301b", ["a\u0301\u0301\u0301\u0301\u0301b"]),
    ],
)
def test_no_piece_is_longer_than_a_line(text: str, expected: list[str]) -> None:
    assert texts(said(text), line=4) == expected


# -- when it was said --------------------------------------------------------------------------------------------------


def test_a_piece_has_the_times_of_its_word() -> None:
    sentence = said("It was.", word(10, 200, "It"), word(300, 900, "was", "."))
    assert times(sentence) == [(10, 200), (300, 900)]


def test_a_part_of_a_word_has_its_share_of_the_word_s_time() -> None:
    assert times(said("你好吗", word(100, 400, "你好吗"))) == [(100, 400)]
    assert times(said("一二三四五六七八九", word(0, 900, "一二三四五六七八九")))[:2] == [(0, 100), (100, 200)]


def test_without_words_the_letters_share_the_time_of_the_sentence() -> None:
    assert times(said("ab cd", begin=100, end=500)) == [(100, 300), (300, 500)]


def test_where_the_words_spell_another_text_the_letters_share_the_time_between_those_that_agree() -> None:
    words = [
        word(0, 100, "I"),
        word(100, 200, "have"),
        word(300, 400, "twenty"),
        word(400, 700, "three"),
        word(800, 900, "cats"),
    ]
    assert times(said("I have 23 cats", *words)) == [(0, 100), (100, 200), (200, 800), (800, 900)]


def test_words_of_quite_another_text_tell_nothing() -> None:
    assert times(said("ab cd", word(0, 10, "x"), word(10, 20, "y"))) == [(0, 500), (500, 1000)]


def test_times_that_run_backwards_or_out_of_the_sentence_are_held() -> None:
    words = [word(-5, 600, "a"), word(300, 200, "b"), word(700, 5000, "c"), word(9000, 9999, "d")]
    assert times(said("a b c d", *words)) == [(0, 600), (600, 600), (700, 1000), (1000, 1000)]


def test_a_sentence_that_ends_before_it_begins_has_no_time() -> None:
    assert times(said("a b", word(9, 10, "a"), begin=500, end=100)) == [(500, 500), (500, 500)]
