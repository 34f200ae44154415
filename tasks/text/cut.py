"""Cuts a long text into parts and makes one text of their answers. Pure.

A part ends where a paragraph does, else a line, a sentence, a clause, a word; only a text without any of these is cut
somewhere. All parts together are the text, character by character.
"""

import math
import re
from collections.abc import Sequence

from tasks.spacing import space_between

ENDS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"[.!?…][\"'”’»)\]]*\s+|[。！？｡][”’」』）〉》]*\s*"),
    re.compile(r"[,;:]\s+|[，、；：､]\s*"),
    re.compile(r"\s+"),
)
"""After which a part may end, the best first."""

LONGEST_END = 8
"""Characters of a sentence's end that are looked at, with its quotation marks and what follows it."""

REACH = 0.35
"""How far from where equal parts would end a better place is looked for, as a part of their length."""


def cut(text: str, most: int) -> list[str]:
    """Parts of at most so many characters, about equally long; none for an empty text."""
    parts, begin = [], 0
    while begin < len(text):
        end = len(text) if len(text) - begin <= most else _best_end(text, begin, most)
        parts.append(text[begin:end])
        begin = end
    return parts


def _best_end(text: str, begin: int, most: int) -> int:
    """Where the part that begins here ends: near to what would make all equal, at the best kind of place, as near as
    can be.
    """
    left = len(text) - begin
    fair = math.ceil(left / math.ceil(left / most))
    first, last = begin + max(1, math.floor(fair * (1 - REACH))), begin + min(most, math.ceil(fair * (1 + REACH)))
    # What ends right at the window's beginning begins before it.
    window = max(begin, first - LONGEST_END)
    for pattern in ENDS:
        found = [end.end() for end in pattern.finditer(text, window, last) if end.end() >= first]
        if found:
            return min(found, key=lambda end: abs(end - begin - fair))
    return begin + fair


def joined(parts: Sequence[str], answers: Sequence[str]) -> str:
    """The answers in the parts' order, with the line breaks that were between the parts; else a space, but none beside
    Chinese or Japanese.
    """
    text = ""
    for before, answer in zip(["", *parts], answers, strict=False):
        answer = answer.strip()
        text += (_between(text, before, answer) if text and answer else "") + answer
    return text


def _between(text: str, before: str, answer: str) -> str:
    breaks = before[len(before.rstrip()) :].count("\n")
    if breaks:
        return "\n" * min(breaks, 2)
    return space_between(text, answer)
