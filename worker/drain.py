"""When a worker began to end, as all its processes see it."""

import mmap
import time
from collections.abc import Callable


class Drain:
    """The moment at which the worker began to end, if it has.

    Children that were forked since this was made see it, too: it lies in memory that is shared, and counts by a clock
    that all processes of a machine have in common.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = memoryview(mmap.mmap(-1, 8)).cast("d")

    def __repr__(self) -> str:
        seconds = self.elapsed()
        return "<Drain not begun>" if seconds is None else f"<Drain for {seconds:.1f} s>"

    def begin(self) -> None:
        """The worker is ending from now on. Fit for a signal's handler: it waits for nothing. Once is for ever."""
        if not self._began[0]:
            self._began[0] = self._clock()

    def elapsed(self) -> float | None:
        """For how many seconds the worker has been ending; None if it is not."""
        began = self._began[0]
        return self._clock() - began if began else None


drain = Drain()
"""This worker's."""
