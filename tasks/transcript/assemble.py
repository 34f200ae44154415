"""From what the service said to a transcript. Pure."""

import unicodedata
from collections.abc import Iterable
from typing import TypedDict

from tasks.transcript.packed import PackedList
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
    """One channel's sentences: in time order, never overlapping, whatever the service's clock did."""

    def __init__(self, channel: int = 0) -> None:
        self.end_ms = 0
        """Where the last sentence ends; 0 before the first."""
        self._sentences: PackedList[Sentence] = PackedList()
        self._channel = channel

    @property
    def sentences(self) -> list[Sentence]:
        """All of them, unpacked anew each time: ask once, at the end."""
        return list(self._sentences)

    def add(self, heard: HeardSentence) -> Sentence | None:
        """Take a finished sentence; None when it says nothing."""
        if not heard.text.strip():
            return None
        sentence = shown(heard, self._channel, not_before=self.end_ms)
        self._sentences.append(sentence)
        self.end_ms = sentence["end_time"]
        return sentence


def shown(heard: HeardSentence, channel: int = 0, *, not_before: int = 0) -> Sentence:
    """A sentence as users see it. An open one ends where it has been heard to."""
    words = [_word(word.begin_time, word.end_time, word.text, word.punctuation, not_before) for word in heard.words]
    begin = max(heard.begin_time, not_before)
    end = max(heard.end_time, begin)
    return Sentence(begin_time=begin, end_time=end, text=heard.text.strip(), channel=channel, words=words)


def _word(begin: int, end: int, text: str, punctuation: str, not_before: int) -> Word:
    begin = max(begin, not_before)
    return Word(begin_time=begin, end_time=max(end, begin), text=text, punctuation=punctuation)


def joined(sentences: Iterable[Sentence]) -> str:
    """The text of a whole transcript; a space between sentences, but none beside Chinese or Japanese."""
    text = ""
    for sentence in sentences:
        part = sentence["text"]
        text += f" {part}" if text and not (_is_wide(text[-1]) or _is_wide(part[0])) else part
    return text


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"
