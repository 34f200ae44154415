"""A sentence cut into what stays together on a line, and when each piece was said."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from os.path import commonprefix
from typing import NamedTuple

from tasks.transcript.assemble import Sentence
from tasks.transcript.captions.writing import NOT_FIRST, NOT_LAST, clean, columns, may_part

LONGEST_WORD = 8
"""Letters of a Chinese or Japanese word that is not cut. What the service gives as a longer one is a phrase."""


class Letter(NamedTuple):
    """A character that is no space: when it was said, and whether it goes on with the word before it."""

    text: str
    begin: int
    end: int
    goes_on: bool


@dataclass(slots=True)
class Piece:
    """Stays together on a line. `spaced`: a space parts it from the one before."""

    text: str
    spaced: bool
    begin: int
    end: int


def pieces(sentence: Sentence, line: int) -> list[Piece]:
    """All pieces of a sentence, each of at most `line` columns."""
    found: list[Piece] = []
    letters = iter(_letters(sentence))
    for token in clean(sentence["text"]).split():
        for place, run in enumerate(_runs(list(islice(letters, len(token))), line)):
            text = "".join(letter.text for letter in run)
            piece = Piece(text, bool(found) and place == 0, run[0].begin, run[-1].end)
            if piece.spaced and _holds(found[-1].text, text) and columns(f"{found[-1].text} {text}") <= line:
                found[-1].text, found[-1].end = f"{found[-1].text} {text}", piece.end
            else:
                found.append(piece)
    return found


def _holds(left: str, right: str) -> bool:
    """Whether the space between them must not end a line, as beside a mark that stands by itself: « mot »."""
    return right[0] in NOT_FIRST or (left[-1] in NOT_LAST and left[-2:-1] in ("", " "))


def _runs(token: list[Letter], line: int) -> Iterator[list[Letter]]:
    """What stays together of a text without spaces; where nothing can part and it is too long, as much as fits."""
    begin, used = 0, 0
    for place, letter in enumerate(token):
        width = columns(letter.text)
        parts = place > begin and not letter.goes_on and may_part(token[place - 1].text, letter.text)
        if parts or used + width > line:
            yield token[begin:place]
            begin, used = place, 0
        used += width
    yield token[begin:]


def _letters(sentence: Sentence) -> list[Letter]:
    """The letters of the text with the times of the words. Where the words spell another text, this goes as far as both
    agree from either end; the rest shares the time between.
    """
    text, spoken = clean(sentence["text"]).replace(" ", ""), _spoken(sentence)
    spelt = "".join(letter.text for letter in spoken)
    head = len(commonprefix([text, spelt]))
    tail = len(commonprefix([text[head:][::-1], spelt[head:][::-1]]))
    rest = spoken[len(spoken) - tail :]
    begin = spoken[head - 1].end if head else sentence["begin_time"]
    end = rest[0].begin if rest else max(begin, sentence["end_time"])
    return spoken[:head] + _shared(text[head : len(text) - tail], begin, end) + rest


def _spoken(sentence: Sentence) -> list[Letter]:
    """The letters of the words; their times never run backwards, nor out of the sentence."""
    found: list[Letter] = []
    now, end = sentence["begin_time"], max(sentence["begin_time"], sentence["end_time"])
    for word in sentence["words"]:
        text, mark = (clean(part).replace(" ", "") for part in (word["text"], word["punctuation"]))
        begin = min(max(word["begin_time"], now), end)
        now = min(max(word["end_time"], begin), end)
        found += _shared(text, begin, now, is_word=len(text) <= LONGEST_WORD)
        found += _shared(mark, now, now)
    return found


def _shared(text: str, begin: int, end: int, is_word: bool = False) -> list[Letter]:
    times = [begin + (end - begin) * place // max(1, len(text)) for place in range(len(text) + 1)]
    return [Letter(letter, times[place], times[place + 1], is_word and place > 0) for place, letter in enumerate(text)]
