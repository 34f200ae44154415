"""Sentences cut into cues: what is on the screen at one time.

The limits are those of the big broadcasters (docs/captions.md). A sentence is cut where it reads best, by one plan for
all of it: the cheapest way through the places where it may be cut.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter

from tasks.transcript.assemble import Sentence
from tasks.transcript.captions.pieces import Piece, pieces
from tasks.transcript.captions.writing import columns, weakness

LINE = 42
"""Columns of a line; a cue has at most two."""

LONGEST = 7000
"""Milliseconds that a cue stays at most."""

SHORTEST = 1000
"""Milliseconds that a cue stays at least, where there is room after it."""

PER_SECOND = 20
"""Columns that people read in a second; a cue that has more stays longer, where there is room after it."""

BLINK = 250
"""Milliseconds. A shorter gap between two cues is closed: it would flicker."""

GLIMPSE = 100
"""Milliseconds for a cue that was given no time; those after it wait so long."""

SILENCE = 2000
"""Milliseconds between two words from which on what comes after must not be shown before."""

_CUE, _FULL, _UNEVEN = 4, 8, 10
"""What one more cue costs, a full one, and two lines of which one is empty; beside `weakness`."""


@dataclass(slots=True)
class Cue:
    """Lines, and from when to when they are shown, in milliseconds."""

    begin: int
    end: int
    lines: list[str]
    channel: int


def cues(sentences: Iterable[Sentence], reserved: int = 0) -> list[Cue]:
    """The cues of a whole transcript in order of time; those of one channel never overlap. `reserved` columns of each
    line are left free.
    """
    by_channel: dict[int, list[Cue]] = {}
    for sentence in sorted(sentences, key=itemgetter("begin_time")):
        by_channel.setdefault(sentence["channel"], []).extend(_cut(sentence, LINE - reserved))
    for channel in by_channel.values():
        _timed(channel)
    return sorted((cue for channel in by_channel.values() for cue in channel), key=lambda cue: (cue.begin, cue.channel))


def _cut(sentence: Sentence, line: int) -> list[Cue]:
    found = Row(pieces(sentence, line), line)
    begin, end = sentence["begin_time"], max(sentence["begin_time"], sentence["end_time"])
    made = [
        Cue(found.pieces[first].begin, found.pieces[last - 1].end, found.lines(first, last), sentence["channel"])
        for first, last in found.cues()
    ]
    if made:
        made[0].begin, made[-1].end = begin, end
    return made


class Row:
    """The pieces of a sentence side by side. A stretch of them is told by its first and the one after its last."""

    def __init__(self, pieces: Sequence[Piece], line: int) -> None:
        self.pieces = pieces
        self._line = line
        widths = (columns(piece.text) + piece.spaced for piece in pieces)
        self._upto = list(accumulate(widths, initial=0))
        self._fill = self._filled()
        pairs = zip(pieces, pieces[1:], strict=False)
        self._weak = [0, *(weakness(one.text, two.text, two.begin - one.end) for one, two in pairs), 0]

    def cues(self) -> list[tuple[int, int]]:
        """The stretches that are a cue each."""
        count = len(self.pieces)
        if count == 0 or self._fits(0, count):
            return [(0, count)] if count else []
        costs, came_from = [0.0] + [math.inf] * count, [0] * (count + 1)
        for first in range(count):
            for last in range(first + 1, count + 1):
                if last > first + 1 and not self._goes_on(first, last):
                    break
                full = self._columns(first, last) / (2 * self._line)
                cost = costs[first] + _CUE + _FULL * full**2 + self._weak[last]
                if cost < costs[last]:
                    costs[last], came_from[last] = cost, first
        return self._way(came_from)

    def lines(self, first: int, last: int) -> list[str]:
        """One line, or two that part at the best place."""
        if self._columns(first, last) <= self._line:
            return [self._text(first, last)]
        middle = min(
            (place for place in range(first + 1, self._fill[first] + 1) if last <= self._fill[place]),
            key=lambda place: self._weak[place] + self._uneven(first, place, last),
        )
        return [self._text(first, middle), self._text(middle, last)]

    def _fits(self, first: int, last: int) -> bool:
        return all(self._goes_on(first, place) for place in range(first + 2, last + 1))

    def _goes_on(self, first: int, last: int) -> bool:
        """Whether a cue from `first` may take this one more piece, the one before `last`."""
        before, newest = self.pieces[last - 2], self.pieces[last - 1]
        is_near = newest.begin - before.end < SILENCE and newest.end - self.pieces[first].begin <= LONGEST
        return is_near and last <= self._fill[self._fill[first]]

    def _filled(self) -> list[int]:
        """For each piece, the end of the longest line that begins with it."""
        found, last = [], 0
        for first in range(len(self.pieces)):
            while last < len(self.pieces) and self._columns(first, last + 1) <= self._line:
                last += 1
            found.append(last)
        return [*found, len(self.pieces)]

    def _columns(self, first: int, last: int) -> int:
        return self._upto[last] - self._upto[first] - self.pieces[first].spaced

    def _uneven(self, first: int, middle: int, last: int) -> float:
        difference = self._columns(first, middle) - self._columns(middle, last)
        return _UNEVEN * (difference / self._line) ** 2

    def _text(self, first: int, last: int) -> str:
        return "".join(" " * piece.spaced + piece.text for piece in self.pieces[first:last]).removeprefix(" ")

    @staticmethod
    def _way(came_from: list[int]) -> list[tuple[int, int]]:
        stretches, last = [], len(came_from) - 1
        while last:
            stretches.append((came_from[last], last))
            last = came_from[last]
        return stretches[::-1]


def _timed(cues: list[Cue]) -> None:
    """Let each cue of a channel stay long enough to be read, and never into the next."""
    now = 0
    for cue in cues:
        cue.begin = max(cue.begin, now)
        cue.end = now = min(max(cue.end, cue.begin + GLIMPSE), cue.begin + LONGEST)
    for cue, following in zip(cues, [*cues[1:], None], strict=False):
        room = following.begin if following else math.inf
        wanted = max(SHORTEST, 1000 * sum(map(columns, cue.lines)) // PER_SECOND)
        cue.end = int(max(cue.end, min(cue.begin + wanted, room)))
        if room - cue.end < BLINK:
            cue.end = int(min(room, cue.begin + LONGEST))
