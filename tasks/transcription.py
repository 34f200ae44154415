"""The use case, top to bottom: reference -> audio -> recogniser -> sentences -> transcript -> record."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.audio import AudioReference, Recording
from tasks.audio.pacing import paced
from tasks.errors import JobError, Refused, Unavailable
from tasks.job.record import JobRecord
from tasks.job.request import JobRequest
from tasks.meter import Meter, Stopwatch
from tasks.transcript.assemble import Timeline, joined, shown
from worker.beat import Pulse
from worker.pool import OpenFailed, PoolError, PoolTimeout
from worker.recognition import (
    Chunk,
    Final,
    NoSpeech,
    OutOfStep,
    Partial,
    RecognitionError,
    Recognizer,
    Started,
    TransportError,
)

OpenAudio = Callable[[AudioReference, int], AbstractContextManager[Recording]]
"""Opens a reference at a sample rate in hertz."""

Follow = Callable[[Pulse], AbstractContextManager[None]]
"""Lets the process's heartbeat tell how far a job is, as long as it streams."""

STALE = (TransportError, OutOfStep)
"""How a connection fails that stood idle for too long: it is dead, or the service believes a task to be running."""


class Recognizers(Protocol):
    """Where a recogniser can be borrowed: the process's pool."""

    def lease(
        self, timeout: float | None = None, *, borrower: str = "", fresh: bool = False
    ) -> AbstractContextManager[Recognizer]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """Which try of which job this is, where it runs, and when it must have ended (monotonic seconds)."""

    job_id: str
    number: int
    worker: str
    deadline: float


def run(
    request: JobRequest,
    attempt: Attempt,
    *,
    record: JobRecord,
    recognizers: Recognizers,
    open_audio: OpenAudio,
    follow: Follow,
) -> dict[str, Any]:
    """Transcribe one recording and return the result as the interface describes it.

    Raises:
        JobError: why there is no transcript.
    """
    reference = AudioReference.parse(request.audio)
    watch = Stopwatch(queued_at=record.started(reference.shown, attempt.worker, attempt.number))
    meter = Meter(request.sample_rate)
    timeline = Timeline()
    with open_audio(reference, request.sample_rate) as recording:
        watch.reach("opened")
        record.recording(recording.duration_ms)
        stream = Stream(
            request=request,
            attempt=attempt,
            chunks=paced(recording.blocks(), rate=request.sample_rate, pace=request.pace),
            meter=meter,
            watch=watch,
            take=lambda heard: _take(heard, timeline, record, live=request.live),
        )
        with translated(), follow(record.following(lambda: meter.ms)):
            reused = stream.run(recognizers)
    sentences = timeline.sentences
    result = {
        "job_id": attempt.job_id,
        "audio": reference.shown,
        "model": request.model,
        "duration_ms": meter.ms,
        "text": joined(sentences),
        "sentences": sentences,
        "captions": {},
        "usage": {"audio_ms": meter.ms, "sent_ms": meter.ms, "streams": 1},
        "timing": watch.timing() | {"reused_connection": reused},
        "attempts": attempt.number,
        "resumes": 0,
        "metadata": request.metadata,
    }
    record.succeeded(result)
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """One recording's way through a recogniser."""

    request: JobRequest
    attempt: Attempt
    chunks: Iterator[Chunk]
    meter: Meter
    watch: Stopwatch
    take: Callable[[Partial | Final], None]

    def run(self, recognizers: Recognizers) -> bool:
        """Over a warm recogniser; once more over a new one, if the first proves stale before it took any audio.

        Says whether the connection was there before the job needed it.
        """
        asked = time.monotonic()
        with recognizers.lease(borrower=self.attempt.job_id) as recognizer:
            reused = recognizer.connected_at < asked
            try:
                self._over(recognizer)
                return reused
            except STALE:
                if recognizer.took_audio or not reused:
                    raise
        with recognizers.lease(borrower=self.attempt.job_id, fresh=True) as recognizer:
            self._over(recognizer)
        return False

    def _over(self, recognizer: Recognizer) -> None:
        self.watch.reach("leased")
        transcribing = recognizer.transcribe(
            model=self.request.model,
            parameters=self.request.wire_parameters(),
            resources=self.request.wire_resources(),
            chunks=self.chunks,
            deadline=self.attempt.deadline,
            partials=self.request.live,
        )
        try:
            with closing(transcribing) as events:  # a recogniser that is given back must have nothing under way
                for event in events:
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


def _take(heard: Partial | Final, timeline: Timeline, record: JobRecord, *, live: bool) -> None:
    if isinstance(heard, Partial):
        if live:
            record.partial(shown(heard.sentence, not_before=timeline.end_ms))
    elif sentence := timeline.add(heard.sentence):
        record.final(sentence)


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
    return (Unavailable if error.retryable else Refused)(error.code, str(error))


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
