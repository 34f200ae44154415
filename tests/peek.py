"""Tasks that look at the worker they run in; a test's worker gets them by `-I tests.peek`."""

import gc
import os
import resource
import sys
import time
from typing import Any

from celery import shared_task

_before: set[str] = set()
"""What the parent had imported when it forked."""

os.register_at_fork(before=lambda: _before.update(sys.modules))


@shared_task(name="peek.process")
def process() -> dict[str, Any]:
    """What this process shares with its parent, and what it had to import itself."""
    return {
        "pid": os.getpid(),
        "frozen": gc.get_freeze_count(),
        "alone": sorted(set(sys.modules) - _before),
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


@shared_task(name="peek.nap")
def nap(seconds: float) -> None:
    time.sleep(seconds)
