"""One deadline that is moved often and rarely met."""

import asyncio
from collections.abc import Callable

__all__ = ["Watchdog"]


class Watchdog:
    """Calls `bark` once the deadline has passed. Moving it forward costs no new timer."""

    def __init__(self, bark: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._bark = bark
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float | None) -> None:
        """The new deadline, in seconds from now; None for none."""
        self._due = None if seconds is None else self._loop.time() + seconds
        if self._due is not None and self._timer is not None and self._timer.when() > self._due:
            self._timer.cancel()
            self._timer = None
        self._arm()

    def stop(self) -> None:
        """Never bark again."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._due is not None and self._timer is None:
            self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        # Each chunk of audio only writes a new deadline; the timer looks at it when the old one is reached.
        self._timer = None
        if self._due is None:
            return
        if self._due > self._loop.time():
            self._arm()
            return
        self._due = None
        self._bark()
