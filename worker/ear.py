"""A solo worker hears `revoke` while it works.

Its main process does the job itself, and reads no command before that has ended. So a thread listens beside it, for
this one; all it does is to note in Redis what the job looks for anyway.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from kombu import Consumer

COMMANDS = frozenset({"revoke", "terminate"})

LISTEN = 1.0
"""Seconds between two looks whether the worker ends."""

PAUSE = 2.0
"""Seconds between two tries to connect."""

log = logging.getLogger("worker")

Cancel = Callable[[Any], object]
"""Cancels the jobs of an id or several."""


class Ear:
    """Listens to what is broadcast to all workers."""

    def __init__(self, app: Celery, node: str, cancel: Cancel) -> None:
        self._app = app
        self._node = node
        self._cancel = cancel
        self._over = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="ear", daemon=True).start()

    def stop(self) -> None:
        """In the background, within seconds."""
        self._over.set()

    def hear(self, body: Any, _: object = None) -> None:
        """Carry out a command, if it is one of ours and meant for this worker, too."""
        told: dict[str, Any] = body if isinstance(body, dict) else {}
        to: Sequence[str] | None = told.get("destination")
        if told.get("method") in COMMANDS and (not to or self._node in to):
            self._cancel((told.get("arguments") or {}).get("task_id"))

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._listen()
            except Exception as error:  # Redis is away, or a message is no message: the job goes on all the same
                log.info("revoke is not heard at the moment (%s)", type(error).__name__)
                self._over.wait(PAUSE)

    def _listen(self) -> None:
        control: Any = self._app.control
        queue = control.mailbox.get_queue(f"{self._node}.ear")
        with (
            self._app.connection_for_read() as connection,
            Consumer(connection, [queue], callbacks=[self.hear], accept=["json"], no_ack=True),
        ):
            while not self._over.is_set():
                try:
                    connection.drain_events(timeout=LISTEN)
                except TimeoutError:
                    continue
