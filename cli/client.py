"""What a web app does, for the command line: put jobs on the queue and read their records."""

import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import redis
from celery import Celery

from config.logs import shown_arguments, shown_reference
from config.settings import Settings
from tasks.job.keys import JobKeys
from tasks.job.record import JobRecord
from tasks.job.view import JobView

ALONE = "no worker answers (a solo worker does not while it works); start one with: celery -A worker.app worker -l INFO"
"""What to say when nobody is there to do a job."""

LONGEST_NAME = 60
"""Characters of a name; with a suffix it fits any file system, also in Chinese."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job that was sent: its id, its reference and the name it goes by on the screen."""

    id: str
    audio: str
    name: str


class Client:
    """Sends jobs and finds their records."""

    def __init__(self, app: Celery, connection: redis.Redis, settings: Settings) -> None:
        self.app = app
        self.redis = connection
        self._rules = settings.job

    def send(
        self,
        audio: str,
        options: dict[str, Any],
        queue: str | None = None,
        *,
        job_id: str | None = None,
        name: str | None = None,
    ) -> Job:
        """Put one job on the queue of this name, or on the usual one. Sent twice under one id it is done once."""
        job = Job(job_id or new_id(), audio, name or name_of(audio))
        JobRecord(self.redis, job.id, ttl=self._rules.ttl, lease=self._rules.lease).queued(shown_reference(audio))
        # What events show of the arguments; by default that is the arguments.
        shown: dict[str, Any] = {**shown_arguments([audio], options)}
        self.app.send_task("tasks.transcribe", args=[audio], kwargs=options, task_id=job.id, queue=queue, **shown)
        return job

    def cancel(self, job_id: str) -> None:
        """Ask whoever has the job, or will have it, to end it."""
        self.redis.set(JobKeys(job_id).cancel, "cancelled", ex=self._rules.ttl)

    def view(self, job_id: str) -> JobView:
        """The record of a job."""
        return JobView(self.redis, job_id)

    def workers(self) -> list[str]:
        """The names of the workers that answer within a second."""
        return online(self.app)


def online(app: Celery) -> list[str]:
    """The names of the workers that answer within a second."""
    return sorted(name for reply in app.control.ping(timeout=1.0) or () for name in reply)


def new_id() -> str:
    return str(uuid.uuid4())


def name_of(audio: str) -> str:
    """The last part of a reference, without query; how its results are named."""
    return printable(unquote(shown_reference(audio).rstrip("/").rsplit("/", 1)[-1])) or "audio"


def printable(name: str) -> str:
    """A name, or a folder's, that can be shown on a screen and given to a file."""
    return "".join(c if c.isprintable() and c != "/" else "_" for c in name)[:LONGEST_NAME]
