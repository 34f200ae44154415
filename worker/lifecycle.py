"""Process signals -> the runtime warms and closes.

    prefork          each child        worker_process_init      worker_process_shutdown
    solo             the process       worker_process_init      worker_shutdown
    threads, gevent  the process       celeryd_after_setup      worker_shutdown

Threads and gevent send no `worker_process_init`, solo sends no `worker_process_shutdown`; the rest is Celery's.
"""

import logging
from typing import Any

from celery.signals import (
    celeryd_after_setup,
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
)

from config import logs
from worker import runtime

CLOSE_TIMEOUT = 1.0
"""Seconds for closing politely. A prefork child leaves by os._exit after it: no exit handler would run later."""

ONE_JOB_A_PROCESS = ("celery.concurrency.prefork", "celery.concurrency.solo")

log = logging.getLogger("worker")


def warm(streams: int) -> None:
    """Start warming and return at once: Celery kills a child that is not up within 4 seconds."""
    house = runtime.runtime(streams)
    house.pool.open()
    log.info("warming %r", house)


@setup_logging.connect
def log_plainly(loglevel: int | str | None = None, **_: Any) -> None:
    logs.configure(loglevel or logging.INFO)


@worker_process_init.connect
def warm_child(**_: Any) -> None:
    warm(streams=1)


@celeryd_after_setup.connect
def warm_dense(instance: Any, **_: Any) -> None:
    if instance.pool_cls.__module__ not in ONE_JOB_A_PROCESS:
        warm(streams=instance.concurrency)


@worker_process_shutdown.connect
def cool_child(**_: Any) -> None:
    runtime.close(CLOSE_TIMEOUT)


@worker_shutdown.connect
def cool(**_: Any) -> None:
    runtime.close(CLOSE_TIMEOUT)
