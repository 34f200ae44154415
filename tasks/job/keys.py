"""The names of a job's keys in Redis, and the states it can be in."""

from collections.abc import Iterator

from tasks.errors import BadInput
from worker.jobs import JOB_ID, cancel_key, job_key, lease_key

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""States that a job does not leave."""


class JobKeys:
    """All keys of one job.

    Raises:
        BadInput: the id would break the tag, or the line of a log.
    """

    def __init__(self, job_id: str) -> None:
        if not JOB_ID.fullmatch(job_id):
            raise BadInput(
                "bad_request", f"The task's id {job_id[:40]!r} cannot name keys; leave it to Celery to make one."
            )
        self.job = job_key(job_id)
        self.sentences = f"{self.job}:sentences"
        self.events = f"{self.job}:events"
        self.lease = lease_key(job_id)
        self.cancel = cancel_key(job_id)
        self.callback = f"{self.job}:callback"

    def __iter__(self) -> Iterator[str]:
        """In the order in which the scripts know them, as KEYS[1] to KEYS[6]."""
        return iter((self.job, self.sentences, self.events, self.lease, self.cancel, self.callback))
