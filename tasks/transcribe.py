"""Celery shell of the main task: decode, call, map errors to retries. Nothing else."""

import logging
import random
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from celery import Task, shared_task
from celery.exceptions import Reject, SoftTimeLimitExceeded

from config.logs import shown_arguments
from config.settings import JobSettings, settings
from tasks import transcription
from tasks.audio import AudioLimits, open_audio
from tasks.errors import JobError, Unavailable
from tasks.job.record import JobRecord
from tasks.job.request import JobRequest
from worker.runtime import Runtime, runtime

log = logging.getLogger("worker.tasks")


class JobTask(Task[Any, Any]):
    """How Celery treats a job."""

    Request = "worker.requests.RedactedRequest"
    # Expected: logged as one line, without a traceback.
    throws = (JobError,)
    # What logs, events and Flower show of the result: the job's id, never its transcript.
    resultrepr_maxsize = 48
    # Seconds until Celery itself tries again, after a worker's child was lost.
    default_retry_delay = 5

    @property
    def max_retries(self) -> int:  # type: ignore[override]
        """The bound for Celery's own retries; ours are bounded by the same number."""
        return settings().job.retries

    def signature_from_request(self, *args: Any, **options: Any) -> Any:
        """The next try's message. Celery would show its arguments as they are in the event that tells of it."""
        signature = super().signature_from_request(*args, **options)
        signature.options.update(shown_arguments(signature.args, signature.kwargs))
        return signature


@shared_task(base=JobTask, bind=True, name="tasks.transcribe")
def transcribe(self: JobTask, /, *args: Any, **options: Any) -> dict[str, Any]:
    """Transcribe the recording that the first argument refers to; the interface's page lists the options."""
    house = runtime()
    record = JobRecord(house.redis, str(self.request.id), house.settings.job.ttl)
    try:
        return _attempt(self, house, record, JobRequest.parse(args, options))
    except JobError as error:
        _end(self, house.settings.job, record, error)
    except SoftTimeLimitExceeded:
        _end(
            self, house.settings.job, record, JobError("time_limit", "The worker's time limit ended the job; raise it.")
        )
    except Exception as error:
        log.error("job %s failed unexpectedly: %s at %s", self.request.id, type(error).__name__, _where(error))
        sentence = f"A fault in Stenopool ({type(error).__name__}); the worker's log says where."
        _end(self, house.settings.job, record, JobError("internal_error", sentence))


def _attempt(task: JobTask, house: Runtime, record: JobRecord, request: JobRequest) -> dict[str, Any]:
    attempt = transcription.Attempt(
        job_id=record.job_id,
        number=task.request.retries + 1,
        worker=str(task.request.hostname),
        deadline=time.monotonic() + house.settings.job.deadline,
    )
    audio = house.settings.audio
    limits = AudioLimits(
        max_bytes=audio.max_bytes,
        max_seconds=audio.max_seconds,
        connect_timeout=audio.connect_timeout,
        read_timeout=audio.read_timeout,
    )
    opener = partial(open_audio, roots=audio.roots, http=house.http, limits=limits)
    return transcription.run(
        request,
        attempt,
        record=record,
        recognizers=house.pool,
        open_audio=lambda ref, rate: opener(ref, rate=rate),
        follow=house.beat.follow,
    )


def _end(task: JobTask, settings: JobSettings, record: JobRecord, error: JobError) -> NoReturn:
    again = error.retryable and task.request.retries < settings.retries
    try:
        (record.waiting if again else record.failed)(error.code, error.sentence)
    except Unavailable:
        log.warning("job %s: its end could not be recorded, Redis does not answer", record.job_id)
    if again:
        _try_again(task, error, _countdown(task.request.retries, settings))
    # `from None`: texts of libraries may hold a signed address, and Celery stores the whole chain.
    raise error from None


def _try_again(task: JobTask, error: JobError, countdown: float) -> NoReturn:
    try:
        raise task.retry(exc=error, countdown=countdown) from None
    except Reject:
        # The queue did not take the next try. Celery would drop the job here; its message goes back instead.
        raise Reject(error, requeue=True) from None


def _countdown(retries: int, settings: JobSettings) -> float:
    """Full jitter, so that the jobs of one outage do not come back together."""
    return random.uniform(0, min(settings.backoff_max, settings.backoff * 2**retries))


def _where(error: Exception) -> str:
    """Where a fault happened, innermost first. Its text is left out: it may quote an address or a transcript."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
