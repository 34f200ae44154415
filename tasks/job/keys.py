"""The names of a job's keys in Redis, and the states it can be in."""

import re
from collections.abc import Iterator

from tasks.errors import BadInput

PLAIN = re.compile(r"[^\s{}\x00-\x1f\x7f]{1,200}")

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""States that a job does not leave."""


class JobKeys:
    """The braces make one hash tag a job, so that a cluster keeps the keys of a job together.

    Raises:
        BadInput: the id would break the tag, or the line of a log.
    """

    def __init__(self, job_id: str) -> None:
        if not PLAIN.fullmatch(job_id):
            raise BadInput(
                "bad_request", f"The task's id {job_id[:40]!r} cannot name keys; leave it to Celery to make one."
            )
        self.job = f"stenopool:job:{{{job_id}}}"
        self.sentences = f"{self.job}:sentences"
        self.events = f"{self.job}:events"

    def __iter__(self) -> Iterator[str]:
        return iter((self.job, self.sentences, self.events))
