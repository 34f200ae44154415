"""Celery shell of the callback: one try to deliver it, and the next message if that was not the last."""

import random

from celery import shared_task

from tasks import delivery
from tasks.errors import NotEnded, Unavailable
from tasks.job.outbox import Outbox
from tasks.shell import JobTask, later
from worker.runtime import runtime


@shared_task(base=JobTask, bind=True, name="tasks.notify", ignore_result=True)
def notify(self: JobTask, /, job_id: str) -> None:
    """Deliver the callback of a job that has ended, if one is due. Sent by workers, never by users.

    However many messages there are of it, one try is made at a time, and none after that which succeeded.
    """
    process = runtime()
    outbox = Outbox(process.redis, str(job_id), ttl=process.settings.job.ttl)
    try:
        seconds = delivery.run(outbox, process.http, process.settings.callback)
    except Unavailable:
        seconds = random.uniform(1, 5)
    if seconds is not None:
        later(self, NotEnded(seconds))
