"""The end of a worker comes in a bounded time, whatever its jobs do.

Nothing is lost by that. The message of a job that was left comes again once nobody renews it, and its lease ends.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from celery.bootsteps import StartStopStep

from config.settings import settings
from worker import drain
from worker.drain import Drain

LOOK_EVERY = 0.5
"""Seconds between two looks at the time. The worker leaves so much earlier, to have gone when it is killed."""

log = logging.getLogger("worker")


class DrainLimit(StartStopStep):
    """Sees to it that a worker that is ending has ended in time, however it was told to."""

    requires = ("celery.worker.components:Pool",)  # whose first children are to be forked from a single thread

    def start(self, parent: Any) -> None:
        limit = settings().job.drain - LOOK_EVERY
        threading.Thread(target=leave_after, args=(drain.drain, limit), name="drain", daemon=True).start()

    def close(self, parent: Any) -> None:
        """Celery's own `shutdown` command, a hangup and a fault send no signal of their own before this."""
        drain.drain.begin()


def leave_after(draining: Drain, limit: float, leave: Callable[[int], Any] = os._exit) -> None:
    """Wait until the worker has been ending for so many seconds, then leave without another wait.

    Celery has no bound for a job that does not return, nor for what comes after it. Prefork's children die with their
    parent.
    """
    while (draining.elapsed() or 0.0) < limit:
        time.sleep(LOOK_EVERY)
    log.warning("jobs that did not stop in time are left; another worker goes on with them")
    leave(0)
