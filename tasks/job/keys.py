"""The names of a job's keys in Redis, and the states it can be in."""

from collections.abc import Iterator

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""States that a job does not leave."""


class JobKeys:
    """The braces make one hash tag a job, so that a cluster keeps the keys of a job together."""

    def __init__(self, job_id: str) -> None:
        self.job = f"stenopool:job:{{{job_id}}}"
        self.sentences = f"{self.job}:sentences"
        self.events = f"{self.job}:events"

    def __iter__(self) -> Iterator[str]:
        return iter((self.job, self.sentences, self.events))
