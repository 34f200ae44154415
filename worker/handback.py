"""A job that is handed back, or is to be tried again, is the next to be taken; and not by a worker that is ending.

kombu puts a message that is given back behind all others of its queue, as if it had just been sent: a job that is half
done would wait behind a day's work. So would the next try of one that has failed, whose message is a new one. And a
worker that is ending goes on to take messages until Celery comes to stop that, which under gevent takes seconds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep
from kombu import Producer
from kombu.transport.virtual import QoS
from kombu.utils.json import dumps

from worker.drain import Drain, drain


class HandBack(StartStopStep):
    """Puts itself into each new connection of a consumer, if its broker is Redis."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, parent: Any) -> bool:
        return bool(parent.conninfo.get_transport_cls().driver_type == "redis")

    def start(self, parent: Any) -> None:
        window = parent.task_consumer.channel.qos
        window.reject = ahead(window)
        window.can_consume = until_drained(window.can_consume, drain)


def ahead(window: Any) -> Callable[..., Any]:
    """A `reject` that gives a message back to the head of its queue."""
    reject = window.reject

    def rejected(delivery_tag: str, requeue: bool = False) -> Any:
        if not requeue:
            return reject(delivery_tag)
        window.restore_by_tag(delivery_tag)
        QoS.ack(window, delivery_tag)  # only forgets that it was given out; Redis' own `ack` would remove it

    return rejected


@contextmanager
def first_in_line(app: Celery) -> Iterator[Producer]:
    """A producer whose messages are the next to be taken from their queues: a job that has waited its turn before."""
    with app.connection_for_write() as connection:
        channel: Any = connection.channel()
        channel._put = partial(put_first, channel)
        yield app.amqp.Producer(channel)


def put_first(channel: Any, queue: str, message: dict[str, Any], **_: Any) -> None:
    """What kombu does with a message that it restores."""
    priority = channel._get_message_priority(message, reverse=False)
    with channel.conn_or_acquire() as client:
        client.rpush(channel._q_for_pri(queue, priority), dumps(message))


def until_drained(can_consume: Callable[[], bool], draining: Drain) -> Callable[[], bool]:
    """A `can_consume` that ends with the worker."""
    return lambda: draining.elapsed() is None and can_consume()
