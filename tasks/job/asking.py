"""Asks Redis for a job, whose errors are a code and a sentence."""

from collections.abc import Callable
from typing import Any

import redis

from tasks.errors import JobError, Unavailable
from worker.script import is_passing


def asked(ask: Callable[[], Any]) -> Any:
    """What Redis answers. Raises JobError."""
    try:
        return ask()
    except redis.RedisError as error:
        raise _as_job_error(error) from None


def _as_job_error(error: redis.RedisError) -> JobError:
    kind = type(error).__name__
    if not is_passing(error):
        return JobError("redis_refused", f"Redis refuses the job's record ({kind}); look at its rights and its keys.")
    return Unavailable("redis_unavailable", f"Redis did not take the job's record ({kind}); the job is tried again.")
