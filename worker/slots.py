"""Under gevent, a slot that a job has left is filled at once, and no end of a job is lost.

Celery's loop for green pools waits for the broker up to two seconds at a time. It asks for a message only before such a
wait, and only if a slot is free then: one that comes free meanwhile stays empty until the wait is over. So the wait is
put off for as long as all slots are taken.

There, too, each job's own greenlet tells Redis that its message is done. kombu has ten connections for that and an
error for the eleventh greenlet; the message would come again, to another worker. So one follows the other.

The other pools have another loop, which looks after every job and acknowledges in one thread.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from celery.bootsteps import StartStopStep

from worker.handback import HandBack

LOOK_EVERY = 0.02
"""Seconds that a slot stays empty at most."""

LISTEN_EVERY = 1.0
"""Seconds after which the broker is listened to although all slots are taken: other workers' gossip comes that way."""


class Window(Protocol):
    """How many messages may be taken, by shape: kombu's QoS."""

    def can_consume(self) -> bool: ...


class FreeSlots(StartStopStep):
    """Puts itself into each new connection of a consumer whose pool is green."""

    requires = (HandBack,)  # which replaces what is wrapped here

    def include_if(self, parent: Any) -> bool:
        return bool(getattr(parent.pool, "is_green", False))

    def start(self, parent: Any) -> None:
        connection, window = parent.connection, parent.task_consumer.channel.qos
        connection.drain_events = drained(connection.drain_events, window)
        turn = threading.Lock()
        window.ack, window.reject = in_turn(window.ack, turn), in_turn(window.reject, turn)


def drained(drain: Callable[..., Any], window: Window) -> Callable[..., Any]:
    """A `drain_events` that waits for the broker only while a message may be taken."""

    def drain_events(timeout: float = LISTEN_EVERY, **options: Any) -> Any:
        until = time.monotonic() + min(timeout, LISTEN_EVERY)
        while not window.can_consume() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_EVERY))
        return drain(timeout=timeout if window.can_consume() else 0, **options)

    return drain_events


def in_turn(call: Callable[..., Any], turn: threading.Lock) -> Callable[..., Any]:
    """The same call, made by one greenlet at a time."""

    def called(*args: Any, **options: Any) -> Any:
        with turn:
            return call(*args, **options)

    return called
