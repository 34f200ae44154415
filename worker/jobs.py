"""How a job is called in Redis, for those who know no more of it than its id."""

import re

JOB_ID = re.compile(r"[^\s{}\x00-\x1f\x7f]{1,200}")
"""The ids that a job can have: others would break its keys' hash tag, or the line of a log."""


def job_key(job_id: str) -> str:
    """The job's hash. The braces make one hash tag a job, so that a cluster keeps the keys of a job together."""
    return f"stenopool:job:{{{job_id}}}"


def lease_key(job_id: str) -> str:
    """Which is there while somebody works on the job."""
    return f"{job_key(job_id)}:lease"


def cancel_key(job_id: str) -> str:
    """Which is set to cancel the job."""
    return f"{job_key(job_id)}:cancel"


def notice_id(job_id: str) -> str:
    """The id of the messages that have the job's callback delivered."""
    return f"{job_id}:callback"
