"""Calls that may have to wait for a disk.

Under threads such a wait is its thread's own affair. Under gevent it would hold up every greenlet of the process, as
no patch makes a file cooperative: there the call runs in gevent's pool of native threads, and only its own greenlet
waits.
"""

import sys
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from worker.patched import is_patched

__all__ = ["give_way", "offloaded"]

T = TypeVar("T")


def offloaded(call: Callable[[], T], discard: Callable[[T], object] | None = None) -> T:
    """What the call returns or raises. `discard` gets a result that comes after its greenlet was ended."""
    threads = _native_threads()
    return call() if threads is None else _Errand(call, discard).run(threads)


def give_way(seen: int) -> int:
    """Let other greenlets run, if gevent's loop has not gone round since it was `seen`; where it is now. 0 elsewhere.

    Whoever reads and decodes in turn, from a server so quick that he never has to wait, would keep them out to his end.
    """
    if _native_threads() is None:
        return 0
    gevent = sys.modules["gevent"]
    loop = gevent.get_hub().loop
    if loop.iteration == seen:
        gevent.sleep(0.0001)  # not of 0: that lets the loop go round once in fifty times
    return int(loop.iteration)


def _native_threads() -> Any:
    """gevent's thread pool for this hub, None where nothing is patched. Looks, and never imports gevent."""
    if not is_patched("threading"):
        return None
    return sys.modules["gevent"].get_hub().threadpool


class _Errand(Generic[T]):
    """A call in another thread, whose result is taken exactly once: by who waits for it or, too late, by `discard`."""

    def __init__(self, call: Callable[[], T], discard: Callable[[T], object] | None) -> None:
        self._call, self._discard = call, discard
        self._results: list[T] = []  # its pop() is what makes it "exactly once"
        self._abandoned = False

    def run(self, threads: Any) -> T:
        try:
            error = threads.spawn(self._go).get()
        except BaseException:  # a time limit or the greenlet's end
            self._abandoned = True
            self._drop()
            raise
        if error is not None:
            raise error
        return self._results.pop()

    def _go(self) -> BaseException | None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # returned, as gevent would print what a thread of its own raises
            return error
        if self._abandoned:
            self._drop()
        return None

    def _drop(self) -> None:
        try:
            result = self._results.pop()
        except IndexError:
            return
        if self._discard is not None:
            self._discard(result)
