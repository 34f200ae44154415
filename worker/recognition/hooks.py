"""What a pool asks about recognizers: open, is_healthy, is_reusable, abort, close. It is not known here itself."""

import contextlib
import logging
import threading
import time
from typing import Final

from worker.recognition.conversation import Limits
from worker.recognition.endpoint import Endpoint
from worker.recognition.errors import MissingApiKey, NoSpeech, Throttled
from worker.recognition.load import Load
from worker.recognition.loop import Loop
from worker.recognition.probe import warm_up
from worker.recognition.recognizer import Recognizer
from worker.recognition.transport import WebSocketTransport

logger = logging.getLogger("worker.recognition")

SENDING: Final = 5.0
"""Seconds of a warm-up task beside the waits that have a limit of their own."""


class RecognizerHooks:
    """Makes recognizers for one endpoint and judges whether they are still good.

    `load` is what holds them all up, `loop` moves the bytes of those that stream.

    With `warm_up_model` a new recognizer has done a task of that model before it is handed out. A model that calls a
    tone a task without speech cannot be used for that: each warm-up would end its connection, and the pool would open
    for ever. After the first time the warm-up is left out.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits | None = None, warm_up_model: str | None = None) -> None:
        self.loop = Loop()
        self.load = Load(more=self.loop.figures)
        self._endpoint = endpoint
        self._limits = limits or Limits()
        self._warm_up_model = warm_up_model
        self._lock = threading.Lock()

    def open(self) -> Recognizer:
        """A connected recognizer. Slow: two or three round trips, and the warm-up task.

        Raises MissingApiKey, ConnectFailed, a refusal, or what else made the warm-up task fail.
        """
        if not self._endpoint.api_key:
            raise MissingApiKey
        model = self._warm_up_model
        if model is not None:
            try:
                return self._warm(model)
            except NoSpeech:
                self._leave_out_warm_up(model)
        return self._connected()

    def is_healthy(self, recognizer: Recognizer) -> bool:
        """Before lending; does not wait."""
        return recognizer.is_healthy()

    def is_reusable(self, recognizer: Recognizer) -> bool:
        """After lending; asks the session's state, not how the lease ended."""
        return recognizer.is_reusable()

    def abort(self, recognizer: Recognizer) -> None:
        """While it is lent, from another thread: end its connection at once. Never raises."""
        recognizer.abort()
        logger.info("aborted a connection to %s", self._endpoint.host)

    def close(self, recognizer: Recognizer) -> None:
        """Slow, bounded, never raises."""
        tasks = recognizer.tasks
        recognizer.close()
        logger.info("closed a connection to %s after %d tasks", self._endpoint.host, tasks)

    def _connected(self) -> Recognizer:
        began = time.monotonic()
        try:
            transport = WebSocketTransport.connect(self._endpoint)
        except Throttled:
            self.load.throttled()
            raise
        logger.info("connected to %s in %.0f ms", self._endpoint.host, 1000 * (time.monotonic() - began))
        return Recognizer(transport, self._limits, loop=self.loop, load=self.load)

    def _warm(self, model: str) -> Recognizer:
        recognizer = self._connected()
        began = time.monotonic()
        with contextlib.ExitStack() as unless_warm:
            unless_warm.callback(self.close, recognizer)
            warm_up(recognizer, model, deadline=began + self._limits.started + self._limits.finished + SENDING)
            unless_warm.pop_all()
        logger.info("warmed up with %s in %.0f ms", model, 1000 * (time.monotonic() - began))
        return recognizer

    def _leave_out_warm_up(self, model: str) -> None:
        with self._lock:
            first, self._warm_up_model = self._warm_up_model is not None, None
        if first:
            logger.warning("%s takes a tone for a task without speech: connections are not warmed up by a task", model)
