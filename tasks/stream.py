"""One recording's way through a recogniser, from a place in it to its end."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from tasks.audio.pacing import Paced
from tasks.errors import JobError, Refused, Unavailable
from tasks.job.request import JobRequest
from tasks.meter import Meter, Stopwatch
from worker.pool import OpenFailed, PoolError, PoolTimeout
from worker.recognition import (
    Final,
    NoSpeech,
    OutOfStep,
    Partial,
    RecognitionError,
    Recognizer,
    ServerFault,
    Started,
    Throttled,
    TransportError,
)
from worker.stops import Stop

STALE = (TransportError, OutOfStep)
"""How a connection fails that stood idle for too long: it is dead, or the service believes a task to be running."""


class Recognizers(Protocol):
    """Where a recogniser can be borrowed: the process's pool."""

    def lease(
        self, timeout: float | None = None, *, borrower: str = "", fresh: bool = False
    ) -> AbstractContextManager[Recognizer]: ...

    def turn_away(self, borrower: str) -> None:
        """End the wait of whoever waits under this name."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """What one stream needs. `take` is given what is heard, in the job's thread; it may raise to end the stream."""

    borrower: str
    request: JobRequest
    chunks: Paced
    deadline: float
    meter: Meter
    watch: Stopwatch
    stop: Stop
    take: Callable[[Partial | Final], None]

    def run(self, recognizers: Recognizers) -> bool:
        """Over a warm recogniser; once more over a new one, if the first proves stale before it took any audio.

        Says whether the connection was there before the job needed it.
        """
        asked = time.monotonic()
        with self._lent(recognizers) as recognizer:
            reused = recognizer.connected_at < asked
            try:
                self._over(recognizer)
                return reused
            except STALE:
                if recognizer.took_audio or not reused:
                    raise
        with self._lent(recognizers, fresh=True) as recognizer:
            self._over(recognizer)
        return False

    @contextmanager
    def _lent(self, recognizers: Recognizers, *, fresh: bool = False) -> Iterator[Recognizer]:
        with ExitStack() as lease:
            try:
                with self.stop.breaking(lambda _: recognizers.turn_away(self.borrower)):
                    recognizer = lease.enter_context(recognizers.lease(borrower=self.borrower, fresh=fresh))
            except PoolTimeout:
                self.stop.check()  # it was turned away
                raise
            yield recognizer

    def _over(self, recognizer: Recognizer) -> None:
        self.watch.reach("leased")
        transcribing = recognizer.transcribe(
            model=self.request.model,
            parameters=self.request.wire_parameters(),
            resources=self.request.wire_resources(),
            chunks=self.chunks,
            ready=self.chunks.ready,
            deadline=self.deadline,
            partials=self.request.live,
        )
        try:
            # A recogniser that is given back must have nothing under way.
            with self.stop.breaking(recognizer.interrupt), closing(transcribing) as events:
                for event in events:
                    self.meter.heard += 1
                    if isinstance(event, Started):
                        self.meter.begin(recognizer)
                    elif isinstance(event, Partial | Final):
                        self.watch.reach("heard")
                        self.take(event)
        except NoSpeech:
            # To the service a recording without speech is a failed task; to its owner it is a transcript without
            # sentences. Said before all the audio was sent, it is a failure for both.
            if not recognizer.sent_all:
                raise
        finally:
            self.meter.end()


@contextmanager
def translated() -> Iterator[None]:
    """Pool and recognition have their own errors; a job has a code and a sentence."""
    try:
        yield
    except RecognitionError as error:
        raise _as_job_error(error) from None
    except OpenFailed as failed:
        # The pool gives up for good only on errors that say themselves that they are not retryable: recognition's.
        if not isinstance(failed.error, RecognitionError):
            raise
        raise _as_job_error(failed.error) from None
    except PoolTimeout as late:
        raise Unavailable("no_recognizer", _why(late)) from None
    except PoolError as error:
        raise Unavailable("no_recognizer", f"No recogniser could be borrowed: {error}.") from None


def _as_job_error(error: RecognitionError) -> JobError:
    if not error.retryable:
        return Refused(error.code, str(error))
    unavailable = Unavailable(error.code, str(error))
    if isinstance(error, Throttled | ServerFault):
        unavailable.retry_after = error.retry_after
    return unavailable


def _why(late: PoolTimeout) -> str:
    if late.last_error:
        return (
            f"No recogniser was ready within {late.seconds:.0f} s: the last connection failed with {late.last_error}. "
            "See what is wrong with: stenopool doctor."
        )
    return (
        f"All recognisers were busy for {late.seconds:.0f} s ({late.figures}): raise RECOGNITION_OBJECTPOOL_SIZE, "
        "DASHSCOPE_CONNECTION_POOL_SIZE or DASHSCOPE_MAXIMUM_ASYNC_REQUESTS, or lower the worker's concurrency."
    )
