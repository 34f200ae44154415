"""Sends jobs and cancels them: all that it takes is Celery's client, and a task's name.

The app's own keys in Redis begin with `webapp:`. They hold what a job is called here, and which ones are the newest.
"""

import asyncio
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from celery import Celery
from redis.asyncio import Redis

from .view import job_key

FORMATS = ("txt", "srt", "vtt", "tsv")
"""Captions that come with each result."""

ANSWER = 5.0
"""Seconds for each answer of Redis."""

MOST_RECENT = 50
"""Jobs in the list."""

RECENT = "webapp:recent"

JOB_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """An id for a job that nobody can guess."""
    return uuid.uuid4().hex


def own_key(job_id: str) -> str:
    return f"webapp:job:{job_id}"


def without_secrets(address: str) -> str:
    """An address as anybody may see it: signed ones carry a key in their query."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What the app itself notes of a job."""

    id: str
    name: str
    """What the user calls the recording. It is shown, and names no file."""
    audio: str
    """Where a browser may play it; empty where it cannot."""
    created_at: float


class Jobs:
    """The queue, as the app uses it."""

    def __init__(self, redis: Redis, redis_url: str, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl
        self._celery = Celery("webapp", broker=redis_url, set_as_current=False)
        self._celery.conf.update(
            # A Redis that is away is said to the user soon; by default Celery tries for longer than he waits.
            task_publish_retry_policy={"max_retries": 1},
            broker_transport_options={"socket_timeout": ANSWER, "socket_connect_timeout": ANSWER},
        )

    def close(self) -> None:
        self._celery.close()

    async def send(self, entry: Entry, reference: str, options: Mapping[str, Any]) -> None:
        """Put a job on the queue. One that is sent twice under the same id is done once."""
        await self._note(entry)
        # Celery's client blocks, so it runs in a thread.
        await asyncio.to_thread(
            self._celery.send_task,
            "tasks.transcribe",
            args=[reference],
            kwargs={**options, "formats": list(FORMATS)},
            task_id=entry.id,
            queue="transcribe.interactive",  # somebody waits for the first word
            # What Flower and others show of the arguments. By default that is all of them, with their secrets.
            argsrepr=repr((without_secrets(reference),)),
            kwargsrepr=repr(dict.fromkeys(options, "…")),
        )

    async def cancel(self, job_id: str) -> None:
        """Ask whoever has the job, or will have it, to end it."""
        await self._redis.set(f"{job_key(job_id)}:cancel", "cancelled", ex=self._ttl)

    async def entry(self, job_id: str) -> Entry | None:
        """What was noted of a job; None of one that this app did not send, or that is too old."""
        if not JOB_ID.fullmatch(job_id):
            return None
        return _entry(cast(dict[str, str], await self._redis.hgetall(own_key(job_id))))

    async def recent(self) -> list[Entry]:
        """The newest jobs, the newest first."""
        ids = cast(list[str], await self._redis.zrange(RECENT, 0, MOST_RECENT - 1, desc=True))
        async with self._redis.pipeline(transaction=False) as asked:
            for job_id in ids:
                asked.hgetall(own_key(job_id))
            found = await asked.execute()
        return [entry for fields in found if (entry := _entry(fields))]

    async def may_need(self, job_id: str) -> bool:
        """Whether somebody still knows the job, and may want its recording."""
        keys = (own_key(job_id), job_key(job_id))
        return any([await self._redis.exists(key) for key in keys])

    async def _note(self, entry: Entry) -> None:
        fields: dict[Any, Any] = asdict(entry)
        async with self._redis.pipeline(transaction=False) as asked:
            asked.hset(own_key(entry.id), mapping=fields)
            asked.expire(own_key(entry.id), self._ttl)
            asked.zadd(RECENT, {entry.id: entry.created_at})
            asked.zremrangebyrank(RECENT, 0, -MOST_RECENT - 1)
            asked.expire(RECENT, self._ttl)
            await asked.execute()


def _entry(fields: Mapping[str, str]) -> Entry | None:
    if not fields:
        return None
    created_at = float(fields["created_at"])
    return Entry(id=fields["id"], name=fields["name"], audio=fields["audio"], created_at=created_at)
