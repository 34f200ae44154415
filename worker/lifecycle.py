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
from config.settings import settings, unknown
from worker import runtime

CLOSE_TIMEOUT = 1.0
"""Seconds for closing politely. A prefork child leaves by os._exit after it: no exit handler would run later."""

PREFORK, SOLO = "celery.concurrency.prefork", "celery.concurrency.solo"

log = logging.getLogger("worker")


def warm(streams: int) -> None:
    """Start warming and return at once: Celery kills a child that is not up within 4 seconds."""
    house = runtime.runtime(streams)
    house.pool.open()
    log.info("warming %r", house)


@setup_logging.connect
def log_plainly(loglevel: int | str | None = None, logfile: str | None = None, **_: Any) -> None:
    logs.configure(loglevel or logging.INFO, logfile)


@worker_process_init.connect
def warm_child(**_: Any) -> None:
    warm(streams=1)


@celeryd_after_setup.connect
def begin(instance: Any, **_: Any) -> None:
    kind = instance.pool_cls.__module__
    processes, streams = shape(kind, instance.concurrency)
    most = runtime.policy(settings(), streams).max_size
    log.info(
        "up to %d connections to the service: processes %d, connections each %d", processes * most, processes, most
    )
    for name in unknown():
        log.warning("%s is no setting of this version; is it a typing error?", name)
    if kind not in (PREFORK, SOLO):
        warm(streams)


def shape(kind: str, concurrency: int) -> tuple[int, int]:
    """How many processes run jobs, and how many jobs each runs at once, in an execution pool of this kind."""
    if kind == PREFORK:
        return concurrency, 1
    return 1, 1 if kind == SOLO else concurrency


@worker_process_shutdown.connect
def cool_child(**_: Any) -> None:
    runtime.close(CLOSE_TIMEOUT)


@worker_shutdown.connect
def cool(**_: Any) -> None:
    runtime.close(CLOSE_TIMEOUT)
