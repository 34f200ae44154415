"""One recording's way through a recogniser, from a place in it to its end."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from tasks.audio.pacing import Paced
from tasks.errors import BadInput, JobError, NotBegun, Refused, Unavailable
from tasks.job.request import JobRequest
from tasks.meter import Meter, Stopwatch
from worker.accounts import NoSuchAccount
from worker.pool import OpenFailed, PoolError, PoolTimeout
from worker.quota import NoQuota, QuotaUnknown, Wish
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
    Turn,
    telling,
)
from worker.stops import Stop

LOOK_EVERY = 5.0
"""Seconds after which a job that waits for a recogniser looks whether it waits for a connection: then others shall have
its slot meanwhile, who may be able to connect.
"""

STALE = (TransportError, OutOfStep)
"""How a connection fails that stood idle for too long: it is dead, or the service believes a task to be running."""


class Recognizers(Protocol):
    """Where a recogniser can be borrowed: a pool of the process's."""

    def lease(
        self, timeout: float | None = None, *, borrower: str = "", fresh: bool = False
    ) -> AbstractContextManager[Recognizer]: ...

    def turn_away(self, borrower: str) -> None:
        """End the wait of whoever waits under this name."""
        ...


class Slot(Turn, Protocol):
    """Leave of the account's to run streams, one after the other."""

    def await_start(self, stop: Stop) -> None:
        """Return when the next one may begin."""
        ...

    def began(self) -> None:
        """The service has let the stream begin."""
        ...


class Place(Protocol):
    """Where a stream may run."""

    @property
    def slot(self) -> Slot: ...
    @property
    def recognizers(self) -> Recognizers: ...
    @property
    def patience(self) -> float:
        """Seconds for which the job may wait for a recogniser, while they are busy."""
        ...


Places = Callable[[Wish, Stop, Callable[[], None]], AbstractContextManager[Place]]
"""Gives a place when the account has quota for it; calls the last argument if that takes more than a moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """What one stream needs. `take` is given what is heard, in the job's thread; it may raise to end the stream.

    `waits` is called when there is no quota for more than a moment, `goes` when there is.
    """

    wish: Wish
    waits: Callable[[], None]
    goes: Callable[[], None]
    borrower: str
    request: JobRequest
    chunks: Paced
    deadline: float
    meter: Meter
    watch: Stopwatch
    stop: Stop
    take: Callable[[Partial | Final], None]

    def run(self, places: Places) -> bool:
        """Over a warm recogniser; once more over a new one, if the first proves stale before it took any audio.

        Says whether the connection was there before the job needed it.
        """
        with places(self.wish, self.stop, self.waits) as place:
            self.goes()
            asked = time.monotonic()
            with self._lent(place) as recognizer:
                reused = recognizer.connected_at < asked
                try:
                    with started(place.slot, self.stop):
                        self._over(recognizer, place.slot)
                    return reused
                except STALE:
                    if recognizer.took_audio or not reused:
                        raise
            with self._lent(place, fresh=True) as recognizer, started(place.slot, self.stop):
                self._over(recognizer, place.slot)
            return False

    @contextmanager
    def _lent(self, place: Place, *, fresh: bool = False) -> Iterator[Recognizer]:
        began = time.monotonic()
        with ExitStack() as lease:
            while True:
                try:
                    with self.stop.breaking(lambda _: place.recognizers.turn_away(self.borrower)):
                        borrowed = place.recognizers.lease(LOOK_EVERY, borrower=self.borrower, fresh=fresh)
                        recognizer = lease.enter_context(borrowed)
                    break
                except PoolTimeout as late:
                    self.stop.check()  # it was turned away
                    waited = time.monotonic() - began
                    if is_general(late) or waited >= place.patience:
                        raise PoolTimeout(late.what, waited, late.figures, late.last_error, late.opening) from None
            yield recognizer

    def _over(self, recognizer: Recognizer, slot: Slot) -> None:
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
                        slot.began()
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
def started(slot: Slot, stop: Stop) -> Iterator[None]:
    """The block is one stream: it begins at the slot's moment, and how it ends is told."""
    slot.await_start(stop)
    with telling(slot):
        yield


@contextmanager
def translated() -> Iterator[None]:
    """Quota, pool and recognition have their own errors; a job has a code and a sentence. Raises NotBegun, too."""
    try:
        yield
    except NoQuota as error:
        raise NotBegun(error.place) from None
    except QuotaUnknown as error:
        if not error.passes:
            sentence = f"Redis refuses the account's quota ({error.kind}); look at its rights and its keys."
            raise JobError("redis_refused", sentence) from None
        why = f"Redis did not tell what the account may do ({error.kind}); the job is tried again."
        raise Unavailable("redis_unavailable", why) from None
    except NoSuchAccount as error:
        raise BadInput("bad_request", str(error)) from None
    except RecognitionError as error:
        raise _as_job_error(error) from None
    except OpenFailed as failed:
        # The pool gives up for good only on errors that say themselves that they are not retryable: recognition's.
        if not isinstance(failed.error, RecognitionError):
            raise
        raise _as_job_error(failed.error) from None
    except PoolTimeout as late:
        unavailable = Unavailable("no_recognizer", _why(late))
        unavailable.is_general = is_general(late)
        raise unavailable from None
    except PoolError as error:
        raise Unavailable("no_recognizer", f"No recogniser could be borrowed: {error}.") from None


def is_general(late: PoolTimeout) -> bool:
    """Whether it was not for other jobs that this one waited in vain, but for connections."""
    return bool(late.last_error) or late.opening > 0


def _as_job_error(error: RecognitionError) -> JobError:
    if not error.retryable:
        return Refused(error.code, str(error))
    unavailable = Unavailable(error.code, str(error))
    if isinstance(error, Throttled | ServerFault):
        unavailable.retry_after = error.retry_after
    unavailable.is_general = isinstance(error, Throttled)
    unavailable.is_cut = isinstance(error, TransportError)
    return unavailable


def _why(late: PoolTimeout) -> str:
    if late.last_error:
        return (
            f"No recogniser was ready within {late.seconds:.0f} s: the last connection failed with {late.last_error}. "
            "See what is wrong with: stenopool doctor."
        )
    if late.opening:
        return f"No recogniser was ready within {late.seconds:.0f} s: connections are being opened; try again."
    return (
        f"All recognisers were busy for {late.seconds:.0f} s ({late.figures}): raise RECOGNITION_OBJECTPOOL_SIZE, "
        "DASHSCOPE_CONNECTION_POOL_SIZE or DASHSCOPE_MAXIMUM_ASYNC_REQUESTS, or lower the worker's concurrency."
    )
