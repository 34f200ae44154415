"""Celery shell of the task that asks a text model: decode, call, map how it went to what Celery knows. Nothing else."""

import uuid
from functools import partial
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore

from config.logs import hidden_arguments
from tasks import generation
from tasks.errors import BadInput
from tasks.job.keys import JobKeys
from tasks.shell import JobTask, explained, is_told, leaving
from tasks.text.answers import Answers
from tasks.text.request import GenerateRequest
from worker.generation import Caller
from worker.runtime import Runtime, runtime


class TextTask(JobTask):
    """A job whose arguments are a transcript and what somebody wants to know of it."""

    Request = "worker.requests.HiddenRequest"
    shown = staticmethod(hidden_arguments)


@shared_task(base=TextTask, bind=True, name="tasks.generate")
def generate(self: TextTask, /, *args: Any, **options: Any) -> dict[str, Any]:
    """Ask a text model about the text, or transcript, that is the first argument; the options are in docs/text.md."""
    if not self.request.is_eager and is_told(self):  # a second delivery of the message: it is not paid for twice
        raise Ignore
    process, job_id = runtime(), str(self.request.id)
    rules = process.settings.job
    with leaving(self):
        request, keys = GenerateRequest.parse(args, options), JobKeys(job_id)
        answers = Answers(process.redis, keys, uuid.uuid4().hex, ttl=rules.ttl, lease=rules.lease)
        return generation.run(request, job_id, answers, _house(process, job_id), self.request.retries)


def _house(process: Runtime, job_id: str) -> generation.House:
    return generation.House(
        rules=process.settings.job,
        asked=process.text_models,
        caller=partial(_caller, process),
        watch=process.watch,
        explain=partial(explained, job_id),
    )


def _caller(process: Runtime, name: str | None) -> Caller:
    """The account of that name; the first, if none is asked for."""
    accounts = process.settings.accounts()
    found = next((one for one in accounts if name in (None, one.name)), None)
    if found is None:
        known = ", ".join(one.name for one in accounts)
        raise BadInput("bad_request", f"account {name!r} is not known to this worker; it has {known}.")
    return Caller(api_key=found.api_key.get_secret_value(), workspace_id=found.workspace_id)
