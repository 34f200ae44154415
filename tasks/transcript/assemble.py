"""From what the service said to a transcript. Pure."""

from collections.abc import Iterable
from typing import TypedDict

from tasks.spacing import space_between
from worker.recognition import Sentence as HeardSentence


class Word(TypedDict):
    """A word; times in milliseconds from the start of the recording."""

    begin_time: int
    end_time: int
    text: str
    punctuation: str


class Sentence(TypedDict):
    """A finished sentence; times in milliseconds from the start of the recording."""

    begin_time: int
    end_time: int
    text: str
    channel: int
    words: list[Word]


class Timeline:
    """One channel's sentences as one stream after the other tells them: in time order, never overlapping, whatever the
    service's clock did.

    A stream counts from its own beginning, which lies at `begin_ms` of the recording: where the last sentence of those
    before it ended.
    """

    def __init__(self, begin_ms: int = 0, channel: int = 0) -> None:
        self.end_ms = begin_ms
        """Where the last sentence ends; where the stream begins, before its first."""
        self._begin_ms = begin_ms
        self._channel = channel

    def add(self, heard: HeardSentence, sent_ms: int) -> Sentence | None:
        """Take a finished sentence; None when it says nothing.

        `sent_ms` is the place in the recording up to which it was sent. What lies beyond it has not been heard, and
        another stream may have to begin at the sentence's end.
        """
        if not heard.text.strip():
            return None
        sentence = self.shown(heard, max(sent_ms, self.end_ms))
        self.end_ms = sentence["end_time"]
        return sentence

    def shown(self, heard: HeardSentence, not_after: int) -> Sentence:
        """A sentence as users see it. An open one ends where it has been heard to."""

        def at(ms: int, not_before: int) -> int:
            return min(max(self._begin_ms + ms, not_before), not_after)

        begin = at(heard.begin_time, self.end_ms)
        end = at(heard.end_time, begin)
        words: list[Word] = []
        for word in heard.words:
            first = at(word.begin_time, self.end_ms)
            last = at(word.end_time, first)
            words.append(Word(begin_time=first, end_time=last, text=word.text, punctuation=word.punctuation))
        return Sentence(begin_time=begin, end_time=end, text=heard.text.strip(), channel=self._channel, words=words)


def in_time_order(sentences: Iterable[Sentence]) -> list[Sentence]:
    """Of channels that were heard side by side: as they were spoken."""
    return sorted(sentences, key=lambda sentence: (sentence["begin_time"], sentence["channel"]))


def joined(sentences: Iterable[Sentence]) -> str:
    """The text of a whole transcript; a space between sentences, but none beside Chinese or Japanese."""
    text = ""
    for sentence in sentences:
        part = sentence["text"]
        text += (space_between(text, part) if text else "") + part
    return text
