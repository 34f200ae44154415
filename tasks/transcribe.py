"""Celery shell of the main task: decode, call, map how it went to what Celery knows. Nothing else."""

import logging
import traceback
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from celery import Task, shared_task
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.states import READY_STATES

from config.logs import shown_arguments
from tasks import transcription
from tasks.audio import AudioLimits, open_audio
from tasks.audio.reference import AudioReference
from tasks.errors import BadInput, EndedBefore, JobError, NotEnded, Withdrawn
from tasks.job.record import JobRecord
from tasks.job.request import JobRequest
from worker.handback import first_in_line
from worker.runtime import Runtime, runtime

log = logging.getLogger("worker.tasks")


class JobTask(Task[Any, Any]):
    """How Celery treats a job."""

    Request = "worker.requests.RedactedRequest"
    # Expected: logged as one line, without a traceback.
    throws = (JobError,)
    # What logs, events and Flower show of the result: the job's id, never its transcript.
    resultrepr_maxsize = 48
    # A job's tries are counted in its record, where they survive a worker.
    max_retries = None

    def signature_from_request(self, *args: Any, **options: Any) -> Any:
        """The next try's message. Celery would show its arguments as they are in the event that tells of it."""
        signature = super().signature_from_request(*args, **options)
        signature.options.update(shown_arguments(signature.args, signature.kwargs))
        return signature


@shared_task(base=JobTask, bind=True, name="tasks.transcribe")
def transcribe(self: JobTask, /, *args: Any, **options: Any) -> dict[str, Any]:
    """Transcribe the recording that the first argument refers to; the interface's page lists the options."""
    process = runtime()
    rules = process.settings.job
    record = JobRecord(process.redis, str(self.request.id), ttl=rules.ttl, lease=rules.lease)
    try:
        house = _house(process, self.request, record.job_id)
        return transcription.run(lambda: JobRequest.parse(args, options), _shown(args, options), record, house)
    except EndedBefore as before:
        return _told_again(self, before)
    except NotEnded as left:
        _later(self, left)
    except Withdrawn:
        _revoked(self)
    except JobError as error:
        # `from None`: texts of libraries may hold a signed address, and Celery stores the whole chain.
        raise error from None


def _house(process: Runtime, request: Any, job_id: str) -> transcription.House:
    audio = process.settings.audio
    limits = AudioLimits(
        max_bytes=audio.max_bytes,
        max_seconds=audio.max_seconds,
        connect_timeout=audio.connect_timeout,
        read_timeout=audio.read_timeout,
    )
    opener = partial(open_audio, roots=audio.roots, http=process.http, limits=limits)
    return transcription.House(
        worker=str(request.hostname),
        queue=str((request.delivery_info or {}).get("routing_key") or ""),
        rules=process.settings.job,
        redis_patience=process.settings.redis.patience,
        places=process.accounts.place,
        open_audio=lambda reference, rate: opener(reference, rate=rate),
        watch=process.watch,
        explain=partial(_explained, job_id),
    )


def _shown(args: tuple[Any, ...], options: dict[str, Any]) -> str:
    """The reference as anybody may see it; none, if it cannot be read."""
    try:
        return AudioReference.parse(args[0] if args else options.get("audio")).shown
    except BadInput:
        return ""


def _explained(job_id: str, error: Exception) -> JobError:
    if isinstance(error, SoftTimeLimitExceeded):
        return JobError("time_limit", "The worker's time limit ended the job; raise it.")
    log.error("job %s failed unexpectedly: %s at %s", job_id, type(error).__name__, _where(error))
    return JobError("internal_error", f"A fault in Stenopool ({type(error).__name__}); the worker's log says where.")


def _later(task: JobTask, left: NotEnded) -> NoReturn:
    """Leave a message for the next attempt: this one, at once; or a new one, later, before this one is acknowledged."""
    if not left.seconds:
        raise Reject("left to another worker", requeue=True) from None
    retries = task.request.retries + (left.error is not None)  # for those who look on; it bounds nothing
    message = task.signature_from_request(task.request, countdown=left.seconds, retries=retries)
    if task.request.is_eager:  # there is no queue
        if left.error is None:
            raise Ignore from None
        raise Retry(exc=left.error, is_eager=True, sig=message) from None
    if left.error is not None:  # else a second delivery: that it waits is no news of the job
        log.info("job %s is tried again in %.1f s: %s", task.request.id, left.seconds, left.error.code)
        _announce(task, "task-retried", exception=repr(left.error), traceback="")
    try:
        with first_in_line(task.app) as producer:
            message.apply_async(producer=producer)
    except Exception:
        # The queue did not take it, for whatever reason. Celery would drop the job here; the message that there is
        # goes back instead.
        raise Reject("the queue takes no other", requeue=True) from None
    # Celery's own `Retry` would now write so where the result belongs; the next attempt may have ended there already.
    raise Ignore from None


def _told_again(task: JobTask, before: EndedBefore) -> dict[str, Any]:
    """How the job has ended, if Celery does not know. Else nothing: what is linked to it would be sent once more."""
    if task.backend.get_state(str(task.request.id)) in READY_STATES:
        raise Ignore from None
    if before.result is None:
        raise before.error from None
    return before.result


def _revoked(task: JobTask) -> NoReturn:
    if task.backend.get_state(str(task.request.id)) in READY_STATES:
        raise Ignore from None
    task.backend.mark_as_revoked(str(task.request.id), "cancelled", request=task.request, store_result=True)
    _announce(task, "task-revoked", terminated=False, signum=None, expired=False)
    raise Ignore from None


def _announce(task: JobTask, event: str, **fields: Any) -> None:
    """Tell those who look on, such as Flower. If they cannot be told, that changes nothing for the job."""
    try:
        task.send_event(event, **fields)
    except Exception as error:
        log.warning("job %s: nobody could be told of its %s (%s)", task.request.id, event, type(error).__name__)


def _where(error: Exception) -> str:
    """Where a fault happened, innermost first. Its text is left out: it may quote an address or a transcript."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
