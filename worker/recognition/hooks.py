"""What a pool asks about recognizers: open, is_healthy, is_reusable, close. The pool itself is not known here."""

import logging
import time

from worker.recognition.endpoint import Endpoint
from worker.recognition.errors import MissingApiKey
from worker.recognition.recognizer import Limits, Recognizer
from worker.recognition.transport import WebSocketTransport

logger = logging.getLogger("worker.recognition")


class RecognizerHooks:
    """Makes recognizers for one endpoint and judges whether they are still good."""

    def __init__(self, endpoint: Endpoint, limits: Limits | None = None) -> None:
        self._endpoint = endpoint
        self._limits = limits or Limits()

    def open(self) -> Recognizer:
        """A connected recognizer. Slow (four round trips); raises MissingApiKey, ConnectFailed or a refusal."""
        if not self._endpoint.api_key:
            raise MissingApiKey
        began = time.monotonic()
        recognizer = Recognizer(WebSocketTransport.connect(self._endpoint), self._limits)
        logger.info("connected to %s in %.0f ms", self._endpoint.host, 1000 * (time.monotonic() - began))
        return recognizer

    def is_healthy(self, recognizer: Recognizer) -> bool:
        """Before lending; does not wait."""
        return recognizer.is_healthy()

    def is_reusable(self, recognizer: Recognizer) -> bool:
        """After lending; asks the session's state, not how the lease ended."""
        return recognizer.is_reusable()

    def close(self, recognizer: Recognizer) -> None:
        """Slow, bounded, never raises."""
        tasks = recognizer.tasks
        recognizer.close()
        logger.info("closed a connection to %s after %d tasks", self._endpoint.host, tasks)
