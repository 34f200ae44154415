"""What a pool asks about recognizers: open, is_healthy, is_reusable, abort, close. It is not known here itself."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol

from worker.recognition.conversation import Limits
from worker.recognition.endpoint import Endpoint
from worker.recognition.errors import ConnectFailed, MissingApiKey, NoSpeech, ServerFault, ServiceError, Throttled
from worker.recognition.load import Load
from worker.recognition.loop import Loop
from worker.recognition.probe import warm_up
from worker.recognition.recognizer import Recognizer
from worker.recognition.transport import WebSocketTransport

logger = logging.getLogger("worker.recognition")

SENDING: Final = 5.0
"""Seconds of a warm-up task beside the waits that have a limit of their own."""


class Turn(Protocol):
    """Leave to run one task."""

    def ended(self, *, well: bool) -> None:
        """The service has ended it."""
        ...

    def refused(self, retry_after: float | None) -> None:
        """The service did not let it begin."""
        ...


@contextlib.contextmanager
def telling(turn: Turn) -> Iterator[None]:
    """The block is one task; the turn is told how it ends, if the service has ended it."""
    try:
        yield
    except Throttled as error:
        turn.refused(error.retry_after)
        raise
    except ServiceError:
        turn.ended(well=False)
        raise
    turn.ended(well=True)


class Gate(Protocol):
    """What an account allows, by shape: who watches over it is told how connections fare, and asked for tasks."""

    def opened(self) -> None: ...

    def failed(self, *, refused: bool, retry_after: float | None) -> None: ...

    def warm_up(self, model: str) -> AbstractContextManager[Turn | None]:
        """Leave for a warm-up task; None: not now."""
        ...


class OpenGate:
    """Where nobody watches."""

    def opened(self) -> None:
        pass

    def failed(self, *, refused: bool, retry_after: float | None) -> None:
        pass

    def warm_up(self, model: str) -> AbstractContextManager[Turn | None]:
        return contextlib.nullcontext(self)

    def ended(self, *, well: bool) -> None:
        pass

    def refused(self, retry_after: float | None) -> None:
        pass


class RecognizerHooks:
    """Makes recognizers for one endpoint and judges whether they are still good.

    `load` is what holds them all up, `loop` moves the bytes of those that stream.

    With `warm_up_model` a new recognizer has done a task of that model before it is handed out. A model that calls a
    tone a task without speech cannot be used for that: each warm-up would end its connection, and the pool would open
    for ever. After the first time the warm-up is left out; and where the gate gives no leave for it.
    Hooks of several endpoints share what `loop` and `load` they are given.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits | None = None,
        warm_up_model: str | None = None,
        *,
        gate: Gate | None = None,
        loop: Loop | None = None,
        load: Load | None = None,
    ) -> None:
        self.loop = loop or Loop()
        self.load = load or Load(more=self.loop.figures)
        self._gate = gate or OpenGate()
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
        except (ConnectFailed, ServerFault, Throttled) as error:
            self._failed(error)
            raise
        except ServiceError:
            self._gate.opened()  # it declines, so it is there
            raise
        self._gate.opened()
        logger.info("connected to %s in %.0f ms", self._endpoint.host, 1000 * (time.monotonic() - began))
        return Recognizer(transport, self._limits, loop=self.loop, load=self.load)

    def _warm(self, model: str) -> Recognizer:
        recognizer = self._connected()
        with contextlib.ExitStack() as unless_warm:
            unless_warm.callback(self.close, recognizer)
            with self._gate.warm_up(model) as turn:
                if turn is not None:
                    self._hear(recognizer, model, turn)
            unless_warm.pop_all()
        return recognizer

    def _hear(self, recognizer: Recognizer, model: str, turn: Turn) -> None:
        began = time.monotonic()
        with telling(turn):
            warm_up(recognizer, model, deadline=began + self._limits.started + self._limits.finished + SENDING)
        logger.info("warmed up with %s in %.0f ms", model, 1000 * (time.monotonic() - began))

    def _failed(self, error: ConnectFailed | ServerFault | Throttled) -> None:
        if isinstance(error, Throttled):
            self.load.throttled()
        refused = not isinstance(error, ConnectFailed)
        self._gate.failed(refused=refused, retry_after=getattr(error, "retry_after", None))

    def _leave_out_warm_up(self, model: str) -> None:
        with self._lock:
            first, self._warm_up_model = self._warm_up_model is not None, None
        if first:
            logger.warning("%s takes a tone for a task without speech: connections are not warmed up by a task", model)
