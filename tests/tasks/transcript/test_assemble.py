from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.transcript.assemble import Sentence, Timeline, joined
from worker.recognition import Sentence as Heard
from worker.recognition import Word

ALL = 10**9
"""More than any recording: everything was sent."""


def said(begin: int, end: int, text: str, *words: Word) -> Heard:
    return Heard(begin_time=begin, end_time=end, text=text, words=words)


def times(sentence: Sentence | None) -> tuple[int, int]:
    assert sentence is not None
    return sentence["begin_time"], sentence["end_time"]


# -- one sentence ------------------------------------------------------------------------------------------------------


def test_a_sentence_keeps_its_times_words_and_channel() -> None:
    heard = said(
        10, 90, " It was. ", Word(begin_time=10, end_time=40, text="It", punctuation=""), Word(40, 90, "was", ".")
    )
    assert Timeline(channel=1).add(heard, ALL) == {
        "begin_time": 10,
        "end_time": 90,
        "text": "It was.",
        "channel": 1,
        "words": [
            {"begin_time": 10, "end_time": 40, "text": "It", "punctuation": ""},
            {"begin_time": 40, "end_time": 90, "text": "was", "punctuation": "."},
        ],
    }


def test_the_times_of_a_later_stream_are_those_of_the_recording() -> None:
    timeline = Timeline(begin_ms=5000)
    assert timeline.end_ms == 5000
    sentence = timeline.add(said(10, 90, "It", Word(20, 80, "It", "")), ALL)
    assert sentence is not None and times(sentence) == (5010, 5090)
    assert (sentence["words"][0]["begin_time"], sentence["words"][0]["end_time"]) == (5020, 5080)
    assert timeline.end_ms == 5090


@pytest.mark.parametrize("begin_ms", [0, 5000])
def test_a_sentence_without_text_is_dropped(begin_ms: int) -> None:
    timeline = Timeline(begin_ms)
    assert timeline.add(said(0, 5, "  "), ALL) is None and timeline.end_ms == begin_ms


def test_a_sentence_that_begins_before_the_last_ended_begins_there() -> None:
    timeline = Timeline()
    timeline.add(said(0, 100, "one"), ALL)
    late = timeline.add(said(80, 90, "two", Word(80, 90, "two", "")), ALL)
    assert late is not None and times(late) == (100, 100)
    assert (late["words"][0]["begin_time"], late["words"][0]["end_time"]) == (100, 100)


def test_what_was_not_sent_was_not_heard() -> None:
    timeline = Timeline(begin_ms=5000)
    sentence = timeline.add(said(100, 900, "One two", Word(100, 400, "One", ""), Word(500, 900, "two", "")), 5600)
    assert sentence is not None and times(sentence) == (5100, 5600)
    assert [(word["begin_time"], word["end_time"]) for word in sentence["words"]] == [(5100, 5400), (5500, 5600)]
    assert timeline.end_ms == 5600
    assert times(timeline.add(said(600, 700, "three"), 5650)) == (5600, 5650)


def test_a_count_of_what_was_sent_that_goes_back_takes_nothing_back() -> None:
    timeline = Timeline()
    timeline.add(said(0, 500, "One"), 500)
    assert times(timeline.add(said(500, 900, "two"), 400)) == (500, 500)


def test_an_open_sentence_is_shown_as_far_as_it_was_heard_and_moves_nothing() -> None:
    timeline = Timeline(begin_ms=5000)
    shown = timeline.shown(said(100, 900, " One "), 5600)
    assert times(shown) == (5100, 5600) and shown["text"] == "One"
    assert timeline.end_ms == 5000
    assert times(timeline.add(said(100, 300, "One."), 5600)) == (5100, 5300)


@given(
    st.integers(0, 5_000),
    st.lists(st.tuples(st.integers(-9_000, 9_000), st.integers(-9_000, 9_000), st.integers(0, 9_000)), max_size=20),
)
def test_whatever_the_service_s_clock_does_sentences_never_overlap_nor_run_backwards(
    begin_ms: int, heard: list[tuple[int, int, int]]
) -> None:
    timeline, sent = Timeline(begin_ms), begin_ms
    spans: list[tuple[int, int]] = []
    for begin, end, more in heard:
        sent += more
        word = Word(end, begin, "x", "")
        sentence = timeline.add(said(begin, end, "x", word), sent)
        assert sentence is not None
        spans.append(times(sentence))
        first, last = sentence["words"][0]["begin_time"], sentence["words"][0]["end_time"]
        assert begin_ms <= first <= last <= sent
        assert timeline.end_ms == spans[-1][1] <= sent
    assert all(begin_ms <= begin <= end for begin, end in spans)
    assert all(early[1] <= late[0] for early, late in zip(spans, spans[1:], strict=False))


def test_sentences_are_joined_with_a_space_but_not_beside_chinese() -> None:
    timeline = Timeline()
    texts = ["One.", "Two.", "三。", "四。", "Five."]
    sentences = [timeline.add(said(n, n, text), ALL) for n, text in enumerate(texts)]
    assert joined(one for one in sentences if one) == "One. Two.三。四。Five."
    assert joined([]) == ""


# -- a recording that is cut at random moments -------------------------------------------------------------------------


@dataclass(frozen=True)
class Spoken:
    """What is truly said in a recording, and when."""

    begin: int
    end: int
    text: str


@dataclass(frozen=True)
class Cut:
    """A stream breaks when so much of it was sent, and so many of its sentences have come."""

    sent: int
    come: int


@st.composite
def recordings(draw: Any) -> tuple[list[Spoken], int]:
    """Sentences, with silences between them, also none; and where the recording ends. Small numbers, so that many
    moments fall together.
    """
    at, found = 0, []
    for number in range(draw(st.integers(0, 10))):
        at += draw(st.integers(0, 30))
        length = draw(st.integers(1, 40))
        found.append(Spoken(at, at + length, f"s{number}"))
        at += length
    return found, at + draw(st.integers(0, 30))


CUTS = st.lists(st.builds(Cut, sent=st.integers(0, 120), come=st.integers(0, 4)), max_size=12)


def heard_of(spoken: list[Spoken], begin: int, sent: int, noise: int) -> list[Heard]:
    """What a service hears in a stream that begins here and was sent so far: the sentences that lie wholly in it, in
    its own time. Of the last one it believes that it goes on a little longer, if no other had begun: even beyond what
    was sent.
    """
    whole = [one for one in spoken if begin <= one.begin and one.end <= sent]
    goes_on = not any(one.begin < sent < one.end for one in spoken)
    found = []
    for one in whole:
        first, last = one.begin - begin, one.end - begin + (noise if goes_on and one is whole[-1] else 0)
        found.append(said(first, last, one.text, Word(first, last, one.text, "")))
    return found


def transcribed(spoken: list[Spoken], end: int, cuts: list[Cut], noise: int) -> list[Sentence]:
    """Stream after stream, each from the end of the last sentence; the one after the last cut comes to the end."""
    found: list[Sentence] = []
    begin = 0
    for cut in [*cuts, None]:
        timeline = Timeline(begin)
        sent = end if cut is None else min(end, begin + cut.sent)
        for one in heard_of(spoken, begin, sent, noise)[: cut.come if cut else None]:
            sentence = timeline.add(one, sent)
            assert sentence is not None
            found.append(sentence)
        begin = timeline.end_ms
    return found


@given(recordings(), CUTS, st.integers(0, 5))
@example(([Spoken(0, 30, "s0"), Spoken(30, 50, "s1")], 50), [Cut(30, 1)], 5)  # right between the two
@example(([Spoken(0, 30, "s0"), Spoken(32, 50, "s1")], 50), [Cut(31, 1)], 5)
def test_a_recording_that_is_cut_at_any_moments_has_each_sentence_once_and_at_its_time(
    recording: tuple[list[Spoken], int], cuts: list[Cut], noise: int
) -> None:
    spoken, end = recording

    found = transcribed(spoken, end, cuts, noise)

    assert [one["text"] for one in found] == [one.text for one in spoken]
    for one, true in zip(found, spoken, strict=True):
        assert one["begin_time"] == true.begin and true.end <= one["end_time"] <= min(true.end + noise, end)
        assert [(word["begin_time"], word["end_time"]) for word in one["words"]] == [times(one)]
    assert all(early["end_time"] <= late["begin_time"] for early, late in zip(found, found[1:], strict=False))
    assert all(0 <= one["begin_time"] <= one["end_time"] <= end for one in found)
