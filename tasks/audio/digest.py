"""Tells a recording from others by all its bytes."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.audio.ffmpeg import bare_ending
from tasks.audio.limits import AudioLimits
from tasks.audio.reference import AudioReference
from tasks.audio.sources import open_source
from worker.http import HttpPool
from worker.objects import ObjectStores

__all__ = ["digest"]

_BLOCK = 256 * 1024  # bytes


def digest(
    reference: AudioReference,
    check: Callable[[], None],
    *,
    roots: Sequence[Path],
    http: HttpPool,
    stores: ObjectStores | None = None,
    limits: AudioLimits,
) -> str:
    """The SHA-256 of what is behind a reference, in hex: it is read to its end, and `check`, asked on the way, may
    raise. With the ending of its name where that is what says how the bytes are to be heard. Raises what opening and
    reading it raise.
    """
    seen = hashlib.sha256()
    with open_source(reference, roots=roots, http=http, stores=stores, limits=limits) as file:
        while block := file.read(_BLOCK):
            check()
            seen.update(block)
    ending = bare_ending(reference.shown)
    return f"{seen.hexdigest()}.{ending}" if ending else seen.hexdigest()
