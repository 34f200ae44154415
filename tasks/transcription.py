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
from worker.pool import OpenFailed, PoolError
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
    except OpenFailed as error:
        raise _as_job_error(error.error) from None
    except PoolError as error:
        raise Unavailable("no_recognizer", f"No recogniser became free in time: {error}.") from None


def _as_job_error(error: BaseException) -> JobError:
    if not isinstance(error, RecognitionError):
        return Unavailable("upstream_unreachable", "The recognition service could not be reached; it is tried again.")
    if error.retryable:
        return Unavailable(error.code, str(error), getattr(error, "retry_after", None))
    return Refused(error.code, str(error))
