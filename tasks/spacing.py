"""Whether words of a script stand apart. Pure."""

import unicodedata

__all__ = ["is_korean", "space_between"]


def space_between(left: str, right: str) -> str:
    """What stands between two texts, none of them empty: a space, but nothing beside Chinese or Japanese."""
    return "" if _is_unspaced(left[-1]) or _is_unspaced(right[0]) else " "


def is_korean(character: str) -> bool:
    """Korean is as wide as Chinese and Japanese, but has spaces between its words."""
    return unicodedata.name(character, "").startswith(("HANGUL", "HALFWIDTH HANGUL"))


def _is_unspaced(character: str) -> bool:
    # Pictures are wide, too.
    is_wide = unicodedata.east_asian_width(character) in "WF"
    return is_wide and not is_korean(character) and unicodedata.category(character) not in ("So", "Sk")
