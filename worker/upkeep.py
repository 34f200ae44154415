"""Now and then one worker of all looks for what dead ones have left behind.

The thread lives in a worker's main process. What is looked for is the jobs' business, so it is named by a string, as
tasks are.
"""

import logging
import random
import threading
from functools import partial
from typing import Any

import redis
from celery import Celery
from celery.bootsteps import StartStopStep
from celery.states import READY_STATES
from celery.utils.imports import symbol_by_name

from config.settings import Settings, settings
from worker.beat import impatient
from worker.notices import send_notice

LOCK = "stenopool:janitor"
"""Held by whoever has looked last, until it is time to look again."""

PATIENCE = 5.0
"""Seconds for an answer of Redis."""

log = logging.getLogger("worker")


class Upkeep(StartStopStep):
    """Starts and stops the thread with the worker."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._over = threading.Event()

    def start(self, parent: Any) -> None:
        threading.Thread(target=self._run, args=(parent.app, settings()), name="upkeep", daemon=True).start()

    def stop(self, parent: Any) -> None:
        self._over.set()

    def terminate(self, parent: Any) -> None:
        self._over.set()

    def _run(self, app: Celery, rules: Settings) -> None:
        every = rules.job.upkeep
        while not self._over.wait(every * random.uniform(0.5, 1.0)):
            try:
                look(app, rules, every)
            except redis.RedisError as error:
                log.info("nobody looks after lost jobs at the moment (%s)", type(error).__name__)
            except Exception as error:
                log.warning("looking after lost jobs failed (%s)", type(error).__name__)


def tell(app: Celery, job_id: str, error: Exception) -> None:
    """Tell those who wait for a job that it has failed, unless Celery has told them how it ended."""
    if app.backend.get_state(job_id) not in READY_STATES:
        app.backend.mark_as_failure(job_id, error)


def look(app: Celery, rules: Settings, every: float) -> list[str]:
    """Look once, unless another worker has done so just now. Returns the jobs that were ended."""
    with impatient(rules.redis.url, PATIENCE) as client:
        if not client.set(LOCK, "taken", nx=True, px=round(1000 * every)):
            return []
        janitor = symbol_by_name("tasks.janitor:Janitor")(
            client,
            list(app.amqp.queues),
            partial(tell, app),
            partial(send_notice, app),
            ttl=rules.job.ttl,
            grace=2 * rules.redis.visibility_timeout,
        )
        ended: list[str] = janitor.sweep()
    for job_id in ended:
        log.warning("job %s was ended: its worker was lost, and its message with it", job_id)
    return ended
