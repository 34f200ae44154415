"""Celery's consumer, kept alive through an outage of Redis.

Celery 5.7 closes a lost connection twice. The first time throws away where it leads to. If Redis could not be reached
then, the second wants to give the unfinished messages back, looks for the address that is gone, and ends the worker.
So does the end of a job whose message came over that connection. Neither needs to be: what is not given back and not
acknowledged comes again by itself when nobody renews it any more, and the job's record says what is still to be done.
"""

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import Consumer as CeleryConsumer

PAUSE = 1.0
"""Seconds before a new connection to a Redis that answers, but refuses: it would take one again and again."""

log = logging.getLogger("worker")


class Consumer(CeleryConsumer):
    """Survives these two faults and no other. The tests tell when Celery does so itself."""

    channel_errors: tuple[type[Exception], ...] = ()  # Celery fills it in

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Celery tells at each lost connection that jobs could be cancelled then, although the settings say no.
        warnings.filterwarnings("ignore", "\nIn Celery 5.1 we introduced", CPendingDeprecationWarning)
        super().__init__(*args, **kwargs)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        if isinstance(exc, self.channel_errors):  # it is there, and does not do what it is told
            time.sleep(PAUSE)
        try:
            super().on_connection_error_after_connected(exc)
        except AttributeError as error:
            if not is_lost_address(error):
                raise
            log.warning("Redis was away when unfinished messages were to be given back; they come again by themselves")

    def call_soon_ack(self, p: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Acknowledge or reject a message, in the event loop if there is one."""
        return super().call_soon_ack(while_connected(p), *args, **kwargs)  # type: ignore[misc]


def while_connected(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which does nothing if the message's connection was lost while Redis was away."""

    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except AttributeError as error:
            if not is_lost_address(error):
                raise
            log.info("a job has ended whose message came over a lost connection; the message will come once more")

    return called


def is_lost_address(error: AttributeError) -> bool:
    """Whether something looked for the address of a connection that was closed before."""
    return error.name == "hostname" and error.obj is None
