"""Celery shell of the main task: decode, call, map how it went to what Celery knows. Nothing else."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import shared_task

from config.callback import CallbackSettings
from tasks import transcription
from tasks.audio import AudioLimits, open_audio
from tasks.audio.digest import digest
from tasks.audio.reference import AudioReference
from tasks.errors import BadInput, EndedBefore, JobError, NotEnded, Withdrawn
from tasks.house import House
from tasks.job.callback import Callback
from tasks.job.record import JobRecord
from tasks.job.request import JobRequest
from tasks.job.twins import Twins
from tasks.shell import JobTask, explained, leaving, told_again
from worker.notices import send_notice
from worker.runtime import Runtime, runtime

log = logging.getLogger("worker.tasks")


@shared_task(base=JobTask, bind=True, name="tasks.transcribe")
def transcribe(self: JobTask, /, *args: Any, **options: Any) -> dict[str, Any]:
    """Transcribe the recording that the first argument refers to; the interface's page lists the options."""
    process = runtime()
    rules, signing = process.settings.job, process.settings.callback
    callback = Callback.of(options, _queue(self.request)) if signing.secret else None
    record = JobRecord(process.redis, str(self.request.id), ttl=rules.ttl, lease=rules.lease, callback=callback)
    try:
        with leaving(self), _calling_back(self, callback):
            house = _house(process, self.request, record.job_id)
            return transcription.run(lambda: _request(args, options, signing), _shown(args, options), record, house)
    except EndedBefore as before:
        return told_again(self, before)


def _request(args: tuple[Any, ...], options: dict[str, Any], signing: CallbackSettings) -> JobRequest:
    request = JobRequest.parse(args, options)
    if request.callback_url is not None and signing.secret is None:
        raise BadInput(
            "callback_unsigned",
            "callback_url was given, and this worker has nothing to sign with: set STENOPOOL_CALLBACK_SECRET for the "
            "workers, or leave callback_url out.",
        )
    return request


@contextmanager
def _calling_back(task: JobTask, callback: Callback | None) -> Iterator[None]:
    """After the block, unless another attempt goes on, the job has ended: have its callback delivered.

    This may be the second message of a job that ended before, whose first was lost before it came to that. One that is
    sent for nothing does no harm.
    """
    try:
        yield
    except NotEnded:
        raise
    except (JobError, EndedBefore, Withdrawn):
        _have_delivered(task, callback)
        raise
    _have_delivered(task, callback)


def _have_delivered(task: JobTask, callback: Callback | None) -> None:
    if callback is None:
        return
    try:
        send_notice(task.app, str(task.request.id), callback.queue)
    except Exception as error:  # whatever it is, the job has ended
        log.warning(
            "job %s: its callback is delivered later, the queue takes no message (%s)",
            task.request.id,
            type(error).__name__,
        )


def _queue(request: Any) -> str:
    """The queue that a message has come by; none, if it does not say so."""
    return str((request.delivery_info or {}).get("routing_key") or "")


def _house(process: Runtime, request: Any, job_id: str) -> House:
    audio = process.settings.audio
    limits = AudioLimits(
        max_bytes=audio.max_bytes,
        max_seconds=audio.max_seconds,
        decode_seconds=audio.decode_seconds,
        connect_timeout=audio.connect_timeout,
        read_timeout=audio.read_timeout,
    )
    http, stores, rules = process.http, process.stores, process.settings.job
    opener = partial(open_audio, roots=audio.roots, http=http, stores=stores, limits=limits)
    return House(
        worker=str(request.hostname),
        queue=_queue(request),
        rules=rules,
        redis_patience=process.settings.redis.patience,
        places=process.accounts.place,
        open_audio=lambda reference, rate, channel: opener(reference, rate=rate, channel=channel),
        digest=partial(digest, roots=audio.roots, http=http, stores=stores, limits=limits),
        twins=Twins(process.redis, ttl=max(rules.ttl, math.ceil(rules.deadline))),
        watch=process.watch,
        explain=partial(explained, job_id),
    )


def _shown(args: tuple[Any, ...], options: dict[str, Any]) -> str:
    """The reference as anybody may see it; none, if it cannot be read."""
    try:
        return AudioReference.parse(args[0] if args else options.get("audio")).shown
    except BadInput:
        return ""
