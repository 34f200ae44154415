"""What is known of writing: how wide it is, and where a line may end."""

import re
import unicodedata
from functools import cache

from tasks.spacing import is_korean

NOT_FIRST = frozenset(
    ",.;:!?)]}%…–—’”»›、。，．・：；！？％）］｝〉》」』】〕〗〞～〜゛゜ヽヾゝゞ々ー"
    "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ｡｣､･ｧｨｩｪｫｬｭｮｯｰ"
)
"""No line begins with these: what closes, what goes on with a sound (kinsoku)."""

NOT_LAST = frozenset("([{«‹¿¡‘“（［｛〈《「『【〔〖〝｢＄￥￡")
"""No line ends with these: what opens."""

CLOSERS = "\"'’”»›)]}）］｝〉》」』】〕〗"
"""What may stand between the end of a sentence and the end of its line."""

SENTENCE_ENDS = frozenset(".?!…。？！．؟।")
CLAUSE_ENDS = frozenset(",;:–—、，；：،؛")

LINKS = frozenset(
    "about after against although and as at because before between but by during for from if in into like nor of on or "
    "over since so than that though through to under until when where whether which while who with without".split()
)
"""A line begins with such a word rather than ends with it."""

LEANING = LINKS | frozenset(
    "a an the my your his her its our their this these those no not very is are was were be been am i you he she we "
    "they i'm it's don't mr mrs ms dr mr. mrs. ms. dr.".split()
)
"""Words that lean on the next one."""

_JOINER = "\u200d"
_SKIN = frozenset("🏻🏼🏽🏾🏿")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HALF = re.compile(r"[\ud800-\udfff]")


def clean(text: str) -> str:
    """Text for a line: words with one space between them, nothing that a file in UTF-8 cannot hold."""
    return " ".join(_HALF.sub("\ufffd", _CONTROL.sub(" ", text)).split())


def columns(text: str) -> int:
    """How wide it is: a Chinese, Japanese or Korean character is as wide as two others."""
    return len(text) if text.isascii() else sum(map(_width, text))


def may_part(left: str, right: str) -> bool:
    """Whether a line may end between two characters without a space: beside Chinese and Japanese."""
    if right in NOT_FIRST or left in NOT_LAST or right in _SKIN or _JOINER in (left, right) or not _width(right):
        return False
    return _is_ideographic(left) or _is_ideographic(right)


def weakness(left: str, right: str, silence: int) -> int:
    """How bad it is to end a line between two neighbours that may part, with so many milliseconds between them: from 0,
    the end of a sentence, to 10.
    """
    last = (left.rstrip(CLOSERS) or left)[-1]
    if last in SENTENCE_ENDS:
        return 0
    if last in CLAUSE_ENDS or silence >= 300:
        return 1
    if left.lower() in LEANING:
        return 10
    return 3 if right.lower() in LINKS else 6


@cache
def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _is_ideographic(character: str) -> bool:
    return _width(character) == 2 and not is_korean(character)
