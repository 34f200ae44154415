"""Process signals -> the runtime warms and closes.

    prefork          each child        worker_process_init      worker_process_shutdown
    solo             the process       worker_process_init      worker_shutdown
    threads, gevent  the process       celeryd_after_setup      worker_shutdown

Threads and gevent send no `worker_process_init`, solo sends no `worker_process_shutdown`; the rest is Celery's. Before
all of these `celeryd_init` sets the size of a worker that was given none, and `worker_before_create_process` is the
parent's last word before a child is forked. `worker_shutting_down` is sent while jobs still run, and begins the drain.
"""

import contextlib
import gc
import logging
import os
import signal
import time
from typing import Any

from billiard.process import current_process
from celery.concurrency import get_implementation
from celery.signals import (
    celeryd_after_setup,
    celeryd_init,
    setup_logging,
    worker_before_create_process,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from celery.utils.nodenames import default_nodename
from celery.utils.sysinfo import cpu_budget  # type: ignore[attr-defined]
from kombu.utils import functional

from config import logs
from config.settings import SettingsError, settings, unknown
from worker import descriptors, drain, preload, runtime
from worker.sizing import cautions, jobs_at_once, policy

CLOSE_TIMEOUT = 1.0
"""Seconds for closing politely. A prefork child leaves by os._exit after it: no exit handler would run later."""

PREFORK, SOLO, GEVENT, THREADS = "prefork", "solo", "gevent", "threads"

COLLECT_AFTER = 10_000
"""New objects before garbage is looked for; a stream with its audio has about a hundred. Python's own value is 700."""

log = logging.getLogger("worker")


def warm(worker: str | None, kind: str, streams: int) -> None:
    """Start warming and return at once: Celery kills a child that is not up within 4 seconds."""
    house = runtime.runtime(streams)
    house.warm(worker or default_nodename(""), kind)
    log.info("warming %r", house)


@setup_logging.connect
def log_plainly(loglevel: int | str | None = None, logfile: str | None = None, **_: Any) -> None:
    logs.configure(loglevel or logging.INFO, logfile)


@celeryd_init.connect
def size(conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Celery's own default is the number of cores, whatever the pool."""
    if options.get("concurrency") or options.get("autoscale") or conf.worker_concurrency:
        return
    # -P arrives as `pool`; a worker made in Python is given `pool_cls`.
    kind = kind_of_pool(get_implementation(options.get("pool_cls") or options.get("pool") or conf.worker_pool))
    try:
        conf.worker_concurrency = jobs_at_once(settings(), kind == PREFORK, cpu_budget().count)
    except SettingsError as error:
        raise SystemExit(f"stenopool cannot start:\n{error}") from None


@worker_before_create_process.connect
def share_with_children(**_: Any) -> None:
    preload.share()


@worker_process_init.connect
def warm_child(sender: str | None = None, **_: Any) -> None:
    warm(sender, SOLO if current_process().name == "MainProcess" else PREFORK, streams=1)


@celeryd_after_setup.connect
def begin(instance: Any, sender: str | None = None, **_: Any) -> None:
    kind = kind_of(instance)
    processes, streams = shape(kind, instance.concurrency)
    try:
        each, accounts = policy(settings(), streams).max_size, len(settings().accounts())
    except SettingsError as error:
        raise SystemExit(f"stenopool cannot start:\n{error}") from None
    most = accounts * each
    log.info(
        "up to %d connections to the service: processes %d, accounts %d, connections each %d",
        processes * most,
        processes,
        accounts,
        each,
    )
    short = descriptors.allow(descriptors.needed(processes if kind == PREFORK else 0, most), descriptors.system())
    for sentence in [*cautions(settings(), processes, streams), *filter(None, [short])]:
        log.warning("%s", sentence)
    for name in unknown():
        log.warning("%s is no setting of this version; is it a typing error?", name)
    if kind == GEVENT:
        wait_cooperatively()
    if kind == THREADS:
        share_the_interpreter()
    if kind not in (PREFORK, SOLO):
        warm(sender, kind, streams)


def share_the_interpreter() -> None:
    """Hundreds of threads in one interpreter: those of jobs must not push the I/O loop aside each time that one wakes.

    Threads made from now on are batch work to the kernel; the I/O loop's is not, by its own choice. And what lives as
    long as the process is left out of the collections of garbage.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a container may forbid it
            if os.sched_getscheduler(0) == os.SCHED_OTHER:  # else an operator has chosen
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)


def wait_cooperatively() -> None:
    """kombu is imported before Celery lets gevent patch the process, and keeps the real `sleep`: between two tries to
    reach a Redis that is away it would stop all streams, for longer than the service waits for audio.
    """
    functional.sleep = time.sleep  # type: ignore[attr-defined]


def kind_of(worker: Any) -> str:
    """What `celery worker -P` calls the worker's execution pool."""
    return kind_of_pool(worker.pool_cls)


def kind_of_pool(pool: type) -> str:
    """What `celery worker -P` calls an execution pool of this class."""
    module = pool.__module__.rpartition(".")[2]
    return "threads" if module == "thread" else module


def shape(kind: str, concurrency: int) -> tuple[int, int]:
    """How many processes run jobs, and how many jobs each runs at once, in an execution pool of this kind."""
    if kind == PREFORK:
        return concurrency, 1
    return 1, 1 if kind == SOLO else concurrency


@worker_shutting_down.connect
def begin_to_end(sig: str = "", **_: Any) -> None:
    """Sent by the signal's handler, whatever the main thread does: under solo it is in the midst of a job."""
    drain.drain.begin()
    if sig == "SIGINT":
        signal.signal(signal.SIGINT, leave_now)


@worker_ready.connect
def take_quit_at_its_word(**_: Any) -> None:
    signal.signal(signal.SIGQUIT, leave_now)


def leave_now(*_: Any) -> None:
    """SIGQUIT, or a second Ctrl-C: whoever sends it does not want to wait.

    Celery's own handler ends each task in its pool's way: threads cannot, and gevent loses the task's message. To leave
    at once loses nothing: leases and messages come free by themselves.
    """
    os._exit(1)


@worker_process_shutdown.connect
def cool_child(**_: Any) -> None:
    runtime.close(CLOSE_TIMEOUT)


@worker_shutdown.connect
def cool(**_: Any) -> None:
    runtime.close(CLOSE_TIMEOUT)
