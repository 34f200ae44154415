from hypothesis import given
from hypothesis import strategies as st

from tasks.transcript.assemble import Timeline, joined
from worker.recognition import Sentence, Word


def said(begin: int, end: int, text: str, *words: Word) -> Sentence:
    return Sentence(begin_time=begin, end_time=end, text=text, words=words)


def test_a_sentence_keeps_its_times_words_and_channel() -> None:
    heard = said(
        10, 90, " It was. ", Word(begin_time=10, end_time=40, text="It", punctuation=""), Word(40, 90, "was", ".")
    )
    assert Timeline(channel=1).add(heard) == {
        "begin_time": 10,
        "end_time": 90,
        "text": "It was.",
        "channel": 1,
        "words": [
            {"begin_time": 10, "end_time": 40, "text": "It", "punctuation": ""},
            {"begin_time": 40, "end_time": 90, "text": "was", "punctuation": "."},
        ],
    }


def test_a_sentence_without_text_is_dropped() -> None:
    timeline = Timeline()
    assert timeline.add(said(0, 5, "  ")) is None
    assert timeline.sentences == [] and timeline.end_ms == 0


def test_a_sentence_that_begins_before_the_last_ended_begins_there() -> None:
    timeline = Timeline()
    timeline.add(said(0, 100, "one"))
    late = timeline.add(said(80, 90, "two", Word(80, 90, "two", "")))
    assert late is not None
    assert (late["begin_time"], late["end_time"]) == (100, 100)
    assert (late["words"][0]["begin_time"], late["words"][0]["end_time"]) == (100, 100)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), max_size=20))
def test_sentences_never_overlap_and_never_run_backwards(times: list[tuple[int, int]]) -> None:
    timeline = Timeline()
    for begin, end in times:
        timeline.add(said(begin, end, "x"))
    spans = [(one["begin_time"], one["end_time"]) for one in timeline.sentences]
    assert len(spans) == len(times)
    assert all(begin <= end for begin, end in spans)
    assert all(early[1] <= late[0] for early, late in zip(spans, spans[1:], strict=False))


def test_sentences_are_joined_with_a_space_but_not_beside_chinese() -> None:
    timeline = Timeline()
    for n, text in enumerate(["One.", "Two.", "三。", "四。", "Five."]):
        timeline.add(said(n, n, text))
    assert joined(timeline.sentences) == "One. Two.三。四。Five."
    assert joined([]) == ""
