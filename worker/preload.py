"""What a prefork worker has in memory before it forks, so that its children share it instead of each making its own.

A child's page is its own as soon as anything on it is written: by an import, by a cache that is filled, and by the
garbage collector, which marks every object that it looks at. So all is imported and filled here, and frozen: the
collector passes over what was there before the fork. No socket, thread or connection is made.
"""

import gc
import importlib
import importlib.util
from functools import cache

from billiard.util import get_pdeathsig  # type: ignore[attr-defined]

from worker.recognition.transport import shared_context

LATER = ("orjson", "av.subtitles.stream", "encodings.idna", "stringprep")
"""Modules that a first job would import; those that are not installed are left out. The tasks' own are here already."""


@cache
def share() -> None:
    """Make ready what children share, once: a child that replaces a lost one is forked from the same.

    Frozen a second time, what lives only for a while would stay for ever.
    """
    for name in LATER:
        _import(name)
    shared_context()
    _ready_for_signals()
    gc.collect()
    gc.freeze()


def _import(name: str) -> None:
    if importlib.util.find_spec(name.partition(".")[0]) is not None:
        importlib.import_module(name)


def _ready_for_signals() -> None:
    """Each child sets the signal of its parent's death; with cffi installed, the first use in a process loads a parser
    of C, of 4 MB. To ask for the signal does the same and changes nothing.
    """
    try:
        get_pdeathsig()
    except OSError:
        pass  # there is none on this system
