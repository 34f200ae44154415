import html
import json
from pathlib import Path
from typing import NamedTuple

import pysubs2
import pytest
import webvtt
from hypothesis import given

from tasks.transcript.assemble import Sentence
from tasks.transcript.captions import FORMS, render
from tasks.transcript.captions.cues import cues
from tasks.transcript.captions.writing import clean
from tests.tasks.transcript.captions.spoken import SENTENCES, one, told

CALL = [told(990, 4930, "Good morning, how can I help?"), told(3_605_000, 3_606_500, "Hello & <welcome>.", 1)]
MONO = [told(990, 4930, "It was the best of times."), told(5000, 6500, "It was the worst.")]
LAST = one(10**7, 10**7 + 1000, "The end.")
"""pysubs2 takes a number at the end of a file for that of a cue."""


class Read(NamedTuple):
    begin: int
    end: int
    text: str


def made(sentences: list[Sentence]) -> list[Read]:
    return [Read(cue.begin, cue.end, "\n".join(cue.lines)) for cue in cues(sentences)]


def by_pysubs2(text: str, form: str) -> list[Read]:
    found = pysubs2.SSAFile.from_string(text, format_=form)
    return [Read(event.start, event.end, event.text.replace("\\N", "\n")) for event in found]


def by_webvtt(text: str) -> list[Read]:
    return [
        Read(cue.start_time.in_milliseconds(), cue.end_time.in_milliseconds(), html.unescape(cue.text))
        for cue in webvtt.from_string(text, strict=True).captions
    ]


def mono(sentences: list[Sentence]) -> list[Sentence]:
    return [sentence | {"channel": 0} for sentence in sentences]


# -- what others read --------------------------------------------------------------------------------------------------


@given(SENTENCES)
def test_pysubs2_reads_the_cues_of_subrip(sentences: list[Sentence]) -> None:
    sentences = [*mono(sentences), LAST]
    found = by_pysubs2(render("srt", sentences), "srt")
    # It has a backslash and an N for a line's end; so may the text.
    wanted = [cue._replace(text=cue.text.replace("\\N", "\n")) for cue in made(sentences)]
    assert [cue._replace(text=cue.text.replace("\u2060", "")) for cue in found] == [
        cue._replace(text=cue.text.replace("\u2060", "")) for cue in wanted
    ]


@given(SENTENCES)
def test_pysubs2_reads_the_cues_of_webvtt(sentences: list[Sentence]) -> None:
    sentences = [*mono(sentences), LAST]
    found = by_pysubs2(render("vtt", sentences), "vtt")
    wanted = [cue._replace(text=cue.text.replace("\\N", "\n")) for cue in made(sentences)]
    assert [cue._replace(text=html.unescape(cue.text)) for cue in found] == wanted


@given(SENTENCES)
def test_webvtt_py_reads_the_cues_of_webvtt(sentences: list[Sentence]) -> None:
    sentences = mono(sentences)
    assert by_webvtt(render("vtt", sentences)) == made(sentences)


@given(SENTENCES)
def test_any_transcript_can_be_written_in_any_form(sentences: list[Sentence]) -> None:
    for form in FORMS:
        text = render(form, sentences)
        assert text.encode().decode() == text
        assert (text.endswith("\n") or not cues(sentences)) and "\r" not in text
    rows = render("tsv", sentences).split("\n")[1:-1]
    assert [row.split("\t")[:2] for row in rows] == [
        [str(s["begin_time"]), str(s["end_time"])] for s in sentences if clean(s["text"])
    ]
    assert len({row.count("\t") for row in rows}) <= 1


# -- what is in them ---------------------------------------------------------------------------------------------------


def test_plain_text_is_the_whole_on_one_line() -> None:
    assert render("txt", MONO) == "It was the best of times. It was the worst.\n"


def test_plain_text_of_a_call_is_a_line_for_each_turn() -> None:
    turns = [told(0, 1, "One."), told(1, 2, "Two."), told(2, 3, "Three.", 1), told(3, 4, "Four.")]
    assert render("txt", turns) == "[1] One. Two.\n[2] Three.\n[1] Four.\n"


def test_subrip() -> None:
    assert render("srt", MONO) == (
        "1\n00:00:00,990 --> 00:00:05,000\nIt was the best of times.\n\n"
        "2\n00:00:05,000 --> 00:00:06,500\nIt was the worst.\n\n"
    )


def test_subrip_of_a_real_recording() -> None:
    # Its punctuation is the model's.
    sentences = json.loads(Path(__file__).with_name("two_cities.json").read_text(encoding="utf-8"))
    assert by_pysubs2(render("srt", sentences), "srt") == [
        Read(28_920, 32_600, "In short,, the period was so far\nlike the present period,"),
        Read(32_600, 36_760, "That some of its noisiest authorities\ninsisted on its being received,"),
        Read(36_760, 41_820, "For good or for evil in the superlative\ndegree of compassion only."),
    ]


def test_webvtt() -> None:
    assert render("vtt", MONO[1:]) == "WEBVTT\n\n1\n00:00:05.000 --> 00:00:06.500\nIt was the worst.\n\n"


def test_a_table_has_a_sentence_a_row_as_whisper_writes_it() -> None:
    rows = "990\t4930\tIt was the best of times.\n5000\t6500\tIt was the worst.\n"
    assert render("tsv", MONO) == "start\tend\ttext\n" + rows
    assert render("tsv", [one(1, 2, "a\tb\nc")]) == "start\tend\ttext\n1\t2\ta b c\n"


def test_of_several_channels_each_is_named() -> None:
    srt, vtt, tsv = (render(form, CALL) for form in ("srt", "vtt", "tsv"))
    assert "[1] Good morning, how can I help?" in srt and "01:00:05,000 --> 01:00:06,500\n[2] Hello" in srt
    assert "<v Channel 1>Good morning, how can I help?" in vtt and "<v Channel 2>Hello &amp; &lt;welcome&gt;." in vtt
    assert [cue.text for cue in by_webvtt(vtt)] == ["Good morning, how can I help?", "Hello & <welcome>."]
    assert [cue.voice for cue in webvtt.from_string(vtt).captions] == ["Channel 1", "Channel 2"]
    assert tsv.splitlines()[0] == "start\tend\ttext\tchannel"
    assert [row.rsplit("\t", 1)[1] for row in tsv.splitlines()[1:]] == ["1", "2"]


def test_one_who_is_alone_on_the_second_channel_is_named() -> None:
    assert render("txt", CALL[1:]) == "[2] Hello & <welcome>.\n"


def test_a_name_is_within_the_limit_of_a_line() -> None:
    srt = render("srt", [told(0, 4000, "It was the best of times, it was the worst.", 9)])
    assert max(map(len, srt.splitlines())) <= 42


@pytest.mark.parametrize(
    ("form", "nothing"), [("txt", "\n"), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("tsv", "start\tend\ttext\n")]
)
def test_of_a_silent_recording_there_is_a_valid_file(form: str, nothing: str) -> None:
    assert render(form, []) == nothing
    assert by_webvtt(render("vtt", [])) == by_pysubs2(render("srt", []), "srt") == []


def test_hours_may_have_three_digits() -> None:
    late = [one(360_000_000, 360_001_500, "Late.")]
    assert "100:00:00,000 --> 100:00:01,500" in render("srt", late)
    assert by_webvtt(render("vtt", late)) == [Read(360_000_000, 360_001_500, "Late.")]


@pytest.mark.parametrize("text", ["a --> b", "<i>no tag</i>", "a < b and c > d", "{\\an8}", "-->"])
def test_what_is_markup_elsewhere_is_text_in_subrip(text: str) -> None:
    (found,) = by_pysubs2(render("srt", [one(0, 2000, text)]), "srt")
    assert found == Read(0, 2000, text.replace("<", "<\u2060").replace("-->", "--\u2060>").replace("{\\", "{\u2060\\"))


def test_there_are_four_forms() -> None:
    assert FORMS == ("txt", "srt", "vtt", "tsv")
