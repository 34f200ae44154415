"""The use case, top to bottom: reference -> audio -> recogniser -> sentences -> transcript -> record."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.audio import AudioReference, Recording
from tasks.audio.pacing import paced
from tasks.errors import JobError, Refused, Unavailable
from tasks.job.record import JobRecord
from tasks.job.request import JobRequest
from tasks.meter import Meter, Stopwatch
from tasks.transcript.assemble import Timeline, joined, shown
from worker.pool import OpenFailed, PoolError, PoolTimeout
from worker.recognition import Chunk, Final, NoSpeech, Partial, RecognitionError, Recognizer

OpenAudio = Callable[[AudioReference, int], AbstractContextManager[Recording]]
"""Opens a reference at a sample rate in hertz."""


class Recognizers(Protocol):
    """Where a recogniser can be borrowed: the process's pool."""

    def lease(self, timeout: float | None = None, *, borrower: str = "") -> AbstractContextManager[Recognizer]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """Which try of which job this is, where it runs, and when it must have ended (monotonic seconds)."""

    job_id: str
    number: int
    worker: str
    deadline: float


def run(
    request: JobRequest, attempt: Attempt, *, record: JobRecord, recognizers: Recognizers, open_audio: OpenAudio
) -> dict[str, Any]:
    """Transcribe one recording and return the result as the interface describes it.

    Raises:
        JobError: why there is no transcript.
    """
    reference = AudioReference.parse(request.audio)
    watch = Stopwatch(queued_at=record.started(reference.shown, attempt.worker, attempt.number))
    meter = Meter(request.sample_rate, record.progress)
    timeline = Timeline()
    with open_audio(reference, request.sample_rate) as recording:
        watch.reach("opened")
        record.recording(recording.duration_ms)
        with translated(), recognizers.lease(borrower=attempt.job_id) as recognizer:
            watch.reach("leased")
            reused = recognizer.tasks > 0
            chunks = meter.measured(paced(recording.blocks(), rate=request.sample_rate, pace=request.pace))
            for heard in _events(request, attempt, recognizer, chunks, meter):
                watch.reach("heard")
                _take(heard, timeline, record, live=request.live)
    result = {
        "job_id": attempt.job_id,
        "audio": reference.shown,
        "model": request.model,
        "duration_ms": meter.ms,
        "text": joined(timeline.sentences),
        "sentences": timeline.sentences,
        "captions": {},
        "usage": {"audio_ms": meter.ms, "sent_ms": meter.ms, "streams": 1},
        "timing": watch.timing() | {"reused_connection": reused},
        "attempts": attempt.number,
        "resumes": 0,
        "metadata": request.metadata,
    }
    record.succeeded(result)
    return result


def _events(
    request: JobRequest, attempt: Attempt, recognizer: Recognizer, chunks: Iterator[Chunk], meter: Meter
) -> Iterator[Partial | Final]:
    events = recognizer.transcribe(
        model=request.model,
        parameters=request.wire_parameters(),
        resources=request.wire_resources(),
        chunks=chunks,
        deadline=attempt.deadline,
    )
    try:
        yield from (event for event in events if isinstance(event, Partial | Final))
    except NoSpeech:
        # To the service a recording without speech is a failed task; to its owner it is a transcript without sentences.
        # Said before all the audio was sent, it is a failure for both.
        if not meter.complete:
            raise


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
        f"All recognisers were busy for {late.seconds:.0f} s ({late.figures}): raise RECOGNITION_OBJECTPOOL_SIZE, or "
        "lower the worker's concurrency."
    )
