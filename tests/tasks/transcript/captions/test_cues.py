from itertools import groupby, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.transcript.assemble import Sentence
from tasks.transcript.captions import cues as limits
from tasks.transcript.captions.cues import Cue, cues
from tasks.transcript.captions.writing import NOT_FIRST, NOT_LAST, clean, columns
from tests.tasks.transcript.captions.spoken import SENTENCES, one, told


def lines(*sentences: Sentence) -> list[list[str]]:
    return [cue.lines for cue in cues(sentences)]


def times(*sentences: Sentence) -> list[tuple[int, int]]:
    return [(cue.begin, cue.end) for cue in cues(sentences)]


def channels(made: list[Cue]) -> list[list[Cue]]:
    by_channel = sorted(made, key=lambda cue: cue.channel)
    return [list(own) for _, own in groupby(by_channel, key=lambda cue: cue.channel)]


# -- lines -------------------------------------------------------------------------------------------------------------


def test_a_short_sentence_is_one_line() -> None:
    assert lines(told(0, 3000, "It was the best of times.")) == [["It was the best of times."]]


def test_a_longer_one_is_two_of_about_one_length() -> None:
    text = "The quick brown foxes jumped over lazy dogs yesterday evening."
    assert lines(told(0, 5000, text)) == [["The quick brown foxes jumped", "over lazy dogs yesterday evening."]]


def test_a_line_ends_after_a_comma_rather_than_in_the_middle() -> None:
    text = "As soon as he came home, they sat down at table."
    assert lines(told(0, 5000, text)) == [["As soon as he came home,", "they sat down at table."]]


def test_a_line_begins_with_a_preposition_and_never_ends_with_an_article() -> None:
    text = "They all wanted to stay inside the house of their old grandmother."
    (made,) = lines(told(0, 5000, text))
    assert made == ["They all wanted to stay inside the house", "of their old grandmother."]


def test_a_long_sentence_is_cut_at_its_clauses() -> None:
    text = (
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
        "it was the epoch of belief."
    )
    assert lines(told(0, 11_000, text)) == [
        ["It was the best of times, it was the worst", "of times, it was the age of wisdom,"],
        ["it was the age of foolishness,", "it was the epoch of belief."],
    ]


def test_chinese_is_cut_by_its_width_and_no_line_begins_with_a_mark() -> None:
    text = (
        "欢迎使用语音识别服务，今天我们要介绍的是如何在云端把音频转换成文字，并且生成高质量的字幕文件，供“观众”阅读。"
    )
    assert lines(one(0, 9000, text)) == [
        ["欢迎使用语音识别服务，今天我们要介", "绍的是如何在云端把音频转换成文字，"],
        ["并且生成高质量的字幕文件，供“观众”阅读。"],
    ]


def test_no_chinese_word_is_cut_where_the_words_are_known() -> None:
    words = "今天 我们 要 介绍 的 是 如何 在 云端 把 音频 转换 成 文字 并且 保存".split()
    sentence = told(0, 5000, " ".join(words))
    sentence["text"] = "".join(words)
    (made,) = lines(sentence)
    assert "".join(made) == "".join(words) and len(made) == 2
    assert made[0] in ["".join(words[:count]) for count in range(len(words))]


def test_japanese_keeps_what_sounds_together() -> None:
    text = (
        "「ありがとうございます。」と彼女は言いましたが、ちょっと待ってください、サーバーはまだ起動していませんでした。"
    )
    for made in lines(one(0, 9000, text)):
        assert all(line[0] not in NOT_FIRST and line[-1] not in NOT_LAST for line in made)


@pytest.mark.parametrize("length", [1, 2, 42, 43, 84, 85, 300])
def test_a_word_without_any_place_to_part_is_cut_where_the_line_is_full(length: int) -> None:
    made = [line for cue in lines(one(0, 60_000, "x" * length)) for line in cue]
    assert "".join(made) == "x" * length and all(len(line) <= limits.LINE for line in made)


# -- times -------------------------------------------------------------------------------------------------------------


def test_a_cue_has_the_times_of_its_sentence() -> None:
    assert times(told(990, 4930, "It was the best of times.")) == [(990, 4930)]


def test_a_cue_of_a_part_has_the_times_of_its_words() -> None:
    sentence = told(0, 10_000, "one two three four five, six seven eight nine ten")
    first, second = times(sentence)
    assert first == (0, 5000) and second == (5000, 10_000)


def test_the_limits_are_those_of_the_docs() -> None:
    assert (limits.LINE, limits.LONGEST, limits.SHORTEST, limits.PER_SECOND) == (42, 7000, 1000, 20)
    assert (limits.BLINK, limits.GLIMPSE, limits.SILENCE) == (250, 100, 2000)


def test_a_short_cue_stays_a_second() -> None:
    assert times(told(500, 700, "Yes.")) == [(500, 1500)]


def test_a_cue_that_is_too_fast_stays_until_it_can_be_read() -> None:
    text = "x" * 40
    assert times(one(0, 500, text)) == [(0, 2000)]
    assert times(one(0, 500, "好" * 20)) == [(0, 2000)]


@pytest.mark.parametrize("begin", [600, 999])
def test_but_not_into_the_next_one(begin: int) -> None:
    assert times(one(0, 500, "Yes."), one(begin, 3000, "And no."))[0] == (0, begin)


def test_a_gap_that_would_flicker_is_closed_and_a_longer_one_is_not() -> None:
    assert times(one(0, 2000, "Yes."), one(2249, 4000, "No."))[0] == (0, 2249)
    assert times(one(0, 2000, "Yes."), one(2250, 4000, "No."))[0] == (0, 2000)


def test_a_sentence_that_was_given_no_time_is_seen_and_the_next_one_waits() -> None:
    assert times(one(100, 100, "Yes."), one(100, 2000, "No.")) == [(100, 200), (200, 2000)]


def test_no_cue_stays_longer_than_seven_seconds() -> None:
    assert times(one(0, 60_000, "Well.")) == [(0, 7000)]
    assert all(end - begin <= 7000 for begin, end in times(told(0, 60_000, "one two three four five six seven eight")))


def test_what_is_said_after_a_silence_is_not_shown_before() -> None:
    sentence = told(0, 1000, "And the winner is")
    sentence["text"] += " you"
    sentence["end_time"] = 4000
    sentence["words"].append({"begin_time": 3500, "end_time": 4000, "text": "you", "punctuation": ""})
    assert [(cue.begin, cue.lines) for cue in cues([sentence])] == [(0, ["And the winner is"]), (3500, ["you"])]


def test_channels_may_overlap_and_are_told_in_order_of_time() -> None:
    made = cues([one(0, 5000, "a", 1), one(1000, 2000, "b", 0), one(0, 900, "c", 0)])
    assert [(cue.begin, cue.end, cue.channel) for cue in made] == [(0, 1000, 0), (0, 5000, 1), (1000, 2000, 0)]


# -- whatever is said --------------------------------------------------------------------------------------------------


@given(SENTENCES)
@example([one(0, 0, "a"), one(0, 0, "b")])
def test_nothing_is_lost_and_nothing_is_out_of_order(sentences: list[Sentence]) -> None:
    for channel in (0, 1):
        own = sorted((one for one in sentences if one["channel"] == channel), key=lambda one: one["begin_time"])
        made = [cue for cue in cues(own) if cue.channel == channel]
        said = "".join(clean(sentence["text"]) for sentence in own).replace(" ", "")
        shown = "".join("".join(cue.lines) for cue in made).replace(" ", "")
        assert shown == said


@given(SENTENCES, st.sampled_from([0, 4]))
def test_lines_and_times_keep_to_the_limits(sentences: list[Sentence], reserved: int) -> None:
    made = cues(sentences, reserved)
    assert [cue.begin for cue in made] == sorted(cue.begin for cue in made)
    for cue in made:
        assert 1 <= len(cue.lines) <= 2 and all(line and line == line.strip() for line in cue.lines)
        assert all(columns(line) <= 42 - reserved for line in cue.lines)
        assert 0 <= cue.begin < cue.end <= cue.begin + 7000
    for own in channels(made):
        for cue, following in pairwise(own):
            wanted = max(1000, 50 * sum(map(columns, cue.lines)))
            assert cue.end <= following.begin
            assert cue.end >= min(following.begin, cue.begin + wanted)
