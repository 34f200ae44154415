"""What the Celery shells share: how Celery treats our tasks, and how the ways a task is left map to what it knows."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.states import READY_STATES

from config.logs import shown_arguments
from tasks.errors import EndedBefore, JobError, NotEnded, Withdrawn
from worker.handback import first_in_line

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
    # What logs and events may show of the arguments.
    shown = staticmethod(shown_arguments)

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Send the task's message: a next try, or a link of a chain, whose arguments are what the link before it gave.

        Celery would show them as they are in the event that tells of it.
        """
        return super().apply_async(args, kwargs, *more, **options | self.shown(args or (), kwargs or {}))


@contextmanager
def leaving(task: JobTask) -> Iterator[None]:
    """How the block is left becomes what Celery knows."""
    try:
        yield
    except NotEnded as left:
        later(task, left)
    except Withdrawn:
        revoked(task)
    except JobError as error:
        # `from None`: texts of libraries may hold a signed address, and Celery stores the whole chain.
        raise error from None


def is_told(task: JobTask) -> bool:
    """Whether Celery knows how the job has ended."""
    return task.backend.get_state(str(task.request.id)) in READY_STATES


def told_again(task: JobTask, before: EndedBefore) -> dict[str, Any]:
    """How the job has ended, if Celery does not know. Else nothing: what is linked to it would be sent once more."""
    if is_told(task):
        raise Ignore from None
    if before.result is None:
        raise before.error from None
    return before.result


def revoked(task: JobTask) -> NoReturn:
    """Tell Celery that the job was cancelled, if it does not know how it ended."""
    if is_told(task):
        raise Ignore from None
    task.backend.mark_as_revoked(str(task.request.id), "cancelled", request=task.request, store_result=True)
    announce(task, "task-revoked", terminated=False, signum=None, expired=False)
    raise Ignore from None


def later(task: JobTask, left: NotEnded) -> NoReturn:
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
        announce(task, "task-retried", exception=repr(left.error), traceback="")
    try:
        with first_in_line(task.app) as producer:
            message.apply_async(producer=producer)
    except Exception:
        # The queue did not take it, for whatever reason. Celery would drop the job here; the message that there is
        # goes back instead.
        raise Reject("the queue takes no other", requeue=True) from None
    # Celery's own `Retry` would now write so where the result belongs; the next attempt may have ended there already.
    raise Ignore from None


def announce(task: JobTask, event: str, **fields: Any) -> None:
    """Tell those who look on, such as Flower. If they cannot be told, that changes nothing for the job."""
    try:
        task.send_event(event, **fields)
    except Exception as error:
        log.warning("job %s: nobody could be told of its %s (%s)", task.request.id, event, type(error).__name__)


def explained(job_id: str, error: Exception) -> JobError:
    """What an exception means that nobody foresaw."""
    if isinstance(error, SoftTimeLimitExceeded):
        return JobError("time_limit", "The worker's time limit ended the job; raise it.")
    log.error("job %s failed unexpectedly: %s at %s", job_id, type(error).__name__, _where(error))
    return JobError("internal_error", f"A fault in Stenopool ({type(error).__name__}); the worker's log says where.")


def _where(error: Exception) -> str:
    """Where a fault happened, innermost first. Its text is left out: it may quote an address or a transcript."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
