"""Sends for whoever delivers a job's callback: a message with the job's id, and never with the address."""

from celery import Celery

from worker.handback import first_in_line
from worker.jobs import notice_id

TASK = "tasks.notify"


def send_notice(app: Celery, job_id: str, queue: str) -> None:
    """To the head of the queue that the job came by: it is short, and the slots behind it are taken for long.

    Raises redis.RedisError, or what kombu makes of it.
    """
    known = queue if queue in app.amqp.queues else app.conf.task_default_queue
    with first_in_line(app) as producer:
        app.send_task(
            TASK,
            (job_id,),
            task_id=notice_id(job_id),
            queue=known,
            producer=producer,
            ignore_result=True,
            add_to_parent=False,  # else the job's result would name it among its children
        )
