"""Celery shell of the main task: decode, call, map errors to retries. Nothing else."""

import logging
import random
import time
from functools import partial
from typing import Any, NoReturn

from celery import Task, shared_task

from config.settings import JobSettings
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
    # The bound on retries is ours, by class of error.
    max_retries = None
    # What logs, events and Flower show of the result: the job's id, never its transcript.
    resultrepr_maxsize = 48


@shared_task(base=JobTask, bind=True, name="tasks.transcribe")
def transcribe(self: JobTask, *args: Any, **options: Any) -> dict[str, Any]:
    """Transcribe the recording that the first argument refers to; the interface's page lists the options."""
    house = runtime()
    record = JobRecord(house.redis, str(self.request.id), house.settings.job.ttl)
    try:
        return _attempt(self, house, record, JobRequest.parse(args, options))
    except JobError as error:
        _end(self, house.settings.job, record, error)
    except Exception as error:
        # A fault of ours: the log gets the traceback, the user a sentence.
        log.exception("job %s failed unexpectedly", self.request.id)
        _end(
            self,
            house.settings.job,
            record,
            JobError("internal_error", f"A fault in Stenopool ({type(error).__name__})."),
        )


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
        request, attempt, record=record, recognizers=house.pool, open_audio=lambda ref, rate: opener(ref, rate=rate)
    )


def _end(task: JobTask, settings: JobSettings, record: JobRecord, error: JobError) -> NoReturn:
    if error.retryable and task.request.retries < settings.retries:
        record.waiting(error.code, error.sentence)
        raise task.retry(exc=error, countdown=_countdown(task.request.retries, settings, error)) from None
    record.failed(error.code, error.sentence)
    # `from None`: texts of libraries may hold a signed address, and Celery stores the whole chain.
    raise error from None


def _countdown(retries: int, settings: JobSettings, error: JobError) -> float:
    """Full jitter, so that the jobs of one outage do not come back together; never sooner than the other side asked."""
    wait = random.uniform(0, min(settings.backoff_max, settings.backoff * 2**retries))
    asked = error.retry_after if isinstance(error, Unavailable) else None
    return max(wait, asked or 0.0)
